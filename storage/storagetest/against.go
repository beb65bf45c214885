package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mobulacloud/mobula/storage"
)

// outcome is what a caller sees of an operation: the sentinel of its error, and the content.
func outcome(err error, data []byte) string {
	for _, e := range []error{storage.ErrNotFound, storage.ErrExist, storage.ErrCorrupt, storage.ErrChecksum, storage.ErrNoSpace, storage.ErrReadOnly, storage.ErrUnavailable, storage.ErrInvalid} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	if err != nil {
		return "other error: " + err.Error()
	}
	s := SumsOf(data)
	return fmt.Sprintf("%d bytes %x", s.Size, s.MD5)
}

// TestAgainst does the same random things to a node and to a [MemNode], and demands the same answers. Both must be empty at first, and
// the node's grace period longer than the test. The history is a function of the seed. between, if it is not nil, is called now and then between two
// operations and returns the node to go on with: the same after a restart, say.
func TestAgainst(t *testing.T, node storage.Node, seed uint64, steps int, between func() storage.Node) {
	t.Helper()
	ctx := t.Context()
	mem := NewMemNode(MemConfig{})
	rng := rand.New(rand.NewPCG(seed, 3))
	var ids []storage.ObjectID
	newID := func() storage.ObjectID {
		var id storage.ObjectID
		for i := range id.Object {
			id.Owner[i], id.Object[i] = byte(rng.IntN(2)), byte(rng.Uint32())
		}
		ids = append(ids, id)
		return id
	}
	pick := func() storage.ObjectID { // mostly one that was there, now and then one that never was
		if len(ids) == 0 || rng.IntN(15) == 0 {
			return newID()
		}
		return ids[rng.IntN(len(ids))]
	}
	size := func() int {
		if rng.IntN(8) == 0 {
			return rng.IntN(400_000)
		}
		return rng.IntN(3000)
	}
	both := func(step int, what string, f func(n storage.Node) (string, error)) {
		t.Helper()
		got, gerr := f(node)
		want, werr := f(mem)
		if gerr != nil || werr != nil {
			got, want = outcome(gerr, nil), outcome(werr, nil)
		}
		if got != want {
			t.Fatalf("seed %d, step %d: %s: node answers %s, want %s", seed, step, what, got, want)
		}
	}
	for step := range steps {
		switch k := rng.IntN(20); {
		case k < 6:
			id, data := pick(), Data(rng.Uint64(), size())
			announced, sums, chunk := int64(len(data)), SumsOf(data), 1+rng.IntN(100_000)
			switch rng.IntN(8) {
			case 0, 1:
				announced = -1
			case 2:
				sums.CRC32C++
			case 3:
				sums.Size++
			}
			both(step, fmt.Sprintf("put %s", id), func(n storage.Node) (string, error) {
				info, err := PutWith(ctx, n, id, data, announced, sums, chunk)
				return fmt.Sprint(info.Size, info.MD5, info.CRC32C), err
			})
		case k < 10:
			id, off, length := pick(), int64(rng.IntN(3000)), int64(rng.IntN(3000)-1)
			if rng.IntN(2) == 0 {
				off, length = 0, -1
			}
			both(step, fmt.Sprintf("get %s %d+%d", id, off, length), func(n storage.Node) (string, error) {
				data, _, err := Get(ctx, n, id, off, length)
				return outcome(nil, data), err
			})
		case k < 12:
			id := pick()
			both(step, "stat", func(n storage.Node) (string, error) {
				info, err := n.Stat(ctx, id)
				return fmt.Sprint(info.Size, info.MD5, info.CRC32C), err
			})
		case k < 14:
			id := pick()
			both(step, "delete", func(n storage.Node) (string, error) { return "", n.Delete(ctx, id) })
		case k < 15:
			id := pick()
			both(step, "undelete", func(n storage.Node) (string, error) { return "", n.Undelete(ctx, id) })
		case k < 16:
			id := pick()
			both(step, "verify", func(n storage.Node) (string, error) {
				info, err := n.Verify(ctx, id)
				return fmt.Sprint(info.Size), err
			})
		case k < 17:
			sources := make([]storage.ObjectID, rng.IntN(4))
			var total int64
			for i := range sources {
				sources[i] = pick()
				info, _ := mem.Stat(ctx, sources[i])
				total += info.Size
			}
			if rng.IntN(6) == 0 {
				total++
			}
			target := pick()
			if rng.IntN(3) > 0 {
				target = newID()
			}
			both(step, fmt.Sprintf("assemble %s of %v, %d bytes", target, sources, total), func(n storage.Node) (string, error) {
				info, err := n.Assemble(ctx, target, sources, total)
				return fmt.Sprint(info.Size, info.MD5, info.CRC32C), err
			})
		case k < 18:
			after := pick()
			both(step, "list", func(n storage.Node) (string, error) {
				var b bytes.Buffer
				for info, err := range n.List(ctx, after) {
					if err != nil {
						return "", err
					}
					fmt.Fprintln(&b, info.ID, info.Size, info.CRC32C)
				}
				return b.String(), nil
			})
		case k < 19:
			both(step, "usage", func(n storage.Node) (string, error) {
				u, err := n.Usage(ctx)
				return fmt.Sprint(u.Objects, u.Bytes, u.Tombstones, u.Damaged), err
			})
		default:
			if between != nil {
				node = between()
			}
		}
		if len(ids) > 60 {
			ids = slices.Delete(ids, 0, 20)
		}
	}
}
