package objfile

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 = from the clock")

// seed returns the seed of a random test, and prints it.
func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("replay with -seed=%d", s)
	return s
}

// rounds is how much a random test does: little by default, much with MOBULA_LONG=1.
func rounds(short, long int) int {
	if os.Getenv("MOBULA_LONG") == "1" {
		return long
	}
	return short
}

// budget tells a random test, before each round, whether there is time for one more.
func budget() func() bool {
	end := time.Now().Add(2 * time.Second)
	if os.Getenv("MOBULA_LONG") == "1" {
		end = time.Now().Add(time.Hour)
	}
	return func() bool { return time.Now().Before(end) }
}

// What an object may look like to a reader.
const (
	mayAbsent = 1 << iota
	mayPresent
)

// model is what the users of a store know about it: for each object, what has been acknowledged, and what is under way.
type model struct {
	mu      sync.Mutex
	objects map[storage.ObjectID]*modelObject
}

type modelObject struct {
	data []byte
	may  int
}

func (m *model) set(id storage.ObjectID, data []byte, may int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.objects[id]
	if o == nil {
		o = &modelObject{data: data}
		m.objects[id] = o
	}
	o.may = may
}

func (m *model) snapshot() map[storage.ObjectID]modelObject {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := make(map[storage.ObjectID]modelObject, len(m.objects))
	for id, o := range m.objects {
		s[id] = *o
	}
	return s
}

// merge is what may be seen at a moment between two snapshots.
func merge(before, after map[storage.ObjectID]modelObject) map[storage.ObjectID]modelObject {
	for id, o := range after {
		b, ok := before[id]
		if !ok {
			b.may = mayAbsent
		}
		o.may |= b.may
		after[id] = o
	}
	return after
}

// check compares a store with what its users know.
func check(t *testing.T, s *Store, want map[storage.ObjectID]modelObject) error {
	seen := map[storage.ObjectID]bool{}
	for info, err := range s.List(t.Context(), storage.ObjectID{}) {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		if _, ok := want[info.ID]; !ok {
			return fmt.Errorf("list shows %s, which nobody wrote", info.ID)
		}
		seen[info.ID] = true
	}
	var objects, size int64
	for id, o := range want {
		got, _, err := storagetest.Get(t.Context(), s, id, 0, -1)
		switch {
		case err == nil && !bytes.Equal(got, o.data):
			return fmt.Errorf("%s: %d bytes, not the %d that were written", id, len(got), len(o.data))
		case err == nil && o.may&mayPresent == 0:
			return fmt.Errorf("%s is there and should not be", id)
		case errors.Is(err, storage.ErrNotFound) && o.may&mayAbsent == 0:
			return fmt.Errorf("%s: %d bytes are lost", id, len(o.data))
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			return fmt.Errorf("%s: %w", id, err)
		case seen[id] != (err == nil):
			return fmt.Errorf("%s: listed %v, get %v", id, seen[id], err)
		}
		if err == nil {
			objects++
			size += int64(len(got))
		}
	}
	if u, err := s.Usage(t.Context()); err != nil || u.Objects != objects || u.Bytes != size || u.Damaged != 0 {
		return fmt.Errorf("usage %+v, %v; want %d objects of %d bytes", u, err, objects, size)
	}
	return nil
}

// crashConfig makes everything happen early: files, new segments, compaction.
func crashConfig(fs *storagetest.CrashFS, grace time.Duration) Config {
	return Config{FS: fs, SegmentSize: 64 << 10, PackLimit: 2 << 10, DirectFrom: -1, Reserve: -1, Grace: grace, ReapInterval: -1, ScrubRate: -1, OrphanAge: -1, IndexCache: 1 << 20, largeBatch: 3 << 10}
}

// work lets users put, delete, bring back and reap, until stop says so.
func work(t *testing.T, s *Store, m *model, seed uint64, users, steps int) {
	var wg sync.WaitGroup
	for g := range users {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(g)))
			var live, dead []storage.ObjectID
			for range steps {
				switch k := rng.IntN(12); {
				case k < 6 || len(live) == 0:
					id, size := storagetest.NewID(), rng.IntN(2<<10)
					if rng.IntN(4) == 0 {
						size = rng.IntN(200 << 10)
					}
					data := storagetest.Data(rng.Uint64(), size)
					m.set(id, data, mayAbsent|mayPresent)
					if _, err := storagetest.Put(t.Context(), s, id, data); err != nil {
						t.Errorf("put: %v", err)
						return
					}
					m.set(id, data, mayPresent)
					live = append(live, id)
				case k < 9:
					i := rng.IntN(len(live))
					id := live[i]
					live = slices.Delete(live, i, i+1)
					m.set(id, nil, mayAbsent|mayPresent)
					if err := s.Delete(t.Context(), id); err != nil {
						t.Errorf("delete: %v", err)
						return
					}
					m.set(id, nil, mayAbsent)
					dead = append(dead, id)
				case k < 10 && len(dead) > 0:
					i := rng.IntN(len(dead))
					id := dead[i]
					dead = slices.Delete(dead, i, i+1)
					m.set(id, nil, mayAbsent|mayPresent)
					err := s.Undelete(t.Context(), id)
					switch {
					case err == nil:
						m.set(id, nil, mayPresent)
						live = append(live, id)
					case errors.Is(err, storage.ErrNotFound) && s.cfg.Grace < 0:
						m.set(id, nil, mayAbsent)
					default:
						t.Errorf("undelete: %v", err)
						return
					}
				case k < 11 && len(dead) > 0: // write a deleted object anew
					i := rng.IntN(len(dead))
					id := dead[i]
					dead = slices.Delete(dead, i, i+1)
					data := m.snapshot()[id].data
					m.set(id, nil, mayAbsent|mayPresent)
					if _, err := storagetest.Put(t.Context(), s, id, data); err != nil {
						t.Errorf("put anew: %v", err)
						return
					}
					m.set(id, nil, mayPresent)
					live = append(live, id)
				default:
					if _, err := s.Reap(t.Context()); err != nil {
						t.Errorf("reap: %v", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestPowerCut runs users on a disk, cuts the power at many points in between, and looks at what each cut left.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for _, grace := range []time.Duration{time.Hour, -1} {
		t.Run(fmt.Sprintf("grace=%v", grace), func(t *testing.T) {
			t.Parallel()
			start := seed(t)
			cuts := 0
			var mu sync.Mutex
			var wg sync.WaitGroup
			slots := make(chan struct{}, 3)
			more := budget()
			for round := range rounds(4, 100) {
				if !more() {
					break
				}
				roundSeed := start + uint64(round)
				fs := storagetest.NewCrashFS(0)
				m := &model{objects: map[storage.ObjectID]*modelObject{}}
				pick := rand.New(rand.NewPCG(roundSeed, 99))
				every := 1 + pick.IntN(24)
				fs.OnOp(func(op int, what string) {
					if op%every != 0 || t.Failed() || !more() {
						return
					}
					before := m.snapshot()
					cut := fs.Crash(rand.New(rand.NewPCG(roundSeed, uint64(op))))
					want := merge(before, m.snapshot())
					mu.Lock()
					cuts++
					mu.Unlock()
					slots <- struct{}{}
					wg.Go(func() {
						defer func() { <-slots }()
						if err := checkCut(t, cut, grace, want, op); err != nil {
							t.Errorf("seed %d: power cut before operation %d (%s): %v", roundSeed, op, what, err)
						}
					})
				})
				s, err := Open("", crashConfig(fs, grace))
				if err != nil {
					t.Fatal(err)
				}
				work(t, s, m, roundSeed, 4, 40)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				wg.Wait()
			}
			t.Logf("%d power cuts", cuts)
		})
	}
}

// checkCut opens what a power cut left, also without its index, and works on.
func checkCut(t *testing.T, fs *storagetest.CrashFS, grace time.Duration, want map[storage.ObjectID]modelObject, op int) error {
	if op%3 == 0 {
		if err := diskfs.RemoveAll(fs, indexDirName); err != nil {
			return err
		}
	}
	for range 2 {
		s, err := Open("", crashConfig(fs, grace))
		if err != nil {
			return fmt.Errorf("open: %w", err)
		}
		err = check(t, s, want)
		id, data := storagetest.NewID(), storagetest.Data(uint64(op), op%5000)
		if _, perr := storagetest.Put(t.Context(), s, id, data); perr != nil {
			err = errors.Join(err, fmt.Errorf("put after the cut: %w", perr))
		}
		if _, rerr := s.Reap(t.Context()); rerr != nil {
			err = errors.Join(err, fmt.Errorf("reap after the cut: %w", rerr))
		}
		want[id] = modelObject{data, mayPresent}
		err = errors.Join(err, check(t, s, want))
		if err := errors.Join(err, s.Close()); err != nil {
			return err
		}
	}
	return nil
}
