package namespace

import (
	"context"
	"errors"
	"fmt"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// A State is what stood under a key at one time. It may be kept and handed to the change that it led to.
type State struct {
	Key manta.Key

	// Entry is nil when there is none. Of a directory it has the metadata.
	Entry *manta.Entry

	// Parent is the directory around it, when that was asked for; NoParent says why there is none.
	Parent   *manta.Entry
	NoParent error // nil, ErrNoParent or ErrParentNotDirectory

	withParent bool
	etag       string // of the record in the parent's partition
	head       string // of the directory's head
	parentHead string
}

// Look reads what stands under a key. That nothing does is no error. With parent it also reads the directory around the key, as
// one needs to put something there.
func (n *Namespace) Look(ctx context.Context, key manta.Key, parent bool) (*State, error) {
	st := &State{Key: key, withParent: parent}
	if implicit(key) {
		return st, n.lookRoot(ctx, st)
	}
	rec, err := n.store.Get(ctx, Bucket, entryKey(key))
	if err == nil {
		st.etag, st.Entry = rec.Etag, &manta.Entry{Key: key}
		err = decode(rec.Value, st.Entry, true)
	}
	if err != nil && !errors.Is(err, metastore.ErrNotFound) {
		return nil, fmt.Errorf("look up %s: %w", key, err)
	}
	if st.Entry.IsDirectory() {
		if err := n.readHead(ctx, st.Entry, &st.head); err != nil {
			return nil, err
		}
	}
	if parent {
		if err := n.lookParent(ctx, st); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// implicit reports whether a key is an account or one of its top directories, which are there without records.
func implicit(key manta.Key) bool {
	rest := key.Rest()
	return rest == "" || key.Dir() == key && manta.IsTop(rest[1:])
}

func (n *Namespace) lookRoot(ctx context.Context, st *State) error {
	st.Entry = &manta.Entry{Key: st.Key, Type: manta.TypeDirectory}
	st.Parent = st.Entry
	if st.Key.Rest() == "" {
		return nil
	}
	return n.readHead(ctx, st.Entry, &st.head)
}

// readHead fills in a directory's metadata from its head, if that is there: between the steps of mkdir and rmdir it is not.
func (n *Namespace) readHead(ctx context.Context, dir *manta.Entry, etag *string) error {
	rec, err := n.store.Get(ctx, Bucket, headKey(dir.Key))
	if errors.Is(err, metastore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up directory %s: %w", dir.Key, err)
	}
	*etag = rec.Etag
	return decode(rec.Value, dir, true)
}

func (n *Namespace) lookParent(ctx context.Context, st *State) error {
	dir := st.Key.Dir()
	st.Parent = &manta.Entry{Key: dir, Type: manta.TypeDirectory}
	if implicit(dir) {
		return nil // roots carry no tags, so nothing of them matters to their entries
	}
	if dir == st.Key { // one below the account that is no top
		st.Parent, st.NoParent = nil, ErrNoParent
		return nil
	}
	for range maxRetries {
		if err := n.readHead(ctx, st.Parent, &st.parentHead); err != nil {
			return err
		}
		if st.parentHead != "" {
			return nil
		}
		// No head: the directory is not there, is no directory, or was left between two steps.
		err := n.repair(ctx, dir)
		switch {
		case errors.Is(err, ErrNotFound):
			st.Parent, st.NoParent = nil, ErrNoParent
			return nil
		case errors.Is(err, errNotDirectory):
			st.Parent, st.NoParent = nil, ErrParentNotDirectory
			return nil
		case err != nil && !errors.Is(err, errLost):
			return err
		}
	}
	return fmt.Errorf("look up directory %s: %w", dir, ErrConcurrent)
}

// parentCheck returns the operation that holds the parent directory in place while an entry is put into it, or nil where the
// directory cannot go.
func (st *State) parentCheck() metastore.Op {
	if dir := st.Key.Dir(); !implicit(dir) {
		return metastore.Check{Bucket: Bucket, Key: headKey(dir), If: metastore.Present()}
	}
	return nil
}
