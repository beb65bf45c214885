package namespace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage/metastore"
)

var errNotDirectory = errors.New("namespace: entry is not a directory")

// intent is the value of the record that stands in for a head. All that matters about it is its etag.
var intent = []byte(`{}`)

// PutDirectory makes a directory, in the place of an object if there is one, or gives an existing directory the headers and roles of e. It
// reports whether anything had to be written: the same directory again is not. Key, Type and Mtime of e are set here.
func (n *Namespace) PutDirectory(ctx context.Context, key manta.Key, e manta.Entry, o Options) (stored *manta.Entry, changed bool, err error) {
	e.Key, e.Type = key, manta.TypeDirectory
	err = n.retry(ctx, key, o, func(st *State) error {
		if implicit(key) {
			e.Roles = nil
		} else if st.NoParent != nil {
			return st.NoParent
		}
		if st.head != "" && maps.Equal(st.Entry.Headers, e.Headers) && slices.Equal(st.Entry.Roles, e.Roles) && string(st.Entry.Upload) == string(e.Upload) {
			e = *st.Entry
			return nil
		}
		e.Mtime, changed = n.stamp(), true
		if implicit(key) || st.head != "" {
			return n.updateDirectory(ctx, st, &e)
		}
		return n.makeDirectory(ctx, st, &e)
	})
	if err != nil {
		return nil, false, fmt.Errorf("put directory %s: %w", key, err)
	}
	return &e, changed, nil
}

// SetUpload replaces what a directory says about the multipart upload that it is, provided that its metadata is still as seen, and returns the new
// state. Otherwise the error is [ErrConcurrent].
func (n *Namespace) SetUpload(ctx context.Context, seen *State, upload []byte) (*State, error) {
	e := *seen.Entry
	e.Upload = upload
	value, err := encode(&e)
	if err != nil {
		return nil, err
	}
	res, err := n.store.Commit(ctx, metastore.Batch{
		metastore.Put{Bucket: Bucket, Key: headKey(e.Key), Value: value, If: metastore.EtagIs(seen.head)},
	})
	if err != nil {
		if errors.Is(err, metastore.ErrConflict) {
			err = ErrConcurrent
		}
		return nil, fmt.Errorf("update upload %s: %w", e.Key, err)
	}
	st := *seen
	st.Entry, st.head = &e, res.Etags[0]
	return &st, nil
}

// makeDirectory makes the directory e, which has no head yet, over whatever entry was seen. See the package comment for its steps.
func (n *Namespace) makeDirectory(ctx context.Context, st *State, e *manta.Entry) error {
	head, err := encode(e)
	if err != nil {
		return err
	}
	dirent := metastore.Batch{}
	if check := st.parentCheck(); check != nil {
		dirent = append(dirent, check)
	}
	dirent = append(dirent, metastore.Put{Bucket: Bucket, Key: entryKey(e.Key), Value: encodeDirent(e), If: metastore.EtagIs(st.etag)})
	if st.Entry == nil {
		dirent = append(dirent, metastore.Add{Bucket: Bucket, Key: headKey(e.Key.Dir()), Delta: 1})
	} else if op := n.deletedOp(st.Entry); op != nil {
		dirent = append(dirent, op)
	}
	putHead := metastore.Put{Bucket: Bucket, Key: headKey(e.Key), Value: head, If: metastore.Absent()}
	intentKey := headKey(e.Key)

	if n.store.Colocated(string(e.Key.Dir()), string(e.Key)) {
		batch := append(slices.Clone(dirent), putHead, metastore.Delete{Bucket: intentBucket, Key: intentKey})
		if _, err := n.store.Commit(ctx, batch); !errors.Is(err, metastore.ErrCrossShard) {
			return lost(err)
		} // the partitions have just been parted
	}
	res, err := n.store.Commit(ctx, metastore.Batch{
		metastore.Check{Bucket: Bucket, Key: headKey(e.Key), If: metastore.Absent()},
		metastore.Put{Bucket: intentBucket, Key: intentKey, Value: intent},
	})
	if err != nil {
		return lost(err)
	}
	if _, err := n.store.Commit(ctx, dirent); err != nil {
		return lost(err)
	}
	_, err = n.store.Commit(ctx, metastore.Batch{
		metastore.Delete{Bucket: intentBucket, Key: intentKey, If: metastore.EtagIs(res.Etags[1])},
		putHead,
	})
	return lost(err)
}

// repair completes a directory that has a dirent and no head. It returns ErrNotFound where there is no dirent, errNotDirectory where
// the entry is something else, and nil when there is a head or there was a moment ago.
func (n *Namespace) repair(ctx context.Context, dir manta.Key) error {
	st, err := n.Look(ctx, dir, false)
	switch {
	case err != nil:
		return err
	case st.Entry == nil:
		return ErrNotFound
	case st.Entry.Type != manta.TypeDirectory:
		return errNotDirectory
	case st.head != "":
		return nil
	}
	n.log.Info("complete a directory left half made or removed", "directory", string(dir))
	// Its parent is there, since it is not empty: makeDirectory's check of that holds.
	e := *st.Entry
	return n.makeDirectory(ctx, st, &e)
}

// updateDirectory writes a directory's new head, and its dirent for the modification time that listings show.
func (n *Namespace) updateDirectory(ctx context.Context, st *State, e *manta.Entry) error {
	if st.head == "" && !implicit(e.Key) {
		return n.makeDirectory(ctx, st, e)
	}
	value, err := encode(e)
	if err != nil {
		return err
	}
	putHead := metastore.Put{Bucket: Bucket, Key: headKey(e.Key), Value: value, If: metastore.EtagIs(st.head)}
	if implicit(e.Key) {
		_, err := n.store.Commit(ctx, metastore.Batch{putHead})
		return lost(err)
	}
	putDirent := metastore.Put{Bucket: Bucket, Key: entryKey(e.Key), Value: encodeDirent(e), If: metastore.EtagIs(st.etag)}
	if n.store.Colocated(string(e.Key.Dir()), string(e.Key)) {
		if _, err := n.store.Commit(ctx, metastore.Batch{putHead, putDirent}); !errors.Is(err, metastore.ErrCrossShard) {
			return lost(err)
		}
	}
	if _, err := n.store.Commit(ctx, metastore.Batch{putHead}); err != nil {
		return lost(err)
	}
	// From here on the change is made. A dirent that meanwhile changed or went belongs to a later one.
	if _, err := n.store.Commit(ctx, metastore.Batch{putDirent}); err != nil && !errors.Is(err, metastore.ErrConflict) {
		n.log.Warn("directory's time in its listing is old", "directory", string(e.Key), "err", err)
	}
	return nil
}

// removeDirectory removes the directory seen, if it is empty. See the package comment for its steps.
func (n *Namespace) removeDirectory(ctx context.Context, st *State) error {
	key := st.Key
	own := metastore.Batch{
		metastore.CheckCounter{Bucket: Bucket, Key: headKey(key), Min: 0, Max: 0},
		metastore.Delete{Bucket: Bucket, Key: headKey(key), If: metastore.EtagIs(st.head)},
	}
	dirent := metastore.Batch{
		metastore.Delete{Bucket: Bucket, Key: entryKey(key), If: metastore.EtagIs(st.etag)},
		metastore.Add{Bucket: Bucket, Key: headKey(key.Dir()), Delta: -1},
	}
	outcome := func(err error) error {
		if conflicting(err) == 0 {
			return ErrNotEmpty
		}
		return lost(err)
	}
	if n.store.Colocated(string(key.Dir()), string(key)) {
		batch := append(slices.Clone(own), metastore.Delete{Bucket: intentBucket, Key: headKey(key)})
		if _, err := n.store.Commit(ctx, append(batch, dirent...)); !errors.Is(err, metastore.ErrCrossShard) {
			return outcome(err)
		}
	}
	res, err := n.store.Commit(ctx, append(own, metastore.Put{Bucket: intentBucket, Key: headKey(key), Value: intent}))
	if err != nil {
		return outcome(err)
	}
	if _, err := n.store.Commit(ctx, dirent); err != nil {
		return lost(err)
	}
	_, err = n.store.Commit(ctx, metastore.Batch{
		metastore.Delete{Bucket: intentBucket, Key: headKey(key), If: metastore.EtagIs(res.Etags[2])},
	})
	if err != nil && !errors.Is(err, metastore.ErrConflict) {
		n.log.Warn("a removed directory left its intent behind", "directory", string(key), "err", err)
	}
	return nil
}
