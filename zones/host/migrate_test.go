//go:build linux

package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
)

// sent gives what Send writes.
func sent(t *testing.T, o *opened, id string, so SendOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := o.Send(t.Context(), id, &b, so); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A zone moves to another host: it is sent while it runs, what changed is sent twice more, and only for the last of it it stands still.
func TestMigration(t *testing.T) {
	from, to := newLab(t, lab{btrfs: true}).must(t), newLab(t, lab{btrfs: true}).must(t)
	ctx := t.Context()
	z, err := from.Create(ctx, spec(t, `"delegate_dataset":true,"quota":1`))
	if err != nil {
		t.Fatal(err)
	}
	id := z.UUID
	write := func(n int) { from.sh(t, id, fmt.Sprintf("echo %d > /root/f; echo %d > /data/f", n, n)) }
	write(1)
	from.sh(t, id, "head -c 20000000 /dev/urandom > /data/bulk")
	if err := from.Send(ctx, id, io.Discard, SendOptions{}); !errors.Is(err, zones.ErrRunning) {
		t.Errorf("a running zone for good: %v", err)
	}
	if err := from.Send(ctx, id, io.Discard, SendOptions{Since: "never", Mark: "one"}); !errors.Is(err, zones.ErrNotExist) {
		t.Errorf("since a mark that was not: %v", err)
	}
	first := sent(t, from, id, SendOptions{Mark: "one"})
	write(2)
	second := sent(t, from, id, SendOptions{Since: "one", Mark: "two"})
	write(3)
	if err := from.Stop(ctx, id, StopOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := from.Update(ctx, id, []byte(`{"alias":"moved","quota":2}`)); err != nil {
		t.Fatal(err)
	}
	last := sent(t, from, id, SendOptions{Since: "two"})
	if len(second) > len(first)/4 || len(last) > len(first)/4 {
		t.Errorf("differences of %d and %d bytes to a zone of %d", len(second), len(last), len(first))
	}

	receive := func(b []byte) (*zones.Zone, error) { return to.Receive(ctx, bytes.NewReader(b)) }
	if _, err := receive(second); !errors.Is(err, zones.ErrNotExist) {
		t.Errorf("a difference to nothing: %v", err)
	}
	got, err := receive(first)
	if err != nil || got.State != zones.StateReceiving || got.ZoneState != zones.StateIncomplete {
		t.Fatalf("%+v, %v", got, err)
	}
	busy := map[string]error{
		"start":    to.Start(ctx, id, StartOptions{}),
		"snapshot": to.CreateSnapshot(ctx, id, "x"),
		"send":     to.Send(ctx, id, io.Discard, SendOptions{}),
	}
	_, busy["update"] = to.Update(ctx, id, []byte(`{"alias":"x"}`))
	for verb, err := range busy {
		if !errors.Is(err, zones.ErrBusy) {
			t.Errorf("%s while it is received: %v", verb, err)
		}
	}
	if _, err := receive(first); !errors.Is(err, zones.ErrExist) {
		t.Errorf("the same again: %v", err)
	}
	if _, err := receive(last); !errors.Is(err, zones.ErrNotExist) {
		t.Errorf("a difference to what is not here yet: %v", err)
	}
	// What does not all arrive leaves the zone as of the mark, also for the next process.
	broken := bytes.Clone(second)
	broken[len(broken)-5] ^= 1
	for _, b := range [][]byte{second[:len(second)/2], second[:len(second)-1], broken} {
		if _, err := receive(b); err == nil {
			t.Error("a broken difference was received")
		}
		if got := state(t, to, id); got != zones.StateReceiving {
			t.Errorf("after it the zone is %s", got)
		}
	}
	if _, err := receive(second); err != nil {
		t.Fatal(err)
	}
	if got, err = receive(last); err != nil || got.State != zones.StateStopped || got.Alias != "moved" || *got.Quota != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := to.Start(ctx, id, StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := to.sh(t, id, "cat /root/f /data/f; wc -c < /data/bulk"); got != "3\n3\n20000000" {
		t.Errorf("arrived: %q", got)
	}
	for _, name := range []string{rootDataset(id), dataDataset(id)} {
		if info, err := to.pool.Get(ctx, name); err != nil || len(info.Snapshots) != 0 {
			t.Errorf("left of the move: %v, %v", info.Snapshots, err)
		}
	}
	// A new move begins anew.
	_ = sent(t, from, id, SendOptions{Mark: "again"})
	if info, _ := from.pool.Get(ctx, rootDataset(id)); len(info.Snapshots) != 1 {
		t.Errorf("marks: %v", info.Snapshots)
	}
}

func TestMigrationNeedsThePool(t *testing.T) {
	o := newLab(t, lab{}).must(t)
	ctx := t.Context()
	z, err := o.Create(ctx, spec(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Send(ctx, z.UUID, io.Discard, SendOptions{Mark: "m"}); !errors.Is(err, zones.ErrBusy) {
		t.Errorf("a running zone on overlays: %v", err)
	}
	if err := o.Stop(ctx, z.UUID, StopOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	_ = sent(t, o, z.UUID, SendOptions{Mark: "m"})
	if err := o.Send(ctx, z.UUID, io.Discard, SendOptions{Since: "m"}); !errors.Is(err, zones.ErrNotSupported) {
		t.Errorf("a difference on overlays: %v", err)
	}
}

// A receiver that is killed while a difference comes leaves the zone as of the mark, or with the difference.
func TestKilledWhileADifferenceComes(t *testing.T) {
	from, l := newLab(t, lab{btrfs: true}).must(t), newLab(t, lab{btrfs: true})
	ctx := t.Context()
	const id = "5e5e5e5e-0000-4000-8000-000000000001"
	if _, err := from.Create(ctx, spec(t, `"delegate_dataset":true,"uuid":"`+id+`"`)); err != nil {
		t.Fatal(err)
	}
	from.sh(t, id, "echo 1 > /root/f; echo 1 > /data/f")
	first := sent(t, from, id, SendOptions{Mark: "one"})
	from.sh(t, id, "echo 2 > /root/f; echo 2 > /data/f")
	if err := from.Stop(ctx, id, StopOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	last := filepath.Join(l.dir, "last")
	if err := os.WriteFile(last, sent(t, from, id, SendOptions{Since: "one"}), 0o600); err != nil {
		t.Fatal(err)
	}
	for step := 1; ; step++ {
		o := mustOpen(t, l)
		if _, err := o.Receive(ctx, bytes.NewReader(first)); err != nil {
			t.Fatal(err)
		}
		o.close()
		job := childJob{Dir: l.dir, Btrfs: true, Verb: "receive", ID: id, DieAt: step, File: last}
		killed := job.spawn(t, 0)
		o = mustOpen(t, l)
		switch got := state(t, o, id); got {
		case zones.StateReceiving:
			if err := verb(ctx, o, childJob{Verb: "receive", File: last}); err != nil {
				t.Errorf("step %d: the difference again: %v", step, err)
			}
		case zones.StateStopped:
		default:
			t.Errorf("step %d: the zone is %q", step, got)
		}
		if err := o.Start(ctx, id, StartOptions{}); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if got := o.sh(t, id, "cat /root/f /data/f"); got != "2\n2" {
			t.Errorf("step %d: %q", step, got)
		}
		if err := o.Delete(ctx, id); err != nil {
			t.Fatal(err)
		}
		clean(t, l, o)
		o.close()
		if !killed {
			t.Logf("receive of a difference has %d steps", step-1)
			return
		}
		if !testenv.Long() {
			step++
		}
	}
}
