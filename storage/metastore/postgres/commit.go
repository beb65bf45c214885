package postgres

import (
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// Commit implements metastore.Store.
func (s *Store) Commit(ctx context.Context, ops metastore.Batch) (metastore.Result, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return metastore.Result{}, err
	}
	defer leave()
	if len(ops) == 0 {
		at, err := s.Position(ctx)
		return metastore.Result{Position: at}, err
	}
	for fresh := false; ; fresh = true {
		all := s.buckets.Load()
		p, err := engine.Prepare(ops, all.schema)
		if err == nil {
			var result metastore.Result
			c := commit{s: s, p: p, all: all, result: metastore.Result{Etags: make([]string, len(ops)), Counts: make([]int, len(ops))}}
			if result, err = c.run(ctx); err == nil {
				return result, nil
			}
		}
		// Another process may have changed the schemas by which the batch was refused.
		bySchema := errors.Is(err, metastore.ErrNoBucket) || errors.Is(err, metastore.ErrNotIndexed) || errors.Is(err, metastore.ErrInvalid)
		if !errors.Is(err, errStale) && (fresh || !bySchema) {
			return metastore.Result{}, unavailable("commit", err)
		}
		if err := s.reload(ctx); err != nil {
			return metastore.Result{}, err
		}
	}
}

// A commit is one batch on its way.
type commit struct {
	s      *Store
	p      *engine.Prepared
	all    *buckets
	result metastore.Result
	conn   *pgxpool.Conn

	olds   []oldState
	zeros  columns // counters that are there and zero
	writes writes
}

// An oldState is what a write meets.
type oldState struct {
	found   bool
	etag    string
	entries []engine.Entry
}

// run carries out the transaction. Its first half can be given up at any time, its second half is seen through.
func (c *commit) run(ctx context.Context) (metastore.Result, error) {
	conn, err := c.s.pool.Acquire(ctx)
	if err != nil {
		return metastore.Result{}, err
	}
	defer conn.Release()
	c.conn = conn
	if err := c.prepare(ctx); err != nil {
		return metastore.Result{}, errors.Join(err, c.rollback(ctx))
	}
	position, changes, err := c.finish(ctx)
	if err != nil {
		return metastore.Result{}, errors.Join(err, c.rollback(ctx))
	}
	c.result.Position = position
	if changes {
		c.s.watch.changed()
	}
	return c.result, nil
}

// rollback ends a transaction that has failed. A connection that cannot even do that is dropped by the pool.
func (c *commit) rollback(ctx context.Context) error {
	if c.conn.Conn().IsClosed() || c.conn.Conn().PgConn().TxStatus() == 'I' {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.s.config.CommitTimeout)
	defer cancel()
	_, err := c.conn.Exec(ctx, "rollback")
	if err != nil {
		c.conn.Conn().Close(ctx)
	}
	return nil
}

// prepare locks the keys and decides whether the batch goes ahead.
func (c *commit) prepare(ctx context.Context) error {
	locks, exclusive := c.lockList()
	batch := &pgx.Batch{}
	batch.Queue("begin isolation level read committed read write")
	batch.Queue(c.s.sql.lock, locks, exclusive)
	var generation string
	batch.Queue(c.s.sql.metaGet, "generation").QueryRow(func(row pgx.Row) error { return row.Scan(&generation) })
	c.olds = make([]oldState, len(c.p.Writes))
	c.queueOlds(batch, c.p.Writes, c.olds)
	reads := make([]oldState, len(c.p.Reads))
	c.queueReads(batch, reads)
	counts := make([]count, len(c.p.Bounds))
	c.queueBounds(batch, counts)
	if err := c.conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if generation != c.all.generation {
		return errStale
	}
	if err := c.check(reads, counts); err != nil {
		return err
	}
	named := len(c.p.Writes)
	for _, m := range c.p.Manys {
		if err := c.expand(ctx, m); err != nil {
			return err
		}
	}
	if len(c.p.Writes) > named {
		more := make([]oldState, len(c.p.Writes)-named)
		batch := &pgx.Batch{}
		c.queueOlds(batch, c.p.Writes[named:], more)
		if err := c.conn.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		c.olds = append(c.olds, more...)
	}
	if err := c.unique(ctx); err != nil {
		return err
	}
	c.fill(named)
	return nil
}

// lockList says which advisory locks to take, in everybody's order. An Add shares its counter with others and excludes only a CheckCounter.
func (c *commit) lockList() (keys []int64, exclusive []bool) {
	base := c.s.locks
	if len(c.p.Manys) > 0 {
		return []int64{base + lockStructure}, []bool{true}
	}
	want := map[int64]bool{}
	add := func(kind byte, id uint32, x bool, parts ...string) {
		h := fnv.New64a()
		h.Write([]byte{kind, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)})
		for _, p := range parts {
			h.Write([]byte(p))
			h.Write([]byte{0})
		}
		k := base + lockStripes + int64(h.Sum64()%stripes)
		want[k] = want[k] || x
	}
	for _, w := range c.p.Writes {
		b := of(w.Schema)
		add('r', b.ID, true, w.Key.Partition, w.Key.Name)
		for _, e := range w.Entries {
			if w.Schema.Indexes[e.Index].Unique {
				add('u', b.Indexes[e.Index].ID, true, string(e.Value))
			}
		}
	}
	for _, r := range c.p.Reads {
		add('r', of(r.Schema).ID, false, r.Key.Partition, r.Key.Name)
	}
	for _, d := range c.p.Deltas {
		add('c', of(d.Schema).ID, false, d.Key.Partition, d.Key.Name)
	}
	for _, b := range c.p.Bounds {
		add('c', of(b.Schema).ID, true, b.Key.Partition, b.Key.Name)
	}
	for k := range want {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	keys = slices.Insert(keys, 0, base+lockStructure)
	exclusive = make([]bool, len(keys))
	for i, k := range keys {
		exclusive[i] = want[k]
	}
	return keys, exclusive
}

// queueOlds asks for the records that writes meet.
func (c *commit) queueOlds(batch *pgx.Batch, list []engine.Write, olds []oldState) {
	if len(list) == 0 {
		return
	}
	var keys columns
	need := make([]bool, len(list))
	for i, w := range list {
		keys.add(of(w.Schema).ID, w.Key)
		need[i] = len(w.Schema.Indexes) > 0
	}
	batch.Queue(c.s.sql.olds, keys.id, keys.pp, keys.ph, keys.np, keys.nh, need).Query(func(rows pgx.Rows) error {
		var i int64
		var etag string
		var value []byte
		_, err := pgx.ForEachRow(rows, []any{&i, &etag, &value}, func() error {
			olds[i-1] = oldState{true, etag, nil}
			if value != nil {
				olds[i-1].entries = list[i-1].Schema.FittingEntries(value)
			}
			return nil
		})
		return err
	})
}

func (c *commit) queueReads(batch *pgx.Batch, olds []oldState) {
	list := make([]engine.Write, len(c.p.Reads))
	for i, r := range c.p.Reads {
		list[i] = engine.Write{Schema: r.Schema, Key: r.Key}
	}
	c.queueOlds(batch, list, olds)
}

type count struct {
	n     int64
	slots int64
}

func (c *commit) queueBounds(batch *pgx.Batch, counts []count) {
	if len(counts) == 0 {
		return
	}
	var keys columns
	for _, b := range c.p.Bounds {
		keys.add(of(b.Schema).ID, b.Key)
	}
	batch.Queue(c.s.sql.bounds, keys.id, keys.pp, keys.ph, keys.np, keys.nh).Query(func(rows pgx.Rows) error {
		var i int64
		var x count
		_, err := pgx.ForEachRow(rows, []any{&i, &x.n, &x.slots}, func() error {
			counts[i-1] = x
			return nil
		})
		return err
	})
}

// check finds the first condition, in the order of operations, that does not hold.
func (c *commit) check(reads []oldState, counts []count) error {
	var first *metastore.ConditionError
	refuse := func(e *metastore.ConditionError) {
		if first == nil || e.Op < first.Op {
			first = e
		}
	}
	for i, w := range c.p.Writes {
		if got := c.olds[i].etag; !w.If.Holds(got) {
			refuse(&metastore.ConditionError{Op: w.Op, Bucket: w.Schema.Name, Key: w.Key, Want: w.If, Got: got})
		}
	}
	for i, r := range c.p.Reads {
		if got := reads[i].etag; !r.If.Holds(got) {
			refuse(&metastore.ConditionError{Op: r.Op, Bucket: r.Schema.Name, Key: r.Key, Want: r.If, Got: got})
		}
	}
	for i, b := range c.p.Bounds {
		n := counts[i].n
		if n == 0 && counts[i].slots > 0 {
			c.zeros.add(of(b.Schema).ID, b.Key)
		}
		if n < b.Min || n > b.Max {
			refuse(&metastore.ConditionError{Op: b.Op, Bucket: b.Schema.Name, Key: b.Key, Got: strconv.FormatInt(n, 10)})
		}
	}
	if first != nil {
		return first
	}
	return nil
}

func (c *commit) expand(ctx context.Context, m engine.Many) (err error) {
	m.Plan.Run(ctx, source{c.s, c.conn}, func(r metastore.Record, e error) bool {
		if err = e; err != nil {
			return false
		}
		var taken bool
		if taken, err = c.p.Expand(m, r); taken {
			c.result.Counts[m.Op]++
		}
		return err == nil
	})
	return err
}

// A claim is a unique value that a record is to have.
type claim struct {
	index uint32
	value []byte
	key   metastore.Key
	err   *metastore.UniqueError
}

func (c claim) text() string { return strconv.Itoa(int(c.index)) + " " + string(c.value) }

// unique refuses values that another record has and keeps.
func (c *commit) unique(ctx context.Context) error { return c.uniqueOn(ctx, c.conn) }

func (c *commit) uniqueOn(ctx context.Context, q querier) error {
	claimed := map[string]claim{}
	freed := map[string]bool{}
	for i := range c.p.Writes {
		w := &c.p.Writes[i]
		b := of(w.Schema)
		for _, e := range c.olds[i].entries {
			if w.Schema.Indexes[e.Index].Unique && !slices.ContainsFunc(w.Entries, func(x engine.Entry) bool { return x.Index == e.Index && bytes.Equal(x.Value, e.Value) }) {
				freed[claim{index: b.Indexes[e.Index].ID, value: e.Value}.text()] = true
			}
		}
		for _, e := range w.Entries {
			x := w.Schema.Indexes[e.Index]
			if !x.Unique {
				continue
			}
			u := claim{b.Indexes[e.Index].ID, e.Value, w.Key, &metastore.UniqueError{Op: w.Op, Bucket: w.Schema.Name, Field: x.Field, Key: w.Key}}
			if other, twice := claimed[u.text()]; twice && other.key != u.key {
				return u.err
			}
			claimed[u.text()] = u
		}
	}
	return c.s.checkClaims(ctx, q, claimed, freed)
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func (s *Store) checkClaims(ctx context.Context, q querier, claimed map[string]claim, freed map[string]bool) error {
	var ids []int32
	var values [][]byte
	var list []claim
	for text, u := range claimed {
		if !freed[text] {
			ids, values, list = append(ids, int32(u.index)), append(values, u.value), append(list, u)
		}
	}
	if len(list) == 0 {
		return nil
	}
	rows, err := q.Query(ctx, s.sql.owners, ids, values)
	if err != nil {
		return err
	}
	var i int64
	var r row
	var first *metastore.UniqueError
	_, err = pgx.ForEachRow(rows, append([]any{&i}, r.dest()[:4]...), func() error {
		u := list[i-1]
		mine := newRow(u.key)
		same := bytes.Equal(r.partition.head, mine.partition.head) && bytes.Equal(r.partition.hash, mine.partition.hash) &&
			bytes.Equal(r.name.head, mine.name.head) && bytes.Equal(r.name.hash, mine.name.hash)
		if !same && (first == nil || u.err.Op < first.Op) {
			first = u.err
		}
		return nil
	})
	if err != nil || first == nil {
		return err
	}
	return first
}

// fill decides what the second half writes; the first writes, named of them, are those of Put and Delete.
func (c *commit) fill(named int) {
	c.writes.s = c.s
	now := engine.Now()
	for i := range c.p.Writes {
		w := &c.p.Writes[i]
		b := of(w.Schema)
		if w.Value == nil && !c.olds[i].found {
			continue
		}
		if w.Value == nil {
			c.writes.removed.add(b.ID, w.Key)
		} else {
			etag := engine.NewEtag()
			c.writes.put.add(b.ID, w.Key)
			c.writes.etags = append(c.writes.etags, etag)
			c.writes.times = append(c.writes.times, now)
			c.writes.values = append(c.writes.values, string(w.Value))
			if i < named {
				c.result.Etags[w.Op] = etag
			}
		}
		engine.EachDifference(c.olds[i].entries, w.Entries, func(e engine.Entry, added bool) error {
			c.writes.entry(b, e, w.Key, added)
			return nil
		})
		if b.Bucket.Watched {
			c.writes.changes.add(b.ID, w.Key)
		}
	}
}

// finish writes and commits in one round trip.
func (c *commit) finish(ctx context.Context) (position metastore.Position, changes bool, err error) {
	// Broken off now, the caller could not tell whether the batch is there.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.s.config.CommitTimeout)
	defer cancel()
	batch := &pgx.Batch{}
	c.writes.queue(batch)
	if k := c.zeros; len(k.id) > 0 {
		batch.Queue(c.s.sql.removeCounters, k.id, k.pp, k.ph, k.np, k.nh)
	}
	c.queueDeltas(batch)
	var text, xid string
	batch.Queue(c.s.sql.state).QueryRow(func(row pgx.Row) error { return row.Scan(&text, &xid) })
	batch.Queue("commit")
	if err := c.conn.SendBatch(ctx, batch).Close(); err != nil {
		return "", false, err
	}
	at, err := parseSnapshot(text)
	if err != nil {
		return "", false, err
	}
	if own, err := strconv.ParseUint(xid, 10, 64); err == nil && own > 0 {
		at = at.with(own)
	}
	return c.s.position(place{from: at, to: at}), len(c.writes.changes.id) > 0, nil
}

// counterSlots is into how many rows a counter is spread, so that concurrent adds seldom wait for each other's commit.
const counterSlots = 16

func (c *commit) queueDeltas(batch *pgx.Batch) {
	type id struct {
		bucket uint32
		key    metastore.Key
	}
	sums := map[id]int64{}
	for _, d := range c.p.Deltas {
		sums[id{of(d.Schema).ID, d.Key}] += d.Delta
	}
	var list []id
	for k, n := range sums {
		if n != 0 {
			list = append(list, k)
		}
	}
	if len(list) == 0 {
		return
	}
	// In one order, and in one slot: two transactions with the same counters cannot block each other in a circle.
	slices.SortFunc(list, func(a, b id) int {
		if a.bucket != b.bucket {
			return int(a.bucket) - int(b.bucket)
		}
		return a.key.Compare(b.key)
	})
	var keys columns
	var deltas []int64
	for _, k := range list {
		keys.add(k.bucket, k.key)
		deltas = append(deltas, sums[k])
	}
	batch.Queue(c.s.sql.addCounters, keys.id, keys.pp, keys.ph, keys.np, keys.nh, keys.prest, keys.nrest, deltas, int16(rand.IntN(counterSlots)))
}

// writes are the rows to write, gathered by table.
type writes struct {
	s       *Store
	put     columns
	etags   []string
	values  []string
	times   []time.Time
	removed columns
	changes columns

	added, gone                  columns // of entries
	addedInPartition, goneInPart columns
	addedUnique, goneUnique      columns
}

func (w *writes) entry(b *bucket, e engine.Entry, key metastore.Key, added bool) {
	x, id := b.schema.Indexes[e.Index], b.Indexes[e.Index].ID
	list, unique := &w.gone, &w.goneUnique
	switch {
	case x.PerPartition && added:
		list = &w.addedInPartition
	case x.PerPartition:
		list = &w.goneInPart
	case added:
		list = &w.added
	}
	if added {
		unique = &w.addedUnique
	}
	list.addEntry(id, e.Value, key)
	if x.Unique {
		unique.addEntry(id, e.Value, key)
	}
}

func (w *writes) queue(batch *pgx.Batch) {
	sql := &w.s.sql
	if k := w.removed; len(k.id) > 0 {
		batch.Queue(sql.remove, k.id, k.pp, k.ph, k.np, k.nh)
	}
	if k := w.put; len(k.id) > 0 {
		batch.Queue(sql.upsert, k.id, k.pp, k.ph, k.np, k.nh, k.prest, k.nrest, w.etags, w.times, w.values)
	}
	for _, x := range []struct {
		query string
		k     columns
	}{
		{sql.removeEntries, w.gone}, {sql.removePartitionEntries, w.goneInPart}, {sql.removeUniques, w.goneUnique},
		{sql.insertEntries, w.added}, {sql.insertPartitionEntries, w.addedInPartition}, {sql.insertUniques, w.addedUnique},
	} {
		if k := x.k; len(k.id) > 0 {
			batch.Queue(x.query, k.id, k.pp, k.ph, k.np, k.nh, k.values)
		}
	}
	if k := w.changes; len(k.id) > 0 {
		batch.Queue(sql.insertChanges, k.id, k.pp, k.ph, k.np, k.nh, k.prest, k.nrest)
	}
}
