package durable

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

func TestRepair(t *testing.T) {
	const size = 300_000
	type c3 = *cluster
	node := func(c c3, loc Location, i int) *hooked { return c.nodes[loc.Sharks[i].Node] }
	tests := []struct {
		name    string
		nodes   int
		copies  int
		breaks  func(c c3, loc Location)
		want    error
		changed int // places that differ afterwards
		copied  uint64
	}{
		{"whole", 3, 2, func(c3, Location) {}, nil, 0, 0},
		{"absent", 2, 2, func(c c3, l Location) { node(c, l, 0).MemNode.Delete(c.t.Context(), l.ID) }, nil, 0, 1},
		{"quarantined", 2, 2, func(c c3, l Location) { node(c, l, 1).Corrupt(l.ID, 5); c.holders(l.ID) }, nil, 0, 1},
		{"two of three absent", 3, 3, func(c c3, l Location) {
			node(c, l, 0).MemNode.Delete(c.t.Context(), l.ID)
			node(c, l, 2).MemNode.Delete(c.t.Context(), l.ID)
		}, nil, 0, 2},
		{"other content", 2, 2, func(c c3, l Location) {
			h := node(c, l, 0)
			h.MemNode = storagetest.NewMemNode(storagetest.MemConfig{})
			storagetest.Put(c.t.Context(), h.MemNode, l.ID, []byte("other"))
		}, nil, 0, 1},
		{"lost node", 3, 2, func(c c3, l Location) { node(c, l, 0).Kill(); c.fleet.SetLost(l.Sharks[0].Node, true) }, nil, 1, 1},
		{"lost node and no other", 2, 2, func(c c3, l Location) { node(c, l, 0).Kill(); c.fleet.SetLost(l.Sharks[0].Node, true) }, ErrNotEnoughSpace, 0, 0},
		{"only copy on a lost node that answers", 2, 1, func(c c3, l Location) { c.fleet.SetLost(l.Sharks[0].Node, true) }, nil, 1, 1},
		{"only copy on a lost node that is dead", 2, 1, func(c c3, l Location) { node(c, l, 0).Kill(); c.fleet.SetLost(l.Sharks[0].Node, true) }, ErrUnavailable, 0, 0},
		{"one down", 3, 2, func(c c3, l Location) { node(c, l, 0).Kill() }, ErrUnavailable, 0, 0},
		{"one down, one absent, one whole", 3, 3, func(c c3, l Location) {
			node(c, l, 0).Kill()
			node(c, l, 1).MemNode.Delete(c.t.Context(), l.ID)
		}, ErrUnavailable, 0, 1},
		{"one down, one absent", 2, 2, func(c c3, l Location) {
			node(c, l, 0).Kill()
			node(c, l, 1).MemNode.Delete(c.t.Context(), l.ID)
		}, ErrUnavailable, 0, 0},
		{"all absent", 2, 2, func(c c3, l Location) {
			c.each(func(h *hooked) { h.MemNode.Delete(c.t.Context(), l.ID) })
		}, ErrLost, 0, 0},
		{"absent on a node that is full now", 3, 2, func(c c3, l Location) {
			node(c, l, 0).MemNode.Delete(c.t.Context(), l.ID)
			node(c, l, 0).full()
		}, nil, 1, 1},
		{"source damaged, another whole", 3, 3, func(c c3, l Location) {
			node(c, l, 0).MemNode.Delete(c.t.Context(), l.ID)
			node(c, l, 1).Corrupt(l.ID, 200_000)
		}, nil, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, tt.nodes)
				defer c.close()
				data := storagetest.Data(11, size)
				loc := c.mustPut(data, tt.copies)
				tt.breaks(c, loc)
				before := slices.Clone(loc.Sharks)
				for range 2 { // a repetition changes nothing
					got, err := c.store.Repair(t.Context(), loc)
					if !errors.Is(err, tt.want) {
						t.Fatalf("Repair: %v, want %v", err, tt.want)
					}
					if !slices.Equal(before, loc.Sharks) && slices.Equal(got.Sharks, before) {
						t.Fatal("argument changed")
					}
					loc = got
					if errors.Is(err, ErrLost) && errors.Is(err, ErrUnavailable) {
						t.Errorf("%v says both lost and unavailable", err)
					}
				}
				changed := 0
				for i := range before {
					if before[i] != loc.Sharks[i] {
						changed++
					}
				}
				if changed != tt.changed || c.store.Metrics().Repaired != tt.copied {
					t.Errorf("places %v, before %v; %d copies made", loc.Sharks, before, c.store.Metrics().Repaired)
				}
				if tt.want == nil {
					holders := c.holders(loc.ID)
					for _, name := range names(loc.Sharks) {
						if !slices.Contains(holders, name) && tt.name != "source damaged, another whole" {
							t.Errorf("no intact copy on %s, only on %v", name, holders)
						}
					}
					c.wantContent(loc, data)
				}
			})
		})
	}
}

// records stand in for the object records.
type records struct {
	mu   sync.Mutex
	locs map[storage.ObjectID]Location
}

func (r *records) put(loc Location) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.locs[loc.ID] = loc
}

func (r *records) get(id storage.ObjectID) Location {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.locs[id]
}

func (r *records) current(_ context.Context, loc Location) (Location, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now, ok := r.locs[loc.ID]; ok {
		return now, nil
	}
	return Location{}, storage.ErrNotFound
}

func (r *records) rewrite(_ context.Context, old, new Location) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.locs[old.ID].Sharks, old.Sharks) {
		return errors.New("record has changed")
	}
	r.locs[old.ID] = new
	return nil
}

func (r *records) all() iter.Seq2[Location, error] {
	return func(yield func(Location, error) bool) {
		r.mu.Lock()
		locs := make([]Location, 0, len(r.locs))
		for _, l := range r.locs {
			locs = append(locs, l)
		}
		r.mu.Unlock()
		for _, l := range locs {
			if !yield(l, nil) {
				return
			}
		}
	}
}

// repairing is a cluster with records and a Repairer that runs until stop.
func repairing(t *testing.T, nodes int, edit ...func(*RepairConfig)) (c *cluster, recs *records, q *Repairer, stop func()) {
	t.Helper()
	c = newCluster(t, nodes, func(cfg *Config) { cfg.Damaged = func(d Damage) { q.Damaged(d) } })
	recs = &records{locs: map[storage.ObjectID]Location{}}
	cfg := RepairConfig{Store: c.store, Current: recs.current, Rewrite: recs.rewrite}
	for _, e := range edit {
		e(&cfg)
	}
	var err error
	if q, err = NewRepairer(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	return c, recs, q, func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		c.close()
	}
}

func TestReadDamageIsRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, recs, q, stop := repairing(t, 2)
		defer stop()
		data := storagetest.Data(12, 200_000)
		loc := c.mustPut(data, 2)
		recs.put(loc)
		for _, name := range []string{"1.stor", "2.stor", "1.stor"} {
			c.nodes[name].Corrupt(loc.ID, 100_000)
			for range 10 {
				c.wantContent(loc, data)
			}
			synctest.Wait()
			if h := c.holders(loc.ID); len(h) != 2 {
				t.Fatalf("after damage on %s: copies on %v", name, h)
			}
		}
		// A scrub knows but the id.
		c.nodes["2.stor"].MemNode.Delete(t.Context(), loc.ID)
		q.Add(Location{ID: loc.ID})
		synctest.Wait()
		if h := c.holders(loc.ID); len(h) != 2 {
			t.Errorf("after a report by id: copies on %v", h)
		}
		if m := q.Metrics(); m.Waiting+m.Working != 0 || m.Whole < 3 || m.Oldest != 0 {
			t.Errorf("metrics %+v", m)
		}
	})
}

func TestRepairWaitsForNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, recs, q, stop := repairing(t, 2)
		defer stop()
		data := storagetest.Data(13, 1000)
		loc := c.mustPut(data, 2)
		recs.put(loc)
		c.nodes["1.stor"].MemNode.Delete(t.Context(), loc.ID)
		c.nodes["1.stor"].Kill()
		q.Add(loc)
		q.Add(loc)
		time.Sleep(time.Minute)
		if m := q.Metrics(); m.Waiting != 1 || m.Added != 1 || m.Retries < 2 || m.Oldest != time.Minute {
			t.Errorf("while the node is down: %+v", m)
		}
		c.nodes["1.stor"].Revive()
		time.Sleep(20 * time.Minute)
		if m := q.Metrics(); m.Waiting != 0 || m.Whole != 1 {
			t.Errorf("afterwards: %+v", m)
		}
		if h := c.holders(loc.ID); len(h) != 2 {
			t.Errorf("copies on %v", h)
		}
	})
}

func TestRepairGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, recs, q, stop := repairing(t, 2, func(cfg *RepairConfig) { cfg.MaxTries, cfg.Capacity = 3, 1 })
		defer stop()
		dark, lost := c.mustPut([]byte("dark"), 2), c.mustPut([]byte("lost"), 2)
		recs.put(dark)
		recs.put(lost)
		c.each(func(h *hooked) { h.MemNode.Delete(t.Context(), lost.ID) })
		q.Add(lost)
		synctest.Wait()
		c.nodes["1.stor"].Kill()
		q.Add(dark)
		if q.Add(lost) {
			t.Error("queue takes more than its capacity")
		}
		time.Sleep(time.Hour)
		if m := q.Metrics(); m.Lost != 1 || m.GivenUp != 1 || m.Retries != 2 || m.Dropped != 1 || m.Waiting != 0 {
			t.Errorf("metrics %+v", m)
		}
	})
}

func TestDeletedObjectIsNotBroughtBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hold chan struct{}
		c, recs, q, stop := repairing(t, 2, func(cfg *RepairConfig) {
			current := cfg.Current
			cfg.Current = func(ctx context.Context, loc Location) (Location, error) {
				now, err := current(ctx, loc)
				if hold != nil {
					h := hold
					hold = nil
					<-h
				}
				return now, err
			}
		})
		defer stop()
		// No record from the beginning.
		loc := c.mustPut([]byte("gone"), 2)
		c.nodes["1.stor"].MemNode.Delete(t.Context(), loc.ID)
		q.Add(loc)
		synctest.Wait()
		if h := c.holders(loc.ID); len(h) != 1 {
			t.Errorf("copies on %v", h)
		}
		// The record goes away while the object is being repaired.
		loc = c.mustPut([]byte("going"), 2)
		recs.put(loc)
		c.nodes["1.stor"].MemNode.Delete(t.Context(), loc.ID)
		release := make(chan struct{})
		hold = release
		q.Add(loc)
		synctest.Wait()
		recs.mu.Lock()
		delete(recs.locs, loc.ID)
		recs.mu.Unlock()
		close(release)
		synctest.Wait()
		if h := c.holders(loc.ID); len(h) != 1 || h[0] != "2.stor" {
			t.Errorf("copies on %v, want the one that was there", h)
		}
		if m := q.Metrics(); m.Obsolete != 2 {
			t.Errorf("metrics %+v", m)
		}
	})
}

func TestEvacuate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, recs, q, stop := repairing(t, 4, func(cfg *RepairConfig) { cfg.BytesPerSecond = 1 << 20 })
		defer stop()
		contents := map[storage.ObjectID][]byte{}
		for i := range 60 {
			data := storagetest.Data(uint64(i), 1000+i*7000)
			loc := c.mustPut(data, 2)
			recs.put(loc)
			contents[loc.ID] = data
		}
		if err := q.Evacuate(t.Context(), "3.stor", recs.all()); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("evacuate a node in service: %v", err)
		}
		c.nodes["3.stor"].Kill()
		c.fleet.SetLost("3.stor", true)
		start := time.Now()
		if err := q.Evacuate(t.Context(), "3.stor", recs.all()); err != nil {
			t.Fatal(err)
		}
		moved := int64(0)
		for id, data := range contents {
			loc := recs.get(id)
			h := c.holders(id)
			alive := slices.DeleteFunc(h, func(n string) bool { return n == "3.stor" })
			if !slices.Equal(names(loc.Sharks), alive) || len(alive) != 2 {
				t.Errorf("record says %v, copies on %v", names(loc.Sharks), h)
			}
			c.wantContent(loc, data)
			if slices.Contains(c.holders(id), "3.stor") {
				moved += loc.Size
			}
		}
		if m := q.Metrics(); m.Swept == 0 || m.Swept == 60 || m.Whole != m.Swept {
			t.Errorf("metrics %+v", m)
		}
		if d, least := time.Since(start), time.Duration(moved-1<<20)*time.Second>>20; d < least {
			t.Errorf("%d bytes at 1 MiB/s took only %v", moved, d)
		}
	})
}

func TestRewriteConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conflicts := 2
		c, recs, q, stop := repairing(t, 3, func(cfg *RepairConfig) {
			rewrite := cfg.Rewrite
			cfg.Rewrite = func(ctx context.Context, old, new Location) error {
				if conflicts > 0 {
					conflicts--
					return errors.New("record has changed")
				}
				return rewrite(ctx, old, new)
			}
		})
		defer stop()
		loc := c.mustPut([]byte("moving"), 2)
		recs.put(loc)
		victim := loc.Sharks[0].Node
		c.fleet.SetLost(victim, true)
		q.Add(loc)
		synctest.Wait()
		// The copy that no record names is gone again.
		if h := c.holders(loc.ID); !slices.Equal(h, names(loc.Sharks)) {
			t.Errorf("after a conflict: copies on %v, want %v", h, names(loc.Sharks))
		}
		time.Sleep(time.Hour)
		now := recs.get(loc.ID)
		if slices.Contains(names(now.Sharks), victim) {
			t.Errorf("record still says %v", now.Sharks)
		}
		c.wantContent(now, []byte("moving"))
	})
}

func TestSweepErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, q, stop := repairing(t, 2)
		defer stop()
		broken := errors.New("listing broke")
		err := q.Sweep(t.Context(), func(yield func(Location, error) bool) { yield(Location{}, broken) })
		if !errors.Is(err, broken) {
			t.Errorf("Sweep: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		endless := func(yield func(Location, error) bool) {
			for yield(Location{ID: storagetest.NewID()}, nil) {
			}
		}
		if err := q.Sweep(ctx, endless); !errors.Is(err, context.Canceled) {
			t.Errorf("Sweep: %v", err)
		}
	})
}

func TestVerify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		loc := c.mustPut(make([]byte, 100_000), 2)
		if err := c.store.Verify(t.Context(), loc); err != nil {
			t.Error(err)
		}
		c.nodes["2.stor"].Corrupt(loc.ID, 99_999)
		if err := c.store.Verify(t.Context(), loc); !errors.Is(err, storage.ErrCorrupt) || len(c.damaged) != 1 {
			t.Errorf("Verify: %v; reports %v", err, c.damaged)
		}
	})
}

func TestRepairConfig(t *testing.T) {
	if _, err := NewRepairer(RepairConfig{}); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("no store: %v", err)
	}
}
