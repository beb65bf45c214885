package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// Commit implements metastore.Store.
func (s *Store) Commit(ctx context.Context, b metastore.Batch) (metastore.Result, error) {
	c, err := s.begin(ctx, b, false)
	if err != nil {
		return metastore.Result{}, err
	}
	return c.wait()
}

// Begin carries out a batch as Commit does, but does not wait for the disk: wait does, and must be called, once. Until then others may see the batch
// already. Whatever is acknowledged later than wait returns is durable together with it.
func (s *Store) Begin(ctx context.Context, b metastore.Batch) (wait func() (metastore.Result, error), err error) {
	c, err := s.begin(ctx, b, false)
	if err != nil {
		return nil, err
	}
	return c.wait, nil
}

// Relax carries out a batch as Commit does, and leaves it to a later commit to make it durable: after a crash it is there if any commit that began
// after it has been acknowledged, and otherwise it may be gone, as a whole. So it is for what can be done again. A batch that changes watched records is
// durable at once.
func (s *Store) Relax(ctx context.Context, b metastore.Batch) (metastore.Result, error) {
	c, err := s.begin(ctx, b, true)
	if err != nil {
		return metastore.Result{}, err
	}
	return c.wait()
}

// begin carries out a batch in memory. After no error wait must be called.
func (s *Store) begin(ctx context.Context, b metastore.Batch, relaxed bool) (*commit, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	c := &commit{s: s, batch: s.db.NewBatch(), relaxed: relaxed, leave: leave}
	c.result = metastore.Result{Etags: make([]string, len(b)), Counts: make([]int, len(b))}
	if err := c.apply(ctx, b, &c.result); err != nil {
		c.batch.Close()
		leave()
		return nil, err
	}
	return c, nil
}

// wait waits until the batch is durable, unless it is relaxed, and ends the commit.
func (c *commit) wait() (metastore.Result, error) {
	defer c.leave()
	s := c.s
	if c.sent && !c.relaxed {
		// The keys are free again. From here on others may see the batch; whoever is acknowledged for what builds on it waits for a later sync.
		if err := c.batch.SyncWait(); err != nil {
			s.broken.CompareAndSwap(nil, &err)
			return metastore.Result{}, s.unavailable()
		}
	}
	c.batch.Close()
	if c.seq > 0 {
		s.log.publish(c.seq)
		c.result.Position = s.log.position(c.seq)
	} else {
		c.result.Position = s.log.position(s.log.synced.Load())
	}
	return c.result, nil
}

// apply writes a batch of the store's own and syncs it.
func (s *Store) apply(batch *lsm.Batch) (err error) {
	if err := s.unavailable(); err != nil {
		return err
	}
	defer s.recoverFailure(&err)
	return batch.Commit(lsm.Sync)
}

// recoverFailure turns the engine's panic of engineLog.Fatalf into an error.
func (s *Store) recoverFailure(err *error) {
	switch p := recover().(type) {
	case nil:
	case engineFailure:
		*err = s.unavailable()
	default:
		panic(p)
	}
}

// A commit is one batch on its way.
type commit struct {
	s       *Store
	batch   *lsm.Batch
	result  metastore.Result
	leave   func()
	relaxed bool   // nobody waits for the disk
	sent    bool   // the engine has it
	seq     uint64 // in the change log; 0 if no watched bucket was changed

	locked bool // the keys are; otherwise all other commits are kept away

	changes []change
	checked []checkedCounter         // counters that a CheckCounter has read
	claimed map[string]metastore.Key // unique values that the batch gives to records, by uniqueKey
	freed   map[string]struct{}      // unique values that the batch takes from records
}

// A change is a key to be noted in the log.
type change struct {
	bucket uint32
	key    metastore.Key
}

// apply checks the batch and applies it in memory, holding its keys meanwhile.
func (c *commit) apply(ctx context.Context, ops metastore.Batch, result *metastore.Result) error {
	if len(ops) == 0 {
		return nil
	}
	unlock := c.lockSchemas(ops)
	defer unlock()
	if err := c.s.unavailable(); err != nil {
		return err
	}
	p, err := engine.Prepare(ops, c.s.buckets.Load().schema)
	if err != nil {
		return err
	}
	set := lockSet{locks: &c.s.keys}
	if len(p.Manys) == 0 { // else the schema lock keeps all other commits away
		c.wishes(&set, p)
		set.lock()
		defer set.unlock()
		c.locked = true
	}
	olds, err := c.check(p)
	if err != nil {
		return err
	}
	for i := range p.Manys {
		if err := c.expand(ctx, p, p.Manys[i], result); err != nil {
			return err
		}
	}
	named := len(olds)
	for i := named; i < len(p.Writes); i++ {
		old, err := c.old(p.Writes[i])
		if err != nil {
			return err
		}
		olds = append(olds, old)
	}
	if err := c.write(p, olds, named, result); err != nil {
		return err
	}
	if c.batch.Empty() {
		return nil
	}
	return c.send()
}

// lockSchemas keeps schemas as they are. A batch that selects records keeps all other commits away, too.
func (c *commit) lockSchemas(ops metastore.Batch) (unlock func()) {
	for _, op := range ops {
		switch op.(type) {
		case metastore.UpdateMany, metastore.DeleteMany:
			c.s.schema.Lock()
			return c.s.schema.Unlock
		}
	}
	c.s.schema.RLock()
	return c.s.schema.RUnlock
}

// wishes says which keys to lock. An Add shares its counter with others and excludes only a CheckCounter.
func (c *commit) wishes(set *lockSet, p *engine.Prepared) {
	var buf []byte
	record := func(kind byte, id uint32, k metastore.Key, exclusive bool) {
		buf = appendKey(idKey(buf[:0], kind, id), k)
		set.add(buf, exclusive)
	}
	for i := range p.Writes {
		w := &p.Writes[i]
		b := of(w.Schema)
		record(kindRecord, b.ID, w.Key, true)
		for _, e := range w.Entries {
			if w.Schema.Indexes[e.Index].Unique {
				buf = append(idKey(buf[:0], kindUnique, b.Indexes[e.Index].ID), e.Value...)
				set.add(buf, true)
			}
		}
	}
	for _, r := range p.Reads {
		record(kindRecord, of(r.Schema).ID, r.Key, false)
	}
	for _, d := range p.Deltas {
		record(kindCounter, of(d.Schema).ID, d.Key, false)
	}
	for _, b := range p.Bounds {
		record(kindCounter, of(b.Schema).ID, b.Key, true)
	}
}

// An oldState is what a write meets.
type oldState struct {
	found   bool
	etag    string
	entries []engine.Entry
}

// old reads the record that a write replaces, as far as it is needed.
func (c *commit) old(w engine.Write) (o oldState, err error) {
	if w.If.Unconditional() && w.Value != nil && len(w.Schema.Indexes) == 0 {
		return o, nil
	}
	var space [256]byte
	k, err := c.s.look(appendRecordKey(space[:0], of(w.Schema).ID, w.Key), c.locked)
	if err != nil {
		return o, fmt.Errorf("read record of %s: %w", w.Schema.Name, err)
	}
	if !k.found {
		return o, nil
	}
	return oldState{true, k.etag, w.Schema.FittingEntries(k.value)}, nil
}

// check evaluates the conditions and returns what the writes meet.
func (c *commit) check(p *engine.Prepared) ([]oldState, error) {
	var first *metastore.ConditionError
	refuse := func(e *metastore.ConditionError) {
		if first == nil || e.Op < first.Op {
			first = e
		}
	}
	olds := make([]oldState, 0, len(p.Writes))
	for _, w := range p.Writes {
		o, err := c.old(w)
		if err != nil {
			return nil, err
		}
		if !w.If.Holds(o.etag) {
			refuse(&metastore.ConditionError{Op: w.Op, Bucket: w.Schema.Name, Key: w.Key, Want: w.If, Got: o.etag})
		}
		olds = append(olds, o)
	}
	for _, r := range p.Reads {
		o, err := c.old(engine.Write{Schema: r.Schema, Key: r.Key})
		if err != nil {
			return nil, err
		}
		if !r.If.Holds(o.etag) {
			refuse(&metastore.ConditionError{Op: r.Op, Bucket: r.Schema.Name, Key: r.Key, Want: r.If, Got: o.etag})
		}
	}
	for _, b := range p.Bounds {
		n, found, err := c.s.counter(of(b.Schema).ID, b.Key)
		if err != nil {
			return nil, err
		}
		if found {
			c.checked = append(c.checked, checkedCounter{counterKey(of(b.Schema).ID, b.Key), n})
		}
		if n < b.Min || n > b.Max {
			refuse(&metastore.ConditionError{Op: b.Op, Bucket: b.Schema.Name, Key: b.Key, Got: fmt.Sprint(n)})
		}
	}
	if first != nil {
		return nil, first
	}
	return olds, nil
}

// expand turns the records that an UpdateMany or DeleteMany selects into writes.
func (c *commit) expand(ctx context.Context, p *engine.Prepared, m engine.Many, result *metastore.Result) (err error) {
	m.Plan.Run(ctx, source{c.s}, func(r metastore.Record, e error) bool {
		if err = e; err != nil {
			return false
		}
		var taken bool
		if taken, err = p.Expand(m, r); taken {
			result.Counts[m.Op]++
		}
		return err == nil
	})
	return err
}

// write puts the operations into the engine's batch. The first writes, named of them, are those of Put and Delete.
func (c *commit) write(p *engine.Prepared, olds []oldState, named int, result *metastore.Result) error {
	now := engine.Now()
	if err := c.unique(p, olds); err != nil {
		return err
	}
	for i := range p.Writes {
		w := &p.Writes[i]
		b := of(w.Schema)
		if w.Value == nil && !olds[i].found {
			continue
		}
		key := recordKey(b.ID, w.Key)
		if c.locked {
			c.s.recent.forget(c.s.keys.hash(key), key)
		}
		if w.Value == nil {
			if err := c.batch.Delete(key, nil); err != nil {
				return err
			}
		} else {
			etag := engine.NewEtag()
			op := c.batch.SetDeferred(len(key), recordSize(etag, w.Value))
			copy(op.Key, key)
			appendRecord(op.Value[:0], etag, now, w.Value)
			if err := op.Finish(); err != nil {
				return err
			}
			if i < named {
				result.Etags[w.Op] = etag
			}
		}
		if err := c.reindex(b, w.Key, olds[i].entries, w.Entries); err != nil {
			return err
		}
		if b.Bucket.Watched {
			c.changes = append(c.changes, change{b.ID, w.Key})
		}
	}
	if err := c.foldCounters(); err != nil {
		return err
	}
	for _, d := range p.Deltas {
		if d.Delta == 0 {
			continue
		}
		if err := c.batch.Merge(counterKey(of(d.Schema).ID, d.Key), addOperand(d.Delta), nil); err != nil {
			return err
		}
	}
	return nil
}

// A checkedCounter is what a CheckCounter has read.
type checkedCounter struct {
	key   []byte
	value int64
}

// foldCounters puts what a CheckCounter has read in the place of all that was added to the counter before, so that the next reader need not add it up
// again; a counter at zero, which is what becomes of a directory's when it is removed, goes. The check holds the counter's lock, so no Add can be
// lost. What the batch itself adds comes after. A batch that writes nothing else leaves counters as they are.
func (c *commit) foldCounters() error {
	if c.batch.Empty() {
		return nil
	}
	for _, x := range c.checked {
		var err error
		if x.value == 0 {
			err = c.batch.Delete(x.key, nil)
		} else {
			err = c.batch.Set(x.key, addOperand(x.value), nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unique refuses values that another record has and keeps. Values are free again within the batch that takes them away.
func (c *commit) unique(p *engine.Prepared, olds []oldState) error {
	for i := range p.Writes {
		w := &p.Writes[i]
		b := of(w.Schema)
		engine.EachDifference(olds[i].entries, w.Entries, func(e engine.Entry, added bool) error {
			if !added && w.Schema.Indexes[e.Index].Unique {
				if c.freed == nil {
					c.freed = map[string]struct{}{}
				}
				c.freed[string(uniqueKey(b.Indexes[e.Index].ID, e.Value))] = struct{}{}
			}
			return nil
		})
	}
	for i := range p.Writes {
		w := &p.Writes[i]
		b := of(w.Schema)
		for _, e := range w.Entries {
			if !w.Schema.Indexes[e.Index].Unique {
				continue
			}
			key := uniqueKey(b.Indexes[e.Index].ID, e.Value)
			taken := &metastore.UniqueError{Op: w.Op, Bucket: w.Schema.Name, Field: w.Schema.Indexes[e.Index].Field, Key: w.Key}
			if other, twice := c.claimed[string(key)]; twice && other != w.Key {
				return taken
			}
			if c.claimed == nil {
				c.claimed = map[string]metastore.Key{}
			}
			c.claimed[string(key)] = w.Key
			owner, err := c.s.read(key)
			if errors.Is(err, lsm.ErrNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("read unique index of %s: %w", w.Schema.Name, err)
			}
			_, freed := c.freed[string(key)]
			if !freed && !bytes.Equal(owner, appendKey(nil, w.Key)) {
				return taken
			}
		}
	}
	return nil
}

// reindex writes the difference between two sets of entries.
func (c *commit) reindex(b *bucket, key metastore.Key, old, entries []engine.Entry) error {
	return engine.EachDifference(old, entries, func(e engine.Entry, added bool) error {
		x, id := b.schema.Indexes[e.Index], b.Indexes[e.Index].ID
		k := appendIndexKey(nil, id, x.PerPartition, e.Value, key)
		if added {
			if x.Unique {
				if err := c.batch.Set(uniqueKey(id, e.Value), appendKey(nil, key), nil); err != nil {
					return err
				}
			}
			return c.batch.Set(k, nil, nil)
		}
		if x.Unique {
			u := uniqueKey(id, e.Value)
			if _, again := c.claimed[string(u)]; !again {
				if err := c.batch.Delete(u, nil); err != nil {
					return err
				}
			}
		}
		return c.batch.Delete(k, nil)
	})
}

// send hands the batch to the engine, without waiting for the sync. Batches with changes take their number in the log
// under the log's lock, so that the log never shows a change before an earlier one.
func (c *commit) send() (err error) {
	defer c.s.recoverFailure(&err)
	if !c.locked {
		defer c.s.recent.suspend()()
	}
	if len(c.changes) == 0 {
		if c.relaxed {
			return c.s.db.Apply(c.batch, lsm.NoSync)
		}
		err := c.s.db.ApplyNoSyncWait(c.batch, lsm.Sync)
		c.sent = err == nil
		return err
	}
	c.relaxed = false // those who watch see only what is durable
	log := &c.s.log
	log.mu.Lock()
	defer log.mu.Unlock()
	seq, err := log.next(c.batch)
	if err != nil {
		return err
	}
	var value []byte
	for i, x := range c.changes {
		value = binary.BigEndian.AppendUint32(value[:0], x.bucket)
		value = appendKey(value, x.key)
		if err := c.batch.Set(logKey(seq, uint32(i)), value, nil); err != nil {
			return err
		}
	}
	if err := log.trim(c.batch, uint64(c.s.config.ChangeLog)); err != nil {
		return err
	}
	if err := c.s.db.ApplyNoSyncWait(c.batch, lsm.Sync); err != nil {
		return err
	}
	c.seq, c.sent = seq, true
	return nil
}
