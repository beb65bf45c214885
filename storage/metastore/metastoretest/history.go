package metastoretest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A History is a random sequence of operations, the same for the same seed.
type History struct {
	Seed  uint64
	Steps int

	// Sharded says that the store may answer by a new index, where the answer is right, before Reindex is done: see metastore.Store.Define.
	Sharded bool

	// Between, if set, is called before each step: a place to crash, restart or rearrange the store. It returns the store to go on with.
	Between func(step int, s metastore.Store) metastore.Store
}

// TestHistory runs a history on a store and on one in memory, and demands the same answers: values, order, errors, counts. Etags and
// times differ by nature; etags are compared by which write they came from.
func TestHistory(t *testing.T, s metastore.Store, h History) {
	t.Helper()
	t.Logf("history: seed %d, %d steps", h.Seed, h.Steps)
	r := &run{
		t: t, rng: rand.New(rand.NewPCG(h.Seed, 1)), truth: NewMemory(), store: s, sharded: h.Sharded,
		etags: map[string]string{}, versions: map[string]int{},
	}
	for step := range h.Steps {
		r.step = step
		if h.Between != nil {
			r.store = h.Between(step, r.store)
		}
		r.one()
		if t.Failed() {
			t.Fatalf("seed %d: stopped at step %d", h.Seed, step)
		}
	}
	r.compareAll()
}

type run struct {
	t     *testing.T
	rng   *rand.Rand
	truth *Memory
	store metastore.Store
	step  int

	sharded bool

	etags    map[string]string // from the truth's to the store's
	versions map[string]int    // of buckets
	schemas  map[string]metastore.Bucket
}

var (
	historyBuckets    = []string{"alpha", "beta"}
	historyPartitions = []string{"", "p", "q", "p/q", strings.Repeat("long", 200)}
	historyTypes      = []metastore.Index{
		{Field: "s", Type: metastore.String}, {Field: "n", Type: metastore.Number}, {Field: "b", Type: metastore.Boolean},
		{Field: "l", Type: metastore.String, PerPartition: true}, {Field: "a", Type: metastore.Number, Array: true},
		{Field: "d", Type: metastore.Date}, {Field: "la", Type: metastore.String, Array: true, PerPartition: true},
	}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func (r *run) one() {
	switch n := r.rng.IntN(100); {
	case n < 3 || r.schemas == nil:
		r.define()
	case n < 60:
		r.commit()
	case n < 70:
		r.get()
	case n < 95:
		r.find()
	default:
		r.reindex()
	}
}

// both runs a step on both stores and compares the errors by their kind.
func (r *run) both(what string, do func(s metastore.Store) error) error {
	r.t.Helper()
	want, got := do(r.truth), do(r.store)
	if kind(want) != kind(got) {
		r.t.Errorf("step %d: %s = %v, want %v", r.step, what, got, want)
	}
	return want
}

func kind(err error) string {
	for _, k := range []error{metastore.ErrNotFound, metastore.ErrConflict, metastore.ErrNotUnique, metastore.ErrNotIndexed, metastore.ErrNoBucket,
		metastore.ErrBucketVersion, metastore.ErrInvalid, metastore.ErrCrossShard, metastore.ErrPositionGone, metastore.ErrUnavailable, metastore.ErrReadOnly, metastore.ErrClosed} {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	return fmt.Sprint(err)
}

func (r *run) define() {
	name := pick(r.rng, historyBuckets)
	if r.rng.IntN(30) == 0 {
		r.both("Drop", func(s metastore.Store) error { return s.Drop(r.t.Context(), name) })
		return
	}
	r.versions[name]++
	b := metastore.Bucket{Name: name, Version: r.versions[name], Watched: r.rng.IntN(2) == 0}
	for _, x := range historyTypes {
		if r.rng.IntN(4) > 0 {
			b.Indexes = append(b.Indexes, x)
		}
	}
	if r.schemas == nil {
		r.schemas = map[string]metastore.Bucket{}
	}
	r.schemas[name] = b
	r.both("Define", func(s metastore.Store) error { return s.Define(r.t.Context(), b) })
	if r.rng.IntN(3) > 0 {
		r.finishReindex(name)
	}
}

func (r *run) finishReindex(name string) {
	for _, s := range []metastore.Store{r.truth, r.store} {
		for {
			left, err := s.Reindex(r.t.Context(), name, 1+r.rng.IntN(50))
			if errors.Is(err, metastore.ErrNoBucket) {
				break
			}
			if err != nil {
				r.t.Fatalf("step %d: Reindex = %v", r.step, err)
			}
			if left == 0 {
				break
			}
		}
	}
}

// reindex always goes to the end: how far a part of it gets is the store's own business.
func (r *run) reindex() { r.finishReindex(pick(r.rng, historyBuckets)) }

func (r *run) key() metastore.Key {
	name := fmt.Sprintf("%c%d", 'a'+r.rng.IntN(3), r.rng.IntN(12))
	if r.rng.IntN(20) == 0 {
		name = strings.Repeat("n", 700) + name
	}
	return metastore.Key{Partition: pick(r.rng, historyPartitions), Name: name}
}

func (r *run) value() json.RawMessage {
	v := map[string]any{}
	if r.rng.IntN(5) > 0 {
		v["s"] = pick(r.rng, []string{"", "x", "xy", "xyz", "X", "y\x00", "é"})
	}
	if r.rng.IntN(5) > 0 {
		v["n"] = pick(r.rng, []any{-1, 0, 0.5, 1, 2, 3, nil})
	}
	if r.rng.IntN(5) > 0 {
		v["b"] = r.rng.IntN(2) == 0
	}
	if r.rng.IntN(5) > 0 {
		v["l"] = fmt.Sprint("v", r.rng.IntN(5))
		v["la"] = []string{fmt.Sprint("v", r.rng.IntN(3)), fmt.Sprint("w", r.rng.IntN(3))}
	}
	if r.rng.IntN(5) > 0 {
		v["a"] = []int{r.rng.IntN(4), r.rng.IntN(4)}
	}
	if r.rng.IntN(5) > 0 {
		v["d"] = time.Unix(int64(r.rng.IntN(5)), int64(r.rng.IntN(2))).UTC().Format(time.RFC3339Nano)
	}
	v["free"] = r.rng.IntN(3)
	if r.rng.IntN(40) == 0 {
		v["n"] = "not a number"
	}
	raw, _ := json.Marshal(v)
	return raw
}

// condition returns what to ask of the truth and of the store, for whom the same state has different etags.
func (r *run) condition(bucket string, key metastore.Key) (truth, store metastore.Condition) {
	switch r.rng.IntN(8) {
	case 0:
		return metastore.Absent(), metastore.Absent()
	case 1:
		return metastore.Present(), metastore.Present()
	case 2, 3:
		rec, err := r.truth.Get(r.t.Context(), bucket, key)
		if err != nil || r.rng.IntN(4) == 0 {
			return metastore.EtagIs("stale"), metastore.EtagIs("stale")
		}
		return metastore.EtagIs(rec.Etag), metastore.EtagIs(r.etags[rec.Etag])
	}
	return metastore.Condition{}, metastore.Condition{}
}

func (r *run) commit() {
	var truth, store metastore.Batch
	partition := pick(r.rng, historyPartitions)
	for range 1 + r.rng.IntN(6) {
		bucket, key := pick(r.rng, historyBuckets), r.key()
		key.Partition = partition
		if r.rng.IntN(4) == 0 {
			key.Partition = pick(r.rng, historyPartitions)
		}
		a, b := r.operation(bucket, key)
		truth, store = append(truth, a), append(store, b)
	}
	got, gotErr := r.store.Commit(r.t.Context(), store)
	if errors.Is(gotErr, metastore.ErrCrossShard) && !r.store.Colocated(partitionsOf(truth)...) {
		return // the truth is one shard, and would take it
	}
	want, wantErr := r.truth.Commit(r.t.Context(), truth)
	if kind(wantErr) != kind(gotErr) {
		r.t.Errorf("step %d: Commit(%+v) = %v, want %v", r.step, truth, gotErr, wantErr)
	}
	if wantErr != nil || gotErr != nil {
		a, isA := errors.AsType[*metastore.ConditionError](wantErr)
		b, isB := errors.AsType[*metastore.ConditionError](gotErr)
		if isA != isB || isA && (a.Op != b.Op || a.Key != b.Key || a.Bucket != b.Bucket) {
			r.t.Errorf("step %d: Commit refuses by %v, want %v", r.step, gotErr, wantErr)
		}
		return
	}
	if diff := cmp.Diff(want.Counts, got.Counts); diff != "" {
		r.t.Errorf("step %d: counts (-want +got)\n%s", r.step, diff)
	}
	for i := range want.Etags {
		if (want.Etags[i] == "") != (got.Etags[i] == "") {
			r.t.Errorf("step %d: etag of operation %d = %q, want %q", r.step, i, got.Etags[i], want.Etags[i])
		}
		r.etags[want.Etags[i]] = got.Etags[i]
	}
	r.learnEtags(truth)
}

// learnEtags pairs the etags of records that an UpdateMany wrote, which no result names.
func (r *run) learnEtags(batch metastore.Batch) {
	for _, op := range batch {
		if u, ok := op.(metastore.UpdateMany); ok {
			for rec, err := range r.truth.Find(r.t.Context(), u.Bucket, metastore.Query{Partition: u.Query.Partition, Scan: true}) {
				if err != nil {
					r.t.Fatal(err)
				}
				if _, known := r.etags[rec.Etag]; !known {
					got, err := r.store.Get(r.t.Context(), u.Bucket, rec.Key)
					if err != nil {
						r.t.Errorf("step %d: Get(%v) after UpdateMany = %v", r.step, rec.Key, err)
					}
					r.etags[rec.Etag] = got.Etag
				}
			}
		}
	}
}

func partitionsOf(b metastore.Batch) (list []string) {
	for _, op := range b {
		switch op := op.(type) {
		case metastore.Put:
			list = append(list, op.Key.Partition)
		case metastore.Delete:
			list = append(list, op.Key.Partition)
		case metastore.Check:
			list = append(list, op.Key.Partition)
		case metastore.Add:
			list = append(list, op.Key.Partition)
		case metastore.CheckCounter:
			list = append(list, op.Key.Partition)
		case metastore.UpdateMany:
			list = append(list, *op.Query.Partition)
		case metastore.DeleteMany:
			list = append(list, *op.Query.Partition)
		}
	}
	return list
}

func (r *run) operation(bucket string, key metastore.Key) (truth, store metastore.Op) {
	a, b := r.condition(bucket, key)
	counter := metastore.Key{Partition: key.Partition, Name: fmt.Sprint("c", r.rng.IntN(2))}
	switch n := r.rng.IntN(20); {
	case n < 10:
		v := r.value()
		return metastore.Put{Bucket: bucket, Key: key, Value: v, If: a}, metastore.Put{Bucket: bucket, Key: key, Value: v, If: b}
	case n < 13:
		return metastore.Delete{Bucket: bucket, Key: key, If: a}, metastore.Delete{Bucket: bucket, Key: key, If: b}
	case n < 14:
		return metastore.Check{Bucket: bucket, Key: key, If: a}, metastore.Check{Bucket: bucket, Key: key, If: b}
	case n < 17:
		op := metastore.Add{Bucket: bucket, Key: counter, Delta: int64(r.rng.IntN(7) - 3)}
		return op, op
	case n < 18:
		op := metastore.CheckCounter{Bucket: bucket, Key: counter, Min: -5, Max: int64(r.rng.IntN(10))}
		return op, op
	}
	q := metastore.Query{Partition: &key.Partition, Filter: r.filter(0), Limit: 1 + r.rng.IntN(10), Descending: r.rng.IntN(2) == 0}
	if r.rng.IntN(3) == 0 {
		op := metastore.DeleteMany{Bucket: bucket, Query: q}
		return op, op
	}
	op := metastore.UpdateMany{Bucket: bucket, Query: q, Set: map[string]any{"n": r.rng.IntN(5), "s": nil, "free": r.rng.IntN(9)}}
	return op, op
}

func (r *run) filter(depth int) metastore.Filter {
	switch n := r.rng.IntN(14); {
	case n < 3 && depth < 3:
		list := make([]metastore.Filter, r.rng.IntN(4))
		for i := range list {
			list[i] = r.filter(depth + 1)
		}
		if n == 0 {
			return metastore.Or(list)
		}
		return metastore.And(list)
	case n == 3 && depth < 3:
		return metastore.Not{Filter: r.filter(depth + 1)}
	case n == 4:
		return metastore.Has{Field: pick(r.rng, historyTypes).Field}
	case n == 5:
		return metastore.Substr{Field: pick(r.rng, []string{"s", "l", "la", "free"}), Initial: pick(r.rng, []string{"", "x", "v"}), Final: pick(r.rng, []string{"", "y", "1"})}
	case n == 6:
		return metastore.Ext{Field: "s", Rule: metastore.CaseIgnoreMatch, Value: "x"}
	}
	field := pick(r.rng, []string{"s", "n", "b", "l", "a", "d", "la", "free"})
	var v any
	switch field {
	case "s":
		v = pick(r.rng, []string{"", "x", "xy", "xyz", "z"})
	case "b":
		v = r.rng.IntN(2) == 0
	case "l", "la":
		v = fmt.Sprint("v", r.rng.IntN(5))
	case "d":
		v = time.Unix(int64(r.rng.IntN(5)), 0).UTC()
	default:
		v = r.rng.IntN(4)
	}
	switch r.rng.IntN(4) {
	case 0:
		return metastore.Ge{Field: field, Value: v}
	case 1:
		return metastore.Le{Field: field, Value: v}
	}
	return metastore.Eq{Field: field, Value: v}
}

func (r *run) get() {
	bucket, key := pick(r.rng, historyBuckets), r.key()
	var records []metastore.Record
	if r.both("Get", func(s metastore.Store) error {
		rec, err := s.Get(r.t.Context(), bucket, key)
		records = append(records, rec)
		return err
	}) == nil {
		r.same("Get", records[:1], records[1:])
	}
	key.Name = fmt.Sprint("c", r.rng.IntN(2))
	var counts []int64
	r.both("Counter", func(s metastore.Store) error {
		n, err := s.Counter(r.t.Context(), bucket, key)
		counts = append(counts, n)
		return err
	})
	if counts[0] != counts[1] {
		r.t.Errorf("step %d: Counter(%s, %v) = %d, want %d", r.step, bucket, key, counts[1], counts[0])
	}
}

func (r *run) find() {
	bucket := pick(r.rng, historyBuckets)
	q := metastore.Query{Descending: r.rng.IntN(2) == 0, Scan: r.rng.IntN(4) == 0}
	if r.rng.IntN(4) > 0 {
		q.Filter = r.filter(0)
	}
	if r.rng.IntN(2) == 0 {
		q.Partition = metastore.In(pick(r.rng, historyPartitions))
	}
	if r.rng.IntN(3) == 0 {
		q.OrderBy = pick(r.rng, []string{"s", "n", "b", "l", "d"})
	}
	if r.rng.IntN(2) == 0 {
		q.Limit = 1 + r.rng.IntN(15)
	}
	if r.rng.IntN(4) == 0 {
		switch q.OrderBy {
		case "":
			if q.Partition != nil {
				q.From = fmt.Sprintf("b%d", r.rng.IntN(12))
			}
		case "n":
			q.From = r.rng.IntN(3)
		case "s", "l":
			q.From = "v2"
		}
	}
	for page := range 4 {
		truth, err := r.findBoth(bucket, q)
		if err != nil || len(truth) == 0 || page == 3 {
			return
		}
		q.After = &truth[len(truth)-1]
	}
}

// findBoth compares a query's answers; the cursor of the next page is the truth's record, with its value.
func (r *run) findBoth(bucket string, q metastore.Query) ([]metastore.Record, error) {
	what := fmt.Sprintf("Find(%s, %s)", bucket, describe(q))
	got, gotErr := collect(r.store.Find(r.t.Context(), bucket, q))
	want, wantErr := collect(r.truth.Find(r.t.Context(), bucket, q))
	if r.sharded && errors.Is(wantErr, metastore.ErrNotIndexed) && !errors.Is(gotErr, metastore.ErrNotIndexed) {
		// The shard that was asked may have had nothing to index. Then its answer is the one that all indexes would give.
		want, wantErr = r.truth.answer(r.t.Context(), bucket, q, true)
	}
	if kind(wantErr) != kind(gotErr) {
		r.t.Errorf("step %d: %s = %v, want %v", r.step, what, gotErr, wantErr)
	} else if wantErr == nil {
		r.same(what, want, got)
	}
	return want, wantErr
}

func collect(records iter.Seq2[metastore.Record, error]) (list []metastore.Record, last error) {
	for rec, err := range records {
		if last = err; err == nil {
			list = append(list, rec)
		}
	}
	return list, last
}

func (r *run) same(what string, want, got []metastore.Record) {
	r.t.Helper()
	text := func(list []metastore.Record, etag func(string) string) (out []string) {
		for _, rec := range list {
			out = append(out, fmt.Sprintf("%s %.40q/%.40q(%d) %s %s", rec.Bucket, rec.Key.Partition, rec.Key.Name, len(rec.Key.Name), rec.Value, etag(rec.Etag)))
		}
		return out
	}
	a := text(want, func(e string) string { return r.etags[e] })
	b := text(got, func(e string) string { return e })
	if !slices.Equal(a, b) {
		r.t.Errorf("step %d: %s (-want +got)\n%s", r.step, what, cmp.Diff(a, b))
	}
}

// compareAll compares everything that is stored, and what a watcher from the beginning would make of it.
func (r *run) compareAll() {
	for _, bucket := range historyBuckets {
		r.findBoth(bucket, metastore.Query{Scan: true})
		for _, p := range historyPartitions {
			for i := range 2 {
				key := metastore.Key{Partition: p, Name: fmt.Sprint("c", i)}
				a, _ := r.truth.Counter(context.Background(), bucket, key)
				b, _ := r.store.Counter(context.Background(), bucket, key)
				if a != b {
					r.t.Errorf("Counter(%s, %v) = %d, want %d", bucket, key, b, a)
				}
			}
		}
	}
}
