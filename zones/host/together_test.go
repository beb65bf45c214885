//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
)

// refusals are what a verb may answer when others were quicker.
var refusals = []error{zones.ErrExist, zones.ErrNotExist, zones.ErrRunning, zones.ErrNotRunning, zones.ErrBusy, zones.ErrNotSupported, zones.ErrNoSpace}

func refused(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// Everybody does everything with two zones at once, through two hosts, one of which looks after them. Each verb is done, or refused for a
// reason that says so, and in the end there is nothing but what is asked for.
func TestVerbsAtOnce(t *testing.T) {
	for name, l := range map[string]lab{"overlay": {}, "btrfs and network": {btrfs: true, network: true}} {
		t.Run(name, func(t *testing.T) { verbsAtOnce(t, newLab(t, l)) })
	}
}

func verbsAtOnce(t *testing.T, l lab) {
	ctx := t.Context()
	hosts := []*opened{l.must(t), l.must(t)}
	looking, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- hosts[1].Run(looking) }()
	ids := []string{"a11a11a1-0000-4000-8000-000000000001", "a11a11a1-0000-4000-8000-000000000002"}
	rounds := 12
	if testenv.Long() {
		rounds = 300
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(worker)))
			o := hosts[worker%2]
			for range rounds {
				id := ids[r.IntN(2)]
				what, err := anyVerb(ctx, o, r, id, l)
				if err != nil && !refused(err) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	for _, id := range ids {
		// A zone that was just killed may still be ending; whoever takes it settles that.
		if z, err := hosts[0].acquire(ctx, id); err == nil {
			z.unlock()
		}
		z, err := hosts[0].Get(ctx, id)
		if errors.Is(err, zones.ErrNotExist) {
			continue
		}
		if err != nil || z.State != zones.StateRunning && z.State != zones.StateStopped {
			t.Errorf("in the end: %+v, %v", z, err)
			continue
		}
		if err := hosts[0].Delete(ctx, id); err != nil {
			t.Error(err)
		}
	}
	clean(t, l, hosts[0])
}

// anyVerb does something with a zone.
func anyVerb(ctx context.Context, o *opened, r *rand.Rand, id string, l lab) (what string, err error) {
	switch what = []string{"create", "create", "start", "start", "stop", "stop -F", "reboot -F", "delete", "update", "snapshot", "rollback", "exec", "kill", "get", "metrics",
		"send", "reprovision"}[r.IntN(17)]; what {
	case "create":
		extra := fmt.Sprintf(`"uuid":%q`, id)
		if l.network {
			extra += fmt.Sprintf(`,"nics":[{"nic_tag":"external","ip":"10.79.0.%c","netmask":"255.255.255.0"}]`, id[len(id)-1])
		}
		var s *zones.Spec
		if s, err = zones.ParseSpec(specJSON(extra)); err == nil {
			_, err = o.Create(ctx, s)
		}
	case "stop":
		err = o.Stop(ctx, id, StopOptions{Timeout: time.Second})
	case "stop -F":
		err = o.Stop(ctx, id, StopOptions{Force: true})
	case "reboot -F":
		err = o.Reboot(ctx, id, StopOptions{Force: true})
	case "update":
		_, err = o.Update(ctx, id, []byte(fmt.Sprintf(`{"max_physical_memory":%d,"cpu_cap":%d,"set_tags":{"n":%d}}`, 64+r.IntN(64), 50+r.IntN(50), r.IntN(9))))
	case "snapshot":
		err = o.CreateSnapshot(ctx, id, "old")
	case "exec":
		_, err = o.try(ctx, id, "i=0; while test $i -lt 1000; do i=$((i+1)); done")
		if _, ok := errors.AsType[*zones.Error](err); !ok && err != nil {
			err = nil // it ran, and was killed with its zone
		}
	case "kill":
		err = o.Kill(ctx, id, zones.SIGKILL)
	case "get":
		_, err = o.Get(ctx, id)
	case "metrics":
		_, err = o.Metrics(ctx, id)
	case "send":
		err = o.Send(ctx, id, io.Discard, SendOptions{})
	default:
		err = verb(ctx, o, childJob{Verb: what, ID: id})
	}
	return what, err
}

// Who forces a zone down need not wait for one who asked it to shut down, nor need who deletes it.
func TestForceOvertakes(t *testing.T) {
	o := newLab(t, lab{}).must(t)
	ctx := t.Context()
	stubborn := func() string {
		z, err := o.Create(ctx, scripted(t, "true", ""))
		if err != nil {
			t.Fatal(err)
		}
		return z.UUID
	}
	for name, force := range map[string]func(id string) error{
		"stop":   func(id string) error { return o.Stop(ctx, id, StopOptions{Force: true}) },
		"reboot": func(id string) error { return o.Reboot(ctx, id, StopOptions{Force: true}) },
		"delete": func(id string) error { return o.Delete(ctx, id) },
	} {
		t.Run(name, func(t *testing.T) {
			id := stubborn()
			// The zone is held as by one who waits for its end, for ever.
			z, err := o.acquire(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			if err := z.begin(op{Verb: "stop"}); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- force(id) }()
			wait, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			if _, err := o.driver.Wait(wait, id); err != nil {
				t.Fatalf("nobody ended it: %v", err)
			}
			if err := errors.Join(z.halt(ctx, StopOptions{}), z.settleOp(ctx)); err != nil {
				t.Error(err)
			}
			z.unlock()
			if err := <-done; err != nil {
				t.Error(err)
			}
			want := map[string]zones.State{"stop": zones.StateStopped, "reboot": zones.StateRunning, "delete": ""}[name]
			if got := state(t, o, id); got != want {
				t.Errorf("the zone is %q, want %q", got, want)
			}
		})
	}
	id := stubborn()
	if _, err := o.Update(ctx, id, []byte(`{"indestructible_zoneroot":true}`)); err != nil {
		t.Fatal(err)
	}
	z, err := o.acquire(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := o.Delete(short, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("delete of a zone that is held: %v", err)
	}
	z.unlock()
	if got := state(t, o, id); got != zones.StateRunning {
		t.Errorf("a zone that must not be deleted is %s after the attempt", got)
	}
}
