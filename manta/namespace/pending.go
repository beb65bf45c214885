package namespace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// A pipeline is a store whose commits can be taken apart: the embedded one. After a crash it has all that it carried out up to some point, and everything up to
// what was acknowledged last.
type pipeline interface {
	// Begin carries out a batch and returns before it is durable, which wait waits for.
	Begin(ctx context.Context, b metastore.Batch) (wait func() (metastore.Result, error), err error)

	// Relax carries out a batch that some later commit will make durable.
	Relax(ctx context.Context, b metastore.Batch) (metastore.Result, error)
}

// putBucket holds the intents of puts whose bytes are on their way.
const putBucket = "manta_put_intents"

// pendings are the puts on their way, one at a time of a key.
type pendings struct {
	on   atomic.Bool
	mu   sync.Mutex
	keys map[manta.Key]struct{}
}

func (p *pendings) take(key manta.Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, taken := p.keys[key]; taken {
		return false
	}
	if p.keys == nil {
		p.keys = map[manta.Key]struct{}{}
	}
	p.keys[key] = struct{}{}
	return true
}

func (p *pendings) give(key manta.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.keys, key)
}

// A Pending is a put whose bytes are still on their way to the storage nodes. See the package comment for what holds at a crash. Exactly one of Finish and
// Abandon ends it.
type Pending struct {
	n      *Namespace
	pipe   pipeline
	key    manta.Key
	e      manta.Entry
	o      Options
	intent metastore.Key
	wait   func() (metastore.Result, error)
}

// putIntent is what is stored of a put before its bytes are known to be durable.
type putIntent struct {
	Name   string          `json:"name"`
	Record json.RawMessage `json:"record"`
	Seen   string          `json:"seen,omitempty"`   // etag of the entry that it replaces
	Parent string          `json:"parent,omitempty"` // etag of the parent's head, if it must be the same
}

// Begin announces a put, so that its record becomes durable at the same time as its bytes and not after them. e names the bytes and their places as they will be;
// o.Seen is required. It waits for nothing. Nobody sees the entry before Finish.
//
// nil means that this put cannot go this way and is to be done by [Namespace.Put] when the bytes are durable: the store or the state seen does not allow it,
// another put of the same key is on its way, or Recover has not been called.
func (n *Namespace) Begin(ctx context.Context, key manta.Key, e manta.Entry, o Options) *Pending {
	pipe, ok := n.store.(pipeline)
	st := o.Seen
	if !ok || !n.pendings.on.Load() || implicit(key) || len(o.Also) > 0 || st == nil || !st.withParent || st.NoParent != nil || st.Entry.IsDirectory() {
		return nil
	}
	e.Key, e.Type, e.Mtime = key, manta.TypeObject, n.stamp()
	record, err := encode(&e)
	if err != nil {
		return nil
	}
	it := putIntent{Name: key.Name(), Record: record, Seen: st.etag}
	if o.SameParent {
		it.Parent = st.parentHead
	}
	value, err := json.Marshal(&it)
	if err != nil || len(value) > metastore.MaxValue || !n.pendings.take(key) {
		return nil
	}
	p := &Pending{n: n, pipe: pipe, key: key, e: e, o: o, intent: metastore.Key{Partition: string(key.Dir()), Name: e.ObjectID}}
	p.wait, err = pipe.Begin(ctx, metastore.Batch{metastore.Put{Bucket: putBucket, Key: p.intent, Value: value, If: metastore.Absent()}})
	if err != nil {
		n.pendings.give(key)
		return nil
	}
	return p
}

// Finish puts the entry, now that its bytes are durable on all their nodes. The results are those of [Namespace.Put].
func (p *Pending) Finish(ctx context.Context) (stored, replaced *manta.Entry, err error) {
	defer p.n.pendings.give(p.key)
	if _, err := p.wait(); err != nil {
		return nil, nil, fmt.Errorf("put %s: %w", p.key, err)
	}
	// The state that the intent names: what is done now is exactly what a restart would do.
	p.o.pending, p.o.relaxed = p, true
	replaced = p.o.Seen.Entry
	err = p.n.putEntry(ctx, p.o.Seen, &p.e, p.o, true)
	if errors.Is(err, errLost) && p.o.Exclusive {
		err = fmt.Errorf("%w: %s", ErrConcurrent, p.key)
	}
	if errors.Is(err, errLost) {
		// On another state than the intent names a restart would not do it, so this one has to be durable itself.
		p.o.relaxed = false
		stored, replaced, err = p.n.put(ctx, p.key, p.e, p.o)
	} else {
		stored = &p.e
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("put %s: %w", p.key, err), p.drop(ctx))
	}
	return stored, replaced, nil
}

// Abandon ends a put whose bytes did not become durable. When it returns without an error no restart will bring the entry back.
func (p *Pending) Abandon(ctx context.Context) error {
	defer p.n.pendings.give(p.key)
	_, err := p.wait()
	return errors.Join(err, p.drop(ctx))
}

// drop takes the intent away for good.
func (p *Pending) drop(ctx context.Context) error {
	if _, err := p.n.store.Commit(ctx, metastore.Batch{p.done()}); err != nil {
		return fmt.Errorf("drop intent of %s: %w", p.key, err)
	}
	return nil
}

// done is the operation that ends the intent.
func (p *Pending) done() metastore.Op { return metastore.Delete{Bucket: putBucket, Key: p.intent} }

// Recover completes the puts that a crash interrupted, and lets [Namespace.Begin] work from then on. Call it once, after Define and before anybody
// changes the tree. stored tells whether an entry's bytes are there; its error leaves the put undecided until the next start.
func (n *Namespace) Recover(ctx context.Context, stored func(context.Context, *manta.Entry) (bool, error)) error {
	for rec, err := range n.store.Find(ctx, putBucket, metastore.Query{Scan: true}) {
		if err == nil {
			err = n.recoverPut(ctx, rec, stored)
		}
		if err != nil {
			return fmt.Errorf("complete interrupted puts: %w", err)
		}
	}
	n.pendings.on.Store(true)
	return nil
}

func (n *Namespace) recoverPut(ctx context.Context, rec metastore.Record, stored func(context.Context, *manta.Entry) (bool, error)) error {
	var it putIntent
	if err := json.Unmarshal(rec.Value, &it); err != nil {
		return fmt.Errorf("intent %s: %w", rec.Key.Name, err)
	}
	p := &Pending{n: n, key: manta.Key(rec.Key.Partition + "/" + it.Name), intent: rec.Key}
	p.e.Key = p.key
	if err := decode(it.Record, &p.e, true); err != nil {
		return err
	}
	there, err := stored(ctx, &p.e)
	if err != nil {
		n.log.Warn("cannot tell whether an interrupted put is complete", "key", string(p.key), "object", p.e.ObjectID, "err", err)
		return nil
	}
	if !there {
		return p.drop(ctx) // it was never acknowledged
	}
	st, err := n.Look(ctx, p.key, true)
	if err != nil {
		return err
	}
	if st.etag != it.Seen || it.Parent != "" && st.parentHead != it.Parent || st.NoParent != nil || st.Entry.IsDirectory() {
		return p.drop(ctx) // it would have been refused
	}
	if err := n.putEntry(ctx, st, &p.e, Options{Seen: st, pending: p}, false); err != nil {
		return fmt.Errorf("put %s: %w", p.key, err)
	}
	n.log.Info("completed a put that was interrupted", "key", string(p.key), "object", p.e.ObjectID)
	return nil
}
