package namespace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// Objects yields every object that has bytes, of all accounts, in no order that means anything. It reads everything, so it is for work in
// the background: repair, audit. The sequence ends after an error, which is its last element.
func (n *Namespace) Objects(ctx context.Context) iter.Seq2[*manta.Entry, error] {
	return func(yield func(*manta.Entry, error) bool) {
		for rec, err := range n.store.Find(ctx, Bucket, metastore.Query{Scan: true}) {
			if err != nil {
				yield(nil, fmt.Errorf("read all objects: %w", err))
				return
			}
			if rec.Key.Name == "" {
				continue // the head of a directory
			}
			e := &manta.Entry{Key: manta.Key(rec.Key.Partition + "/" + rec.Key.Name)}
			if err := decode(rec.Value, e, true); err != nil {
				yield(nil, err)
				return
			}
			if e.Type == manta.TypeObject && len(e.Sharks) > 0 && !yield(e, nil) {
				return
			}
		}
	}
}

// Announced yields the objects of puts that were announced with [Namespace.Begin] and have not come to their end: no entry names them yet, and one may at
// any time, also after a restart. The sequence ends after an error, which is its last element.
func (n *Namespace) Announced(ctx context.Context) iter.Seq2[storage.ObjectID, error] {
	return func(yield func(storage.ObjectID, error) bool) {
		for rec, err := range n.store.Find(ctx, putBucket, metastore.Query{Scan: true}) {
			var id storage.ObjectID
			if err == nil {
				id, err = announced(rec)
			}
			if err != nil {
				yield(id, fmt.Errorf("read announced puts: %w", err))
				return
			}
			if !yield(id, nil) {
				return
			}
		}
	}
}

func announced(rec metastore.Record) (storage.ObjectID, error) {
	var it putIntent
	if err := json.Unmarshal(rec.Value, &it); err != nil {
		return storage.ObjectID{}, fmt.Errorf("intent %s: %w", rec.Key.Name, err)
	}
	e := manta.Entry{Key: manta.Key(rec.Key.Partition + "/" + it.Name)}
	if err := decode(it.Record, &e, true); err != nil {
		return storage.ObjectID{}, err
	}
	return e.BytesID()
}

// Relocate records that the copies of an object are now elsewhere: in the entry under key and in all its snaplinks, as far as they still
// refer to these bytes and still have the places of from. Entries that do not are left alone; when there is none that does, the
// error is [ErrNotFound]. It changes no times and no etags, and may be repeated.
func (n *Namespace) Relocate(ctx context.Context, key manta.Key, object string, from, to []storage.Shark) error {
	keys := []manta.Key{key}
	st, err := n.Look(ctx, key, false)
	if err != nil {
		return err
	}
	if st.Entry != nil && st.Entry.LinkID != "" {
		if keys, err = n.links(ctx, st.Entry.LinkID); err != nil {
			return err
		}
	}
	moved := 0
	for _, k := range keys {
		ok, err := n.relocate(ctx, k, object, from, to)
		if err != nil {
			return fmt.Errorf("relocate %s: %w", k, err)
		}
		if ok {
			moved++
		}
	}
	if moved == 0 {
		return fmt.Errorf("relocate %s: %w", key, ErrNotFound)
	}
	return nil
}

// Linked returns an entry that refers to an object by a snaplink, or nil when there is none. An object that was never linked has none,
// whatever its entry.
func (n *Namespace) Linked(ctx context.Context, object string) (*manta.Entry, error) {
	keys, err := n.links(ctx, object) // the link id is that of the bytes
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		st, err := n.Look(ctx, key, false)
		if err != nil {
			return nil, err
		}
		if st.Entry != nil && st.Entry.ObjectID == object {
			return st.Entry, nil
		}
	}
	return nil, nil
}

// links returns the keys of all entries with a link id.
func (n *Namespace) links(ctx context.Context, id string) ([]manta.Key, error) {
	var keys []manta.Key
	for rec, err := range n.store.Find(ctx, Bucket, metastore.Query{Filter: metastore.Eq{Field: "linkId", Value: id}}) {
		if err != nil {
			return nil, fmt.Errorf("look for links to %s: %w", id, err)
		}
		keys = append(keys, manta.Key(rec.Key.Partition+"/"+rec.Key.Name))
	}
	return keys, nil
}

func (n *Namespace) relocate(ctx context.Context, key manta.Key, object string, from, to []storage.Shark) (bool, error) {
	for {
		st, err := n.Look(ctx, key, false)
		if err != nil {
			return false, err
		}
		e := st.Entry
		if e == nil || e.ObjectID != object {
			return false, nil
		}
		if slices.Equal(e.Sharks, to) {
			return true, nil
		}
		if !slices.Equal(e.Sharks, from) {
			return false, nil
		}
		e.Sharks = to
		value, err := encode(e)
		if err != nil {
			return false, err
		}
		_, err = n.store.Commit(ctx, metastore.Batch{metastore.Put{Bucket: Bucket, Key: entryKey(key), Value: value, If: metastore.EtagIs(st.etag)}})
		if !errors.Is(err, metastore.ErrConflict) {
			return err == nil, err
		}
	}
}
