package namespace

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// errLost says that another writer came first: look again and decide anew.
var errLost = errors.New("namespace: lost against another writer")

// Options tell a change more than what to store.
type Options struct {
	// Seen is the state on which the caller decided; nil means that the change looks for itself.
	Seen *State

	// Exclusive asks that the entry still be as Seen: if not, the change fails at once with [ErrConcurrent]. Otherwise the last writer wins.
	Exclusive bool

	// SameParent asks that the metadata of the parent directory still be as Seen, which is required then.
	SameParent bool

	// Also are operations on the partition of the entry's directory to commit in the same batch. If one of their conditions does not
	// hold, the error is the store's, with Op counting from Also's first.
	Also []metastore.Op

	pending *Pending // whose intent ends with the change
	relaxed bool     // the intent is durable, so the change need not be
}

// retry runs change on the present state until it neither loses against another writer nor has lost too often.
func (n *Namespace) retry(ctx context.Context, key manta.Key, o Options, change func(*State) error) error {
	st := o.Seen
	for try := 0; ; try++ {
		if st == nil || !st.withParent && try > 0 {
			var err error
			if st, err = n.Look(ctx, key, true); err != nil {
				return err
			}
		}
		err := change(st)
		if !errors.Is(err, errLost) {
			return err
		}
		if o.Exclusive || try >= maxRetries {
			return fmt.Errorf("%w: %s", ErrConcurrent, key)
		}
		if try == 0 {
			end, err := n.turn(ctx, key)
			if err != nil {
				return err
			}
			defer end()
		} else if err := pause(ctx, time.Duration(rand.Int64N(int64(try)*int64(5*time.Millisecond)))); err != nil {
			return err
		}
		st = nil
	}
}

// pause lets writers in other processes pass.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Put stores an object's entry, new or over another object, and returns it with the entry that it replaced, if any. Key, Type and Mtime
// are set here, and so is the link id.
func (n *Namespace) Put(ctx context.Context, key manta.Key, e manta.Entry, o Options) (stored, replaced *manta.Entry, err error) {
	stored, replaced, err = n.put(ctx, key, e, o)
	if err != nil {
		return nil, nil, fmt.Errorf("put %s: %w", key, err)
	}
	return stored, replaced, nil
}

func (n *Namespace) put(ctx context.Context, key manta.Key, e manta.Entry, o Options) (stored, replaced *manta.Entry, err error) {
	if implicit(key) {
		return nil, nil, ErrRoot
	}
	e.Key, e.Type = key, manta.TypeObject
	err = n.retry(ctx, key, o, func(st *State) error {
		if st.NoParent != nil {
			return st.NoParent
		}
		if st.Entry.IsDirectory() {
			return ErrIsDirectory
		}
		e.Mtime = n.stamp()
		replaced = st.Entry
		return n.putEntry(ctx, st, &e, o, true)
	})
	return &e, replaced, err
}

// putEntry commits an object's record over the state seen.
func (n *Namespace) putEntry(ctx context.Context, st *State, e *manta.Entry, o Options, limited bool) error {
	value, err := encode(e)
	if err != nil {
		return err
	}
	batch := make(metastore.Batch, 0, 6+len(o.Also))
	parentOp, fullOp := -1, -1
	busy := false
	if check := st.parentCheck(); check != nil {
		if c, ok := check.(metastore.Check); ok && o.SameParent {
			c.If = metastore.EtagIs(o.Seen.parentHead)
			check = c
		}
		parentOp = len(batch)
		batch = append(batch, check)
	}
	put := len(batch)
	batch = append(batch, metastore.Put{Bucket: Bucket, Key: entryKey(e.Key), Value: value, If: metastore.EtagIs(st.etag)})
	if st.Entry == nil {
		counter := headKey(e.Key.Dir())
		free := !limited
		if limited {
			free, busy = n.rooms.take(e.Key.Dir(), time.Now())
		}
		if !free {
			fullOp = len(batch)
			batch = append(batch, metastore.CheckCounter{Bucket: Bucket, Key: counter, Min: 0, Max: n.max - 1})
		}
		batch = append(batch, metastore.Add{Bucket: Bucket, Key: counter, Delta: 1})
	} else if st.Entry.ObjectID != e.ObjectID {
		if op := n.deletedOp(st.Entry); op != nil {
			batch = append(batch, op)
		}
	}
	also := len(batch)
	batch = append(batch, o.Also...)
	commit := n.store.Commit
	if o.pending != nil {
		batch = append(batch, o.pending.done())
		if o.relaxed {
			commit = o.pending.pipe.Relax
		}
	}
	_, err = commit(ctx, batch)
	if err == nil && busy && fullOp >= 0 {
		n.learnRoom(ctx, e.Key.Dir())
	}
	switch i := conflicting(err); {
	case err == nil, !errors.Is(err, metastore.ErrConflict):
		return err
	case i == put:
		return errLost
	case i == parentOp && o.SameParent:
		return fmt.Errorf("%w: %s", ErrConcurrent, e.Key.Dir())
	case i == parentOp:
		return errLost // look for the parent again: that tells what it has become
	case i == fullOp:
		return ErrFull
	case i >= also:
		ce, _ := errors.AsType[*metastore.ConditionError](err)
		return &metastore.ConditionError{Op: i - also, Bucket: ce.Bucket, Key: ce.Key, Want: ce.Want, Got: ce.Got}
	}
	return err
}

// A Metadata replaces what may be changed of an entry without its bytes.
type Metadata struct {
	ContentType string // "" keeps the present one; directories have none
	Disposition string // "" keeps the present one
	Headers     map[string]string
	Roles       []string
}

// SetMetadata changes the metadata of an object or directory, and returns the entry as it is then. An object keeps its id.
func (n *Namespace) SetMetadata(ctx context.Context, key manta.Key, m Metadata, o Options) (*manta.Entry, error) {
	var e manta.Entry
	err := n.retry(ctx, key, o, func(st *State) error {
		if st.Entry == nil {
			return ErrNotFound
		}
		e = *st.Entry
		e.Headers, e.Roles, e.Mtime = m.Headers, m.Roles, n.stamp()
		if e.Type == manta.TypeDirectory {
			return n.updateDirectory(ctx, st, &e)
		}
		if m.ContentType != "" {
			e.ContentType = m.ContentType
		}
		if m.Disposition != "" {
			e.Disposition = m.Disposition
		}
		return n.putEntry(ctx, st, &e, o, false)
	})
	if err != nil {
		return nil, fmt.Errorf("set metadata of %s: %w", key, err)
	}
	return &e, nil
}

// Delete removes an object or an empty directory and returns what it was.
func (n *Namespace) Delete(ctx context.Context, key manta.Key, o Options) (*manta.Entry, error) {
	if implicit(key) {
		return nil, fmt.Errorf("delete %s: %w", key, ErrRoot)
	}
	var gone *manta.Entry
	err := n.retry(ctx, key, o, func(st *State) error {
		gone = st.Entry
		switch {
		case st.Entry == nil:
			return ErrNotFound
		case st.Entry.Type == manta.TypeDirectory:
			return n.removeDirectory(ctx, st)
		}
		batch := metastore.Batch{
			metastore.Delete{Bucket: Bucket, Key: entryKey(key), If: metastore.EtagIs(st.etag)},
			metastore.Add{Bucket: Bucket, Key: headKey(key.Dir()), Delta: -1},
		}
		if op := n.deletedOp(st.Entry); op != nil {
			batch = append(batch, op)
		}
		_, err := n.store.Commit(ctx, batch)
		return lost(err)
	})
	if err != nil {
		return nil, fmt.Errorf("delete %s: %w", key, err)
	}
	return gone, nil
}

// lost turns a refused condition into errLost.
func lost(err error) error {
	if errors.Is(err, metastore.ErrConflict) {
		return errLost
	}
	return err
}
