package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// Link makes a snaplink: a second entry for the bytes of the object under source, with that object's headers and with roles as given. It
// returns the new entry.
//
// Before the second entry is made, the first is marked with the link id, so that from then on whoever deletes either leaves word of it in the delete
// log. An object that was never linked pays nothing for this.
func (n *Namespace) Link(ctx context.Context, key, source manta.Key, roles []string, o Options) (*manta.Entry, error) {
	if implicit(key) {
		return nil, fmt.Errorf("link %s: %w", key, ErrRoot)
	}
	var e manta.Entry
	err := n.retry(ctx, key, o, func(st *State) error {
		if st.NoParent != nil {
			return st.NoParent
		}
		if st.Entry.IsDirectory() {
			return ErrIsDirectory
		}
		src, err := n.mark(ctx, source)
		if err != nil {
			return err
		}
		e = *src
		e.Key, e.Type, e.Mtime, e.Roles = key, manta.TypeObject, n.stamp(), slices.Clone(roles)
		e.Creator, e.CreatedFrom = src.BytesOwner(), string(source)
		if key == source {
			return nil // an object linked to itself stays as it is
		}
		return n.putEntry(ctx, st, &e, o, false)
	})
	if err != nil {
		return nil, fmt.Errorf("link %s to %s: %w", key, source, err)
	}
	return &e, nil
}

// mark gives an object a link id, unless it has one.
func (n *Namespace) mark(ctx context.Context, source manta.Key) (*manta.Entry, error) {
	for range maxRetries + 1 {
		st, err := n.Look(ctx, source, false)
		switch {
		case err != nil:
			return nil, err
		case st.Entry == nil:
			return nil, ErrNotFound
		case st.Entry.Type != manta.TypeObject:
			return nil, ErrNotObject
		case st.Entry.LinkID != "" || len(st.Entry.Sharks) == 0: // no bytes, nothing to keep
			return st.Entry, nil
		}
		e := *st.Entry
		e.LinkID = e.ObjectID
		value, err := encode(&e)
		if err != nil {
			return nil, err
		}
		_, err = n.store.Commit(ctx, metastore.Batch{
			metastore.Put{Bucket: Bucket, Key: entryKey(source), Value: value, If: metastore.EtagIs(st.etag)},
		})
		if !errors.Is(err, metastore.ErrConflict) {
			return &e, err
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrConcurrent, source)
}
