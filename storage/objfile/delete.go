package objfile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

// Delete implements [storage.Node].
func (s *Store) Delete(ctx context.Context, id storage.ObjectID) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if err := s.submit(&op{kind: opDelete, id: id}); err != nil {
		return fmt.Errorf("delete %s: %w", id, err)
	}
	s.met.deletes.Add(1)
	return nil
}

// Undelete implements [storage.Node].
func (s *Store) Undelete(ctx context.Context, id storage.ObjectID) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if err := s.submit(&op{kind: opUndelete, id: id}); err != nil {
		return fmt.Errorf("undelete %s: %w", id, err)
	}
	return nil
}

// purge ends an object that was deleted at a time, if it still is, and reports whether it did. The record comes first and is synced: a crash between the two leaves a file
// without a record, which the next start takes away. The id is locked.
func (s *Store) purge(id storage.ObjectID, deleted int64) (bool, error) {
	o := &op{kind: opPurge, id: id, stamp: deleted}
	if err := s.submit(o); err != nil {
		return false, err
	}
	if o.did && o.was.file {
		if err := s.disk.Remove(objectPath(id)); err != nil && !isNotExist(err) {
			s.cfg.Log.Warn("file of a deleted object not removed", "object", id.String(), "err", err)
		}
	}
	return o.did, nil
}

// Reap takes away the deleted objects whose grace period is over, gives back the space of journal segments that hold little of use, and returns how
// many objects it has ended. A store does so by itself every Config.ReapInterval.
func (s *Store) Reap(ctx context.Context) (objects int64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.leave()
	return s.reap(ctx)
}

func (s *Store) reap(ctx context.Context) (objects int64, err error) {
	type tombstone struct {
		at int64
		id storage.ObjectID
	}
	for {
		// A part at a time: the iterator must not hold the index's files for as long as all the removing takes.
		var due []tombstone
		now := s.cfg.Now()
		s.index.queue(prefixDeleted)(func(at int64, id storage.ObjectID, e error) bool {
			if err = e; err == nil && s.expired(at, now) {
				due = append(due, tombstone{at, id})
				return len(due) < maxBatchOps
			}
			return false
		})
		if err != nil {
			return objects, err
		}
		if len(due) == 0 {
			break
		}
		results := make(chan error, len(due))
		limit := make(chan struct{}, 64) // together, so that they share syncs
		for _, d := range due {
			limit <- struct{}{}
			go func() {
				unlock := s.lockID(d.id)
				_, err := s.purge(d.id, d.at)
				unlock()
				<-limit
				results <- err
			}()
		}
		for range due {
			if e := <-results; e != nil {
				err = e
			} else {
				objects++
			}
		}
		if err == nil {
			err = s.interrupted(ctx)
		}
		if err != nil {
			return objects, err
		}
	}
	_, err = s.compactAll(ctx)
	return objects, err
}

func (s *Store) reapLoop(ctx context.Context) {
	for s.sleep(ctx, s.cfg.ReapInterval) == nil {
		if s.readOnlyError() != nil {
			continue
		}
		if _, err := s.reap(ctx); err != nil && s.interrupted(ctx) == nil {
			s.cfg.Log.Warn("reap", "err", err)
		}
	}
}

// sweepOrphans takes away, once after a start, what has no record: files that were linked but not committed when a crash came, and files of objects that were
// purged. It waits until they are OrphanAge old. If the journal was found damaged, a file without a record may be all that is left of an object, and goes to quarantine.
func (s *Store) sweepOrphans(ctx context.Context) {
	opened := time.Now()
	if age := s.cfg.OrphanAge; age > 0 {
		for again := true; again; {
			var err error
			if again, err = s.sweep(ctx, opened); err != nil && s.interrupted(ctx) == nil {
				s.cfg.Log.Warn("sweep of files without a record", "err", err)
			}
			if again && s.sleep(ctx, age) != nil {
				return
			}
		}
		return
	}
	if _, err := s.sweep(ctx, opened.Add(time.Hour)); err != nil && s.interrupted(ctx) == nil {
		s.cfg.Log.Warn("sweep of files without a record", "err", err)
	}
}

const orphanSuffix = ".orphan" // of a file in quarantine that had no record

// sweep looks at all files once. It reports whether there are orphans that are too young, of those older than opened.
func (s *Store) sweep(ctx context.Context, opened time.Time) (again bool, err error) {
	var owners []string
	for name, err := range s.disk.Names(objectsDir) {
		if err != nil {
			return false, err
		}
		owners = append(owners, name)
	}
	slices.Sort(owners)
	for _, owner := range owners {
		if strings.HasPrefix(owner, diskfs.TempPrefix) {
			if st, err := s.disk.Stat(objectsDir + "/" + owner); err == nil && st.ModTime().Before(opened) {
				_ = s.disk.Remove(objectsDir + "/" + owner)
			}
			continue
		}
		for name, err := range s.disk.Names(objectsDir + "/" + owner) {
			if err == nil {
				err = s.interrupted(ctx)
			}
			if err != nil {
				return again, err
			}
			id, err := storage.ParseObjectID(owner + "/" + name)
			if err != nil {
				continue // not ours
			}
			if e, ok, err := s.index.lookup(id); err != nil || ok && e.file {
				if err != nil {
					return again, err
				}
				continue
			}
			young, err := s.sweepOne(id, opened)
			if err != nil {
				return again, err
			}
			again = again || young
		}
	}
	return again, nil
}

func (s *Store) sweepOne(id storage.ObjectID, opened time.Time) (young bool, err error) {
	defer s.lockID(id)() // a writer between link and record holds it
	e, ok, err := s.index.lookup(id)
	if err != nil || ok && e.file || s.readOnlyError() != nil {
		return false, err
	}
	name := objectPath(id)
	st, err := s.disk.Stat(name)
	if err != nil {
		return false, nil // gone
	}
	if !st.ModTime().Before(opened) {
		return false, nil // of this process: linking and committing will see to it
	}
	if s.cfg.OrphanAge > 0 && time.Since(st.ModTime()) < s.cfg.OrphanAge {
		return true, nil
	}
	if s.met.skipped.Load() > 0 {
		err = s.disk.Rename(name, fmt.Sprintf("%s/%s.%s%s", quarantineDir, id.Owner, id.Object, orphanSuffix))
	} else {
		err = s.disk.Remove(name)
	}
	if err != nil && !isNotExist(err) {
		return false, err
	}
	s.met.orphans.Add(1)
	s.cfg.Log.Info("file without a record taken away", "object", id.String(), "size", st.Size())
	return false, nil
}
