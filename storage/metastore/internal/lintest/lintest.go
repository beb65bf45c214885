// Package lintest checks by the history of concurrent calls that a metastore is linearizable for one key: that
// there is an order of all calls, agreeing with time, in which each returned what it had to.
//
// Stability: experimental.
package lintest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A call is what a client asked of one key.
type call struct {
	key  string
	kind string // "get", "put", "delete"
	when metastore.Condition
}

// An answer is what it got: the etag read or written, and whether a condition refused the write.
type answer struct {
	etag    string
	refused bool
}

var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range history {
			byKey[o.Input.(call).key] = append(byKey[o.Input.(call).key], o)
		}
		var parts [][]porcupine.Operation
		for _, p := range byKey {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return "" }, // the etag; "" is no record
	Step: func(state, input, output any) (bool, any) {
		etag, in, out := state.(string), input.(call), output.(answer)
		switch {
		case in.kind == "get":
			return out.etag == etag, etag
		case out.refused:
			return !in.when.Holds(etag), etag
		case !in.when.Holds(etag):
			return false, etag
		case in.kind == "delete":
			return true, ""
		}
		return true, out.etag
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// Check has clients read, compare and swap a few keys through any of the stores, which are views of the same records, and
// judges the history. The bucket "lin" is made for it.
func Check(t *testing.T, stores ...metastore.Store) {
	t.Helper()
	if err := stores[0].Define(t.Context(), metastore.Bucket{Name: "lin"}); err != nil {
		t.Fatal(err)
	}
	const clients, each, keys = 8, 60, 3
	for i := range keys { // each history begins with none
		if _, err := do(t, stores[0], call{key: fmt.Sprint("key", i), kind: "delete"}); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var history []porcupine.Operation
	begin := time.Now()
	var work sync.WaitGroup
	for client := range clients {
		work.Go(func() {
			rng := rand.New(rand.NewPCG(rand.Uint64(), 4))
			known := map[string]string{}
			for range each {
				s := stores[rng.IntN(len(stores))]
				in := call{key: fmt.Sprint("key", rng.IntN(keys)), kind: []string{"get", "put", "put", "delete"}[rng.IntN(4)]}
				switch rng.IntN(4) {
				case 0:
					in.when = metastore.Absent()
				case 1, 2:
					in.when = metastore.EtagIs(known[in.key])
				}
				start := time.Since(begin)
				out, err := do(t, s, in)
				end := time.Since(begin)
				if err != nil {
					t.Errorf("%+v: %v", in, err)
					return
				}
				known[in.key] = out.etag
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: start.Nanoseconds(), Return: end.Nanoseconds()})
				mu.Unlock()
			}
		})
	}
	work.Wait()
	if t.Failed() {
		return
	}
	switch porcupine.CheckOperationsTimeout(model, history, 20*time.Second) {
	case porcupine.Illegal:
		t.Errorf("a history of %d calls is not linearizable", len(history))
	case porcupine.Unknown:
		t.Logf("a history of %d calls could not be judged in 20 s", len(history))
	}
}

func do(t *testing.T, s metastore.Store, in call) (answer, error) {
	key := metastore.Key{Partition: "lin", Name: in.key}
	var op metastore.Op = metastore.Put{Bucket: "lin", Key: key, Value: []byte(`{}`), If: in.when}
	switch in.kind {
	case "get":
		r, err := s.Get(t.Context(), "lin", key)
		if errors.Is(err, metastore.ErrNotFound) {
			err = nil
		}
		return answer{etag: r.Etag}, err
	case "delete":
		op = metastore.Delete{Bucket: "lin", Key: key, If: in.when}
	}
	result, err := s.Commit(t.Context(), metastore.Batch{op})
	if errors.Is(err, metastore.ErrConflict) {
		return answer{refused: true}, nil
	}
	if err != nil {
		return answer{}, err
	}
	return answer{etag: result.Etags[0]}, nil
}
