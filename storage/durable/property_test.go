package durable

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/storage/storagetest"
	"pgregory.net/rapid"
)

// TestHistories runs random histories of puts, reads, faults and repairs. Whatever happens: an acknowledged object had all
// the copies that were asked for, a refused one is nowhere, and no read ever hands out a byte that was not put there.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var failure any
		synctest.Test(t, func(*testing.T) {
			// rapid fails by panic, and wants it on the goroutine it called.
			defer func() { failure = recover() }()
			history(rt)
		})
		if failure != nil {
			panic(failure)
		}
	})
}

func history(rt *rapid.T) {
	c := newCluster(shim{rt}, rapid.IntRange(1, 5).Draw(rt, "nodes"), func(cfg *Config) {
		cfg.MaxInFlight, cfg.MaxPerUpload = 8*ChunkSize, 4*ChunkSize
	})
	defer c.close()
	names := slices.Sorted(maps.Keys(c.nodes))
	contents := map[int][]byte{}
	locs := map[int]Location{}
	spoilt := map[int]int{} // copies that we destroyed
	pick := func() (int, bool) {
		if len(locs) == 0 {
			return 0, false
		}
		return rapid.SampledFrom(slices.Sorted(maps.Keys(locs))).Draw(rt, "object"), true
	}
	node := func() *hooked { return c.nodes[rapid.SampledFrom(names).Draw(rt, "node")] }
	for i := range rapid.IntRange(1, 12).Draw(rt, "steps") {
		switch rapid.SampledFrom([]string{"put", "put", "get", "get", "hook", "kill after", "delay", "heal", "corrupt", "lose", "repair"}).Draw(rt, "step") {
		case "put":
			size := rapid.SampledFrom([]int{0, 1, 1000, 64 << 10, 64<<10 + 1, ChunkSize, ChunkSize + 1, 3*ChunkSize + 5}).Draw(rt, "size")
			copies := rapid.IntRange(1, 3).Draw(rt, "copies")
			announced := int64(-1)
			if rapid.Bool().Draw(rt, "known") {
				announced = int64(size)
			}
			data := storagetest.Data(uint64(i), size)
			loc, err := c.put(data, announced, copies)
			c.store.tasks.Wait()
			if err != nil {
				if errors.Is(err, errInjected) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotEnoughSpace) {
					continue
				}
				rt.Fatalf("put: %v", err)
			}
			holders := c.holders(loc.ID)
			for _, s := range loc.Sharks {
				if !slices.Contains(holders, s.Node) {
					rt.Fatalf("acknowledged copy on %s, holders %v", s.Node, holders)
				}
			}
			if slices.Sort(holders); len(loc.Sharks) != copies || len(slices.Compact(holders)) < copies {
				rt.Fatalf("%d copies asked, told %v, holders %v", copies, loc.Sharks, holders)
			}
			contents[i], locs[i] = data, loc
		case "get":
			k, ok := pick()
			if !ok {
				continue
			}
			off := rapid.Int64Range(0, locs[k].Size).Draw(rt, "off")
			n := rapid.Int64Range(0, locs[k].Size-off).Draw(rt, "n")
			got, err := c.get(locs[k], off, n)
			want := contents[k][off : off+n]
			if !bytes.HasPrefix(want, got) || err == nil && len(got) != len(want) {
				rt.Fatalf("get %d at %d: %d bytes that were not put (%v)", n, off, len(got), err)
			}
		case "hook":
			node().set(failAt(rapid.SampledFrom([]string{"create", "write", "commit", "committed", "open", "read"}).Draw(rt, "at"), rapid.IntRange(1, 4).Draw(rt, "n")))
		case "kill after":
			node().KillAfter(rapid.Int64Range(0, 2*ChunkSize).Draw(rt, "bytes"))
		case "delay":
			node().SetDelay(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Minute}).Draw(rt, "delay"))
		case "heal":
			for _, h := range c.nodes {
				h.set(nil)
				h.Revive()
				h.SetDelay(0)
			}
			c.fleet.Refresh(context.Background())
		case "corrupt":
			if k, ok := pick(); ok && locs[k].Size > 0 {
				h := c.nodes[rapid.SampledFrom(locs[k].Sharks).Draw(rt, "copy").Node]
				if h.Corrupt(locs[k].ID, rapid.Int64Range(0, locs[k].Size-1).Draw(rt, "at")) == nil {
					spoilt[k]++
				}
			}
		case "lose":
			if k, ok := pick(); ok {
				h := c.nodes[rapid.SampledFrom(locs[k].Sharks).Draw(rt, "copy").Node]
				if _, err := h.MemNode.Verify(context.Background(), locs[k].ID); err == nil {
					spoilt[k]++
				}
				h.MemNode.Delete(context.Background(), locs[k].ID)
			}
		case "repair":
			if k, ok := pick(); ok {
				c.store.Verify(context.Background(), locs[k]) // quarantines what is damaged
				loc, err := c.store.Repair(context.Background(), locs[k])
				locs[k] = loc
				if err == nil {
					spoilt[k] = 0
				}
			}
		}
	}
	// When all nodes are well again, whatever has a copy left that we did not destroy can be read.
	for _, h := range c.nodes {
		h.set(nil)
		h.Revive()
		h.SetDelay(0)
	}
	c.fleet.Refresh(context.Background())
	for k, loc := range locs {
		got, err := c.get(loc, 0, -1)
		if spoilt[k] < len(loc.Sharks) && (err != nil || !bytes.Equal(got, contents[k])) {
			rt.Fatalf("object %s with %d of %d copies spoilt: %v", loc.ID, spoilt[k], len(loc.Sharks), err)
		}
	}
}

// shim lets newCluster take a rapid.T.
type shim struct{ *rapid.T }

func (shim) Context() context.Context { return context.Background() }
