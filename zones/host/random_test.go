//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
)

// randomVerbs does what comes, to three zones, until it is killed. Most of it is refused by the state a zone is in, which leaves a
// trace as little as a verb that succeeds.
func randomVerbs(ctx context.Context, o *opened, r *rand.Rand, job childJob) {
	for {
		n := r.IntN(3)
		id := fmt.Sprintf("abababab-0000-4000-8000-00000000000%d", n)
		j := childJob{Verb: "", ID: id, File: filepath.Join(job.Dir, "sent-"+id)}
		verbs := []string{
			"create", "create", "create", "start", "start", "stop", "reboot", "delete", "update", "rewire", "snapshot-old", "snapshot", "delete-snapshot",
			"rollback", "reprovision", "send", "receive",
		}
		switch j.Verb = verbs[r.IntN(len(verbs))]; j.Verb {
		case "create":
			extra := fmt.Sprintf(`"uuid":%q,"autoboot":%t,"delegate_dataset":%t`, id, r.IntN(3) > 0, r.IntN(4) == 0)
			if o.net != nil {
				extra += fmt.Sprintf(`,"firewall_enabled":%t,"nics":[{"nic_tag":"external","ip":"10.78.0.%d","netmask":"255.255.255.0"}]`, r.IntN(2) == 0, 10+n)
			}
			if o.pool.Capabilities().Quota {
				extra += `,"quota":1`
			}
			if s, err := zones.ParseSpec(specJSON(extra)); err == nil {
				_, _ = o.Create(ctx, s)
			}
		case "snapshot-old":
			_ = o.CreateSnapshot(ctx, id, "old")
		case "rewire":
			_, _ = o.Update(ctx, id, []byte(fmt.Sprintf(`{"firewall_enabled":%t,"cpu_cap":%d}`, r.IntN(2) == 0, 50+r.IntN(50))))
		case "stop", "reboot":
			_ = verb(ctx, o, j)
		case "receive":
			if _, err := os.Stat(j.File); err == nil {
				_ = verb(ctx, o, j)
			}
		default:
			_ = verb(ctx, o, j)
		}
	}
}

// A host's process killed 200 times (with MOBULA_LONG=1; a few times else), in turn at a random step of what it does and at a random
// instant. Each time the next process to open the host finds zones that are as before or as asked, nothing that belongs to no
// zone, and a zone that noticed nothing.
func TestKilledAtRandom(t *testing.T) {
	for name, l := range map[string]lab{"overlay": {}, "btrfs and network": {btrfs: true, network: true}} {
		t.Run(name, func(t *testing.T) { killAtRandom(t, newLab(t, l)) })
	}
}

func killAtRandom(t *testing.T, l lab) {
	rounds := 4
	if testenv.Long() {
		rounds = 200
	}
	ctx := t.Context()
	o := mustOpen(t, l)
	extra := ""
	if l.network {
		extra = `"nics":[{"nic_tag":"external","ip":"10.78.0.5","netmask":"255.255.255.0"}]`
	}
	bystander, err := o.Create(ctx, spec(t, extra))
	if err != nil {
		t.Fatal(err)
	}
	o.close()
	seed := rand.Uint64() | 1
	t.Logf("seed %d", seed)
	before := census(t, l)
	for round := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		job := childJob{Dir: l.dir, Btrfs: l.btrfs, Network: l.network, Verb: "random", Random: seed + uint64(round)}
		at := time.Duration(0)
		if round%2 == 0 {
			job.DieAt = 1 + r.IntN(50)
		} else {
			at = time.Duration(50+r.IntN(700)) * time.Millisecond
		}
		if !job.spawn(t, at) {
			t.Fatal("the child ended by itself")
		}
		o := mustOpen(t, l)
		checkRound(t, l, o, fmt.Sprintf("round %d, dying at step %d or after %v", round, job.DieAt, at), bystander)
		o.close()
		if t.Failed() {
			return
		}
	}
	o = mustOpen(t, l)
	ids, err := o.uuids()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := o.Delete(ctx, id); err != nil && id != bystander.UUID {
			t.Error(err)
		}
	}
	o.close()
	for what, n := range census(t, l) {
		// A zone whose driver was closed before it ended has nobody to wait for its first process, so this process keeps its exit status.
		if n > before[what] && what != "child processes" {
			t.Errorf("%d %s more than %d rounds ago", n-before[what], what, rounds)
		}
	}
}

func checkRound(t *testing.T, l lab, o *opened, round string, bystander *zones.Zone) {
	t.Helper()
	ctx := t.Context()
	keep := []string{bystander.UUID}
	// A child of the child's may have its locks for a moment longer, and whoever takes the zone next settles it.
	ids, err := o.uuids()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		z, err := o.acquire(ctx, id)
		if errors.Is(err, zones.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", round, err)
		}
		z.unlock()
	}
	list, err := o.List(ctx, Filter{})
	if err != nil {
		t.Fatalf("%s: %v", round, err)
	}
	there := false
	for _, z := range list {
		keep = append(keep, z.UUID)
		rec, err := o.load(z.UUID)
		if err != nil || rec.Op != nil {
			t.Errorf("%s: record of %s: %+v, %v", round, z.UUID, rec.Op, err)
		}
		if z.State == zones.StateRunning {
			out, err := o.try(ctx, z.UUID, "echo alive")
			// One that was told to stop when its host died goes on stopping.
			if errors.Is(err, zones.ErrNotRunning) && z.UUID != bystander.UUID && state(t, o, z.UUID) == zones.StateStopped {
				continue
			}
			if out != "alive\n" || err != nil {
				t.Errorf("%s: %s: %q, %v", round, z.UUID, out, err)
			}
		} else if z.State != zones.StateStopped {
			t.Errorf("%s: %s is %s", round, z.UUID, z.State)
		}
		if z.UUID == bystander.UUID {
			there = true
			if z.PID != bystander.PID {
				t.Errorf("%s: the other zone was disturbed", round)
			}
		}
	}
	if !there {
		t.Errorf("%s: the other zone is gone", round)
	}
	clean(t, l, o, keep...)
	if t.Failed() {
		t.Logf("%s", round)
	}
}
