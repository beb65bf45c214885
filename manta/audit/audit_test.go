package audit

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
)

func TestOrphans(t *testing.T) {
	run(t, 3, func(t *testing.T, w *world) {
		kept := w.put(stor.Join("kept"), "kept")
		gone := w.put(stor.Join("gone"), "gone")
		orphan := w.bytes("a front door died here")
		_, err := w.ns.Delete(t.Context(), stor.Join("gone"), namespace.Options{})
		w.must(err)
		time.Sleep(grace / 2)
		m := w.audit()
		// The nodes' clocks are wrong, so what protects these is that they have been there before.
		w.want("recorded", kept, 2)
		w.want("in the delete log", gone, 2)
		w.want("without a record", orphan, 0)
		if m.Orphans != 2 || m.Removed != 2 || m.RemovedBytes != 2*uint64(orphan.Size) || m.Missing+m.Wrong+m.Strays != 0 || m.Rounds != 1 {
			t.Errorf("metrics: %+v", m)
		}
		if err := w.nodes[orphan.Sharks[0].Node].Undelete(t.Context(), id(orphan)); err != nil {
			t.Errorf("the node has no tombstone: %v", err)
		}
		if m := w.audit(); m.Removed != 1 {
			t.Errorf("second round: %+v", m)
		}
		w.whole()
	})
}

// TestGrace is with a node whose clock is right.
func TestGrace(t *testing.T) {
	run(t, 2, func(t *testing.T, w *world) {
		w.cfg.Nodes = direct{w}
		orphan := w.bytes("orphan")
		time.Sleep(grace - 5*time.Minute)
		if m := w.audit(); m.Orphans != 0 {
			t.Errorf("metrics within the grace period: %+v", m)
		}
		w.want("young", orphan, 2)
		time.Sleep(10 * time.Minute)
		w.audit()
		w.want("old", orphan, 0)
	})
}

// direct hands out nodes as they are.
type direct struct{ w *world }

func (d direct) Node(name string) (storage.Node, error)           { return d.w.nodes[name], nil }
func (d direct) Standing(name string) (standing durable.Standing) { return durable.Up }

// TestPutInFlight has puts at every point of a round, on nodes that make everything look old.
func TestPutInFlight(t *testing.T) {
	run(t, 3, func(t *testing.T, w *world) {
		w.put(stor.Join("m"), "m")
		hangs := w.bytes("its record comes during the settling time")
		var during []manta.Entry
		n := 0
		w.cfg.Claims = append(w.cfg.Claims, func(context.Context) iter.Seq2[storage.ObjectID, error] {
			w.record(stor.Join("hangs"), hangs)
			return func(func(storage.ObjectID, error) bool) {}
		})
		w.records.reading = func(metastore.Key) {
			if n++; n <= 3 {
				during = append(during, w.put(stor.Join("a"+name(n)), "behind the reader"), w.put(stor.Join("z"+name(n)), "before the reader"))
			}
		}
		m := w.audit()
		if m.Orphans != 0 || m.Removed != 0 || len(during) != 6 {
			t.Errorf("metrics: %+v, %d puts", m, len(during))
		}
		w.want("that hung", hangs, 2)
		w.whole()
	})
}

// TestAnnouncedPut has a put's record announced beside its bytes, and nobody who finishes it: a start that could not reach the nodes leaves it so.
func TestAnnouncedPut(t *testing.T) {
	run(t, 2, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.must(w.ns.Recover(ctx, nil))
		e := w.bytes("announced")
		key := stor.Join("announced")
		st, err := w.ns.Look(ctx, key, true)
		w.must(err)
		p := w.ns.Begin(ctx, key, e, namespace.Options{Seen: st})
		if p == nil {
			t.Fatal("Begin refuses")
		}
		time.Sleep(10 * grace)
		if m := w.audit(); m.Removed != 0 {
			t.Errorf("metrics: %+v", m)
		}
		w.put(stor.Join("z"), "z")
		finished := false
		w.records.reading = func(key metastore.Key) {
			if key.Name == "z" && !finished {
				finished = true
				_, _, err := p.Finish(ctx) // behind the reader
				w.must(err)
			}
		}
		if m := w.audit(); m.Removed != 0 || !finished {
			t.Errorf("metrics when it is finished: %+v", m)
		}
		w.whole()
	})
}

func TestMissingAndWrong(t *testing.T) {
	run(t, 3, func(t *testing.T, w *world) {
		missing, wrong, both := w.put(stor.Join("missing"), "missing"), w.put(stor.Join("wrong"), "wrong"), w.put(stor.Join("both"), "both")
		_, err := w.ns.Link(t.Context(), stor.Join("link"), stor.Join("missing"), nil, namespace.Options{})
		w.must(err)
		time.Sleep(grace)
		w.must(w.nodes[missing.Sharks[0].Node].Delete(t.Context(), id(missing)))
		for _, shark := range both.Sharks {
			w.must(w.nodes[shark.Node].Delete(t.Context(), id(both)))
		}
		node := w.nodes[wrong.Sharks[1].Node]
		w.must(node.Delete(t.Context(), id(wrong)))
		other := w.bytes("other")
		r, _, err := w.nodes[other.Sharks[0].Node].Open(t.Context(), id(other), 0, -1)
		w.must(err)
		buf := make([]byte, 5)
		_, err = r.Read(buf)
		w.must(err)
		r.Close()
		info, err := w.nodes[other.Sharks[0].Node].Stat(t.Context(), id(other))
		w.must(err)
		wr, err := node.Create(t.Context(), id(wrong), storage.CreateOptions{Size: 5})
		w.must(err)
		_, err = wr.Write(buf)
		w.must(err)
		_, err = wr.Commit(t.Context(), storage.Sums{Size: 5, MD5: info.MD5, CRC32C: info.CRC32C})
		w.must(err)
		m := w.audit()
		// The one that is linked is met twice, the second time perhaps when it has been repaired.
		if m.Missing < 3 || m.Missing > 4 || m.Wrong != 1 {
			t.Errorf("metrics: %+v", m)
		}
		w.want("missing", missing, 2)
		if info, err := node.Stat(t.Context(), id(wrong)); err != nil || info.MD5 == [16]byte{} {
			t.Errorf("wrong copy: %+v, %v", info, err)
		}
		if m := w.repair.Metrics(); m.Lost != 1 || m.Whole < 2 {
			t.Errorf("repair: %+v", m)
		}
		if m := w.audit(); m.Missing != 2 || m.Wrong != 0 {
			t.Errorf("second round: %+v", m)
		}
	})
}

// TestSnaplinkMoves carries an object past the reader: linked behind it, and the first entry gone before it is reached.
func TestSnaplinkMoves(t *testing.T) {
	run(t, 2, func(t *testing.T, w *world) {
		w.put(stor.Join("m"), "m")
		e := w.put(stor.Join("z"), "moves")
		moved := false
		w.records.reading = func(key metastore.Key) {
			if key.Name != "m" || moved {
				return
			}
			moved = true
			_, err := w.ns.Link(t.Context(), stor.Join("a"), stor.Join("z"), nil, namespace.Options{})
			w.must(err)
			_, err = w.ns.Delete(t.Context(), stor.Join("z"), namespace.Options{})
			w.must(err)
			time.Sleep(2 * grace)
			w.must(w.garbage.RunOnce(t.Context())) // forgets the deletion, since there is a link
		}
		m := w.audit()
		if m.Orphans != 2 || m.Removed != 0 {
			t.Errorf("metrics: %+v", m)
		}
		w.want("moved", e, 2)
	})
}

// TestUploads has a commit joined its parts and died before the record: it may be repeated for as long as the upload is open.
func TestUploads(t *testing.T) {
	run(t, 2, func(t *testing.T, w *world) {
		ctx := t.Context()
		u, err := w.uploads.Create(ctx, mpu.CreateRequest{Owner: owner, Login: "alice", ObjectPath: "/alice/stor/big", ObjectKey: stor.Join("big"), Size: -1, Copies: 2})
		w.must(err)
		u, err = w.uploads.Load(ctx, owner, u.ID[:3], u.ID)
		w.must(err)
		part := w.put(u.Dir().Join("0"), "hello")
		target := manta.Entry{ObjectID: u.ObjectID}
		_, err = w.store.Assemble(ctx, id(target), []storage.ObjectID{id(part)}, u.Sharks, 5)
		w.must(err)
		time.Sleep(10 * grace)
		w.audit()
		w.want("target", target, 2)
		w.want("part", part, 2)
		committed := false
		w.records.reading = func(key metastore.Key) {
			if key.Partition == string(u.Dir()) && !committed { // later in order than the target
				committed = true
				_, err := w.uploads.Commit(ctx, u, []string{part.ObjectID}, nil, manta.Entry{})
				w.must(err)
			}
		}
		m := w.audit()
		if m.Orphans != 0 || m.Removed != 0 || !committed {
			t.Errorf("metrics: %+v, committed %v", m, committed)
		}
		w.whole()
	})
}

func TestStrays(t *testing.T) {
	run(t, 3, func(t *testing.T, w *world) {
		var list []manta.Entry
		for i := range 20 {
			list = append(list, w.put(stor.Join(name(i)), "content"))
		}
		w.fleet.SetLost("a", true)
		w.must(w.repair.Evacuate(t.Context(), "a", nil))
		w.fleet.SetLost("a", false) // it comes back, with all it had
		strays := 0
		for _, e := range list {
			strays += w.copies(e) - 2
		}
		// Of one, a copy is missing: the stray goes only when it has been made anew.
		var short manta.Entry
		for e, err := range w.ns.Objects(t.Context()) {
			w.must(err)
			if w.copies(*e) == 3 {
				short = *e
			}
		}
		w.must(w.nodes[short.Sharks[0].Node].Delete(t.Context(), id(short)))
		time.Sleep(2 * grace)
		m := w.audit()
		if int(m.Strays) != strays || int(m.Removed) != strays || m.Orphans != 0 || m.Missing != 1 || strays == 0 {
			t.Errorf("metrics: %+v, strays %d", m, strays)
		}
		for _, e := range list {
			w.want(e.ObjectID, e, 2)
		}
		w.whole()
	})
}

// TestLastCopyStays has a stray for the only copy there is.
func TestLastCopyStays(t *testing.T) {
	run(t, 3, func(t *testing.T, w *world) {
		e := w.put(stor.Join("x"), "content")
		elsewhere := e.Sharks[0]
		for node := range w.nodes {
			if node != e.Sharks[0].Node && node != e.Sharks[1].Node {
				elsewhere.Node = node
			}
		}
		w.must(w.ns.Relocate(t.Context(), stor.Join("x"), e.ObjectID, e.Sharks, []storage.Shark{elsewhere}))
		w.cfg.Repair = reader{}
		w.audit()
		w.want("all strays", e, 2)
	})
}

// reader repairs nothing.
type reader struct{}

func (reader) Restore(_ context.Context, entries iter.Seq2[*manta.Entry, error]) error {
	for _, err := range entries {
		if err != nil {
			return err
		}
	}
	return nil
}

// lazy does not even read all.
type lazy struct{}

func (lazy) Restore(_ context.Context, entries iter.Seq2[*manta.Entry, error]) error {
	for range entries {
		break
	}
	return nil
}

func TestUnreadRecordsDeleteNothing(t *testing.T) {
	run(t, 2, func(t *testing.T, w *world) {
		orphan := w.bytes("orphan")
		for i := range 3 {
			w.must(w.nodes["a"].Delete(t.Context(), id(w.put(stor.Join(name(i)), "content"))))
		}
		time.Sleep(time.Hour)
		w.cfg.Repair = lazy{}
		if err := w.auditor().RunOnce(t.Context()); err == nil {
			t.Error("a round went through without its records")
		}
		w.want("orphan", orphan, 2)
		w.cfg.Repair = w.repair
		w.cfg.Claims = append(w.cfg.Claims, func(context.Context) iter.Seq2[storage.ObjectID, error] {
			return func(yield func(storage.ObjectID, error) bool) {
				yield(storage.ObjectID{}, errors.New("claims are not to be had"))
			}
		})
		if err := w.auditor().RunOnce(t.Context()); err == nil {
			t.Error("a round went through without its claims")
		}
		w.want("orphan", orphan, 2)
	})
}

func TestTooManyOrphans(t *testing.T) {
	run(t, 2, func(t *testing.T, w *world) {
		for i := range 300 {
			w.put(stor.Join(name(i)), "content")
		}
		for range 120 {
			w.bytes("orphan")
		}
		if m := w.audit(); m.Orphans != 240 || m.Removed != 0 || m.HeldBack != 240 {
			t.Errorf("metrics: %+v", m)
		}
		w.cfg.MaxPercent = 50
		if m := w.audit(); m.Removed != 240 || m.HeldBack != 0 {
			t.Errorf("metrics with more allowed: %+v", m)
		}
		w.whole()
	})
}

func TestNodeDown(t *testing.T) {
	run(t, 3, func(t *testing.T, w *world) {
		var list []manta.Entry
		for i := range 10 {
			list = append(list, w.put(stor.Join(name(i)), "content"))
		}
		orphan := w.bytes("orphan")
		down := orphan.Sharks[0].Node
		w.nodes[down].Kill()
		if m := w.audit(); m.Missing != 0 || m.Orphans != 1 || m.Removed != 1 || m.UncheckedNodes != 1 {
			t.Errorf("metrics: %+v", m)
		}
		w.nodes[down].Revive()
		w.must(w.fleet.Refresh(t.Context()))
		if m := w.audit(); m.Orphans != 1 || m.Removed != 1 || m.UncheckedNodes != 0 {
			t.Errorf("metrics when it is up: %+v", m)
		}
		for _, e := range list {
			w.want(e.ObjectID, e, 2)
		}
	})
}

// TestSlices goes round in many parts, dies in the middle, and is taken over.
func TestSlices(t *testing.T) {
	run(t, 2, func(t *testing.T, w *world) {
		w.cfg.Memory = 1 << 10
		var list, orphans []manta.Entry
		for i := range 400 {
			list = append(list, w.put(stor.Join(name(i)), "content"))
		}
		for range 40 {
			orphans = append(orphans, w.bytes("orphan"))
		}
		one, two := w.auditor(), w.auditor()
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		w.records.reading = func(metastore.Key) {
			if n++; n == 1000 {
				if err := two.RunOnce(t.Context()); !errors.Is(err, ErrClaimed) {
					t.Errorf("a second auditor beside the first: %v", err)
				}
				cancel()
			}
		}
		if err := one.RunOnce(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled round = %v", err)
		}
		done := one.Metrics()
		w.records.reading = nil
		w.must(two.RunOnce(t.Context()))
		m := two.Metrics()
		if done.Slices != 2 || done.Slices+m.Slices != 6 || m.Rounds != 1 || done.Removed+m.Removed != 80 || done.Removed == 0 {
			t.Errorf("metrics: %+v, then %+v", done, m)
		}
		for _, e := range list {
			w.want("recorded", e, 2)
		}
		for _, e := range orphans {
			w.want("orphan", e, 0)
		}
	})
}

func TestRun(t *testing.T) {
	run(t, 2, func(t *testing.T, w *world) {
		a := w.auditor()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		orphan := w.bytes("orphan")
		time.Sleep(time.Hour)
		w.want("orphan", orphan, 0)
		first := a.Metrics()
		time.Sleep(100 * time.Hour)
		m := a.Metrics()
		if first.Rounds != 1 || m.Rounds != 5 || time.Since(m.LastRound) > 24*time.Hour {
			t.Errorf("metrics: %+v, then %+v", first, m)
		}
		// A second process does not add rounds.
		b := w.auditor()
		go func() { done <- b.Run(ctx) }()
		time.Sleep(20 * time.Hour)
		if n := a.Metrics().Rounds + b.Metrics().Rounds; n != 6 {
			t.Errorf("%d rounds by two processes, want 6", n)
		}
		cancel()
		for range 2 {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Run = %v", err)
			}
		}
	})
}

// TestTakeOver has a holder die without a word.
func TestTakeOver(t *testing.T) {
	run(t, 2, func(t *testing.T, w *world) {
		one, two := w.auditor(), w.auditor()
		c, err := one.claim(t.Context())
		w.must(err)
		time.Sleep(claimExpires - time.Second)
		if err := two.RunOnce(t.Context()); !errors.Is(err, ErrClaimed) {
			t.Errorf("RunOnce beside a holder = %v", err)
		}
		time.Sleep(2 * time.Second)
		w.must(two.RunOnce(t.Context()))
		if err := c.alive(t.Context()); !errors.Is(err, ErrClaimed) {
			t.Errorf("the old holder goes on: %v", err)
		}
	})
}

func TestConfig(t *testing.T) {
	run(t, 2, func(t *testing.T, w *world) {
		for i, change := range []func(*Config){
			func(c *Config) { c.Namespace = nil }, func(c *Config) { c.Grace = time.Minute }, func(c *Config) { c.MaxPercent = 101 },
			func(c *Config) { c.Settle = -1 }, func(c *Config) { c.Memory = 1 },
		} {
			cfg := w.cfg
			change(&cfg)
			if _, err := New(cfg); err == nil {
				t.Errorf("configuration %d was accepted", i)
			}
		}
	})
}
