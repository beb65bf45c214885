package storagetest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/mobulacloud/mobula/storage"
)

// testRandom lets several goroutines do random things to ids of their own and compares all with what each knows.
func testRandom(t *testing.T, n storage.Node) {
	ctx := t.Context()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 7))
			live, deleted := map[storage.ObjectID][]byte{}, map[storage.ObjectID][]byte{}
			pick := func(m map[storage.ObjectID][]byte) (storage.ObjectID, bool) {
				for id := range m {
					return id, true
				}
				return storage.ObjectID{}, false
			}
			for i := range 60 {
				switch k := rng.IntN(10); k {
				case 0, 1, 2, 3:
					size := rng.IntN(3000)
					if rng.IntN(6) == 0 {
						size = rng.IntN(400_000)
					}
					id, data := NewID(), Data(rng.Uint64(), size)
					if _, err := PutWith(ctx, n, id, data, int64(rng.IntN(2)*(size+1)-1), SumsOf(data), 1+rng.IntN(100_000)); err != nil {
						t.Errorf("step %d: put: %v", i, err)
						return
					}
					live[id] = data
				case 4, 5, 6:
					id, ok := pick(live)
					if !ok {
						continue
					}
					want := live[id]
					off := rng.IntN(len(want) + 1)
					length := rng.IntN(len(want) - off + 1)
					got, _, err := Get(ctx, n, id, int64(off), int64(length))
					if err != nil || !bytes.Equal(got, want[off:off+length]) {
						t.Errorf("step %d: get %d+%d of %d: %d bytes, %v", i, off, length, len(want), len(got), err)
						return
					}
				case 7:
					if id, ok := pick(live); ok {
						if err := n.Delete(ctx, id); err != nil {
							t.Errorf("step %d: delete: %v", i, err)
							return
						}
						deleted[id] = live[id]
						delete(live, id)
					}
				case 8:
					if id, ok := pick(deleted); ok {
						if err := n.Undelete(ctx, id); err != nil {
							t.Errorf("step %d: undelete: %v", i, err)
							return
						}
						live[id] = deleted[id]
						delete(deleted, id)
					}
				case 9:
					if id, ok := pick(deleted); ok {
						if _, err := n.Stat(ctx, id); !errors.Is(err, storage.ErrNotFound) {
							t.Errorf("step %d: stat of a deleted object: %v", i, err)
							return
						}
					}
				}
			}
			seen := map[storage.ObjectID]bool{}
			for info, err := range n.List(ctx, storage.ObjectID{}) {
				if err != nil {
					t.Errorf("list: %v", err)
					return
				}
				seen[info.ID] = true
			}
			for id, want := range live {
				if got, _, err := Get(ctx, n, id, 0, -1); err != nil || !bytes.Equal(got, want) || !seen[id] {
					t.Errorf("at the end: get of %d bytes: %d bytes, %v; listed: %v", len(want), len(got), err, seen[id])
				}
			}
			for id := range deleted {
				if seen[id] {
					t.Errorf("at the end: a deleted object is listed")
				}
			}
		})
	}
	wg.Wait()
}

// corrupter skips the test on nodes that the suite cannot damage.
func corrupter(t *testing.T, n storage.Node) Corrupter {
	c, ok := n.(Corrupter)
	if !ok {
		t.Skip("the node is no storagetest.Corrupter")
	}
	return c
}

func testCorrupt(t *testing.T, n storage.Node) {
	c := corrupter(t, n)
	var damaged int64
	for _, size := range []int{1, 1000, 64 << 10, 300_000, 3<<20 + 17} {
		for _, at := range []int{0, size / 2, size - 1} {
			id, data := NewID(), Data(uint64(size), size)
			mustPut(t, n, id, data)
			if err := c.Corrupt(id, int64(at)); err != nil {
				t.Fatalf("Corrupt: %v", err)
			}
			got, _, err := Get(t.Context(), n, id, 0, -1)
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Fatalf("get of %d bytes with byte %d flipped: %d bytes, %v; want ErrCorrupt", size, at, len(got), err)
			}
			if len(got) > at || !bytes.Equal(got, data[:len(got)]) {
				t.Fatalf("get of %d bytes with byte %d flipped handed out %d bytes, wrong from %d on", size, at, len(got), firstDiff(got, data))
			}
			wantAbsent(t, n, id)
			damaged++

			id = NewID()
			mustPut(t, n, id, data)
			if err := c.Corrupt(id, int64(at)); err != nil {
				t.Fatalf("Corrupt: %v", err)
			}
			_, err = n.Verify(t.Context(), id)
			wantErr(t, "Verify of a damaged copy", err, storage.ErrCorrupt)
			wantAbsent(t, n, id)
			damaged++

			id, whole := NewID(), NewID()
			mustPut(t, n, id, data)
			mustPut(t, n, whole, data)
			if err := c.Corrupt(id, int64(at)); err != nil {
				t.Fatalf("Corrupt: %v", err)
			}
			target := NewID()
			_, err = n.Assemble(t.Context(), target, []storage.ObjectID{whole, id}, int64(2*size))
			wantErr(t, "Assemble with a damaged source", err, storage.ErrCorrupt)
			wantAbsent(t, n, target)
			wantContent(t, n, whole, data)
			damaged++
		}
	}
	if u := usage(t, n); u.Damaged != damaged {
		t.Errorf("Usage.Damaged = %d, want %d", u.Damaged, damaged)
	}
}

func testCorruptHealed(t *testing.T, n storage.Node) {
	c := corrupter(t, n)
	for _, size := range []int{1000, 300_000} {
		id, data := NewID(), Data(uint64(size), size)
		mustPut(t, n, id, data)
		if err := c.Corrupt(id, int64(size/2)); err != nil {
			t.Fatalf("Corrupt: %v", err)
		}
		_, err := n.Verify(t.Context(), id)
		wantErr(t, "Verify of a damaged copy", err, storage.ErrCorrupt)
		wantErr(t, "Undelete of a damaged copy", n.Undelete(t.Context(), id), storage.ErrNotFound)
		mustPut(t, n, id, data)
		wantContent(t, n, id, data)
		if _, err := n.Verify(t.Context(), id); err != nil {
			t.Errorf("Verify of the healed copy: %v", err)
		}
	}
}
