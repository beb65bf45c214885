package mpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// open is the line by which the sweep finds an upload.
type open struct {
	Dir  manta.Key `json:"uploadKey"`
	Time int64     `json:"time"` // of creation, milliseconds
}

func openKey(dir manta.Key) metastore.Key {
	return metastore.Key{Partition: string(dir.Dir()), Name: dir.Name()}
}

// Swept counts what a sweep did.
type Swept struct {
	Expired int // uploads aborted because nobody finished them
	Removed int // uploads whose parts and records were removed
	Parts   int
}

// Sweep removes what uploads leave behind: everything of those that were done before the time done, and of those that were created before expired and
// are not done, which it aborts. The bytes of parts go by way of the delete log. It may be interrupted and repeated, and several may run at once.
func (s *Service) Sweep(ctx context.Context, done, expired time.Time) (swept Swept, err error) {
	if swept.Expired, err = s.expire(ctx, expired); err != nil {
		return swept, err
	}
	q := metastore.Query{OrderBy: "time", Filter: metastore.Le{Field: "time", Value: float64(done.UnixMilli())}}
	for rec, err := range s.cfg.Store.Find(ctx, finalBucket, q) {
		if err != nil {
			return swept, fmt.Errorf("look for finished uploads: %w", err)
		}
		var f final
		if err := json.Unmarshal(rec.Value, &f); err != nil {
			return swept, fmt.Errorf("read finalizing record %s: %w", rec.Key.Name, err)
		}
		parts, err := s.remove(ctx, f.Dir)
		swept.Parts += parts
		if err != nil {
			return swept, fmt.Errorf("remove upload %s: %w", f.Upload, err)
		}
		// Last, so that an interrupted removal is found again.
		if _, err := s.cfg.Store.Commit(ctx, metastore.Batch{metastore.Delete{Bucket: finalBucket, Key: rec.Key}}); err != nil {
			return swept, fmt.Errorf("remove upload %s: %w", f.Upload, err)
		}
		swept.Removed++
	}
	return swept, nil
}

// Targets yields the objects that uploads have become or may become, for as long as there is anything of the upload. Until the upload is done no entry names
// such an object, though its bytes may have been joined. The sequence ends after an error, which is its last element.
func (s *Service) Targets(ctx context.Context) iter.Seq2[storage.ObjectID, error] {
	return func(yield func(storage.ObjectID, error) bool) {
		for rec, err := range s.cfg.Store.Find(ctx, openBucket, metastore.Query{Scan: true}) {
			var o open
			if err == nil {
				err = json.Unmarshal(rec.Value, &o)
			}
			var id storage.ObjectID
			if err == nil {
				id, err = s.targetAt(ctx, o.Dir)
			}
			if errors.Is(err, ErrNotFound) {
				continue // its creation was interrupted, or it has just been removed
			}
			if err != nil {
				yield(id, fmt.Errorf("read the uploads' targets: %w", err))
				return
			}
			if !yield(id, nil) {
				return
			}
		}
	}
}

func (s *Service) targetAt(ctx context.Context, dir manta.Key) (id storage.ObjectID, err error) {
	st, err := s.cfg.Namespace.Look(ctx, dir, false)
	if err != nil {
		return id, err
	}
	u, err := parse(st)
	if err != nil {
		return id, err
	}
	return storage.ParseObjectID(dir.Owner() + "/" + u.ObjectID)
}

// remove removes an upload's directory with its parts, and the line about it.
func (s *Service) remove(ctx context.Context, dir manta.Key) (parts int, err error) {
	var names []string
	for e, err := range s.cfg.Namespace.List(ctx, dir, namespace.ListOptions{}) {
		if err != nil {
			return 0, err
		}
		names = append(names, e.Key.Name())
	}
	for _, name := range names {
		if _, err := s.cfg.Namespace.Delete(ctx, dir.Join(name), namespace.Options{}); err != nil && !errors.Is(err, namespace.ErrNotFound) {
			return parts, err
		}
		parts++
	}
	if _, err := s.cfg.Namespace.Delete(ctx, dir, namespace.Options{}); err != nil && !errors.Is(err, namespace.ErrNotFound) {
		return parts, err
	}
	_, err = s.cfg.Store.Commit(ctx, metastore.Batch{metastore.Delete{Bucket: openBucket, Key: openKey(dir)}})
	return parts, err
}

// expire aborts uploads that were created before a time and are not done.
func (s *Service) expire(ctx context.Context, before time.Time) (n int, err error) {
	q := metastore.Query{OrderBy: "time", Filter: metastore.Le{Field: "time", Value: float64(before.UnixMilli())}}
	for rec, err := range s.cfg.Store.Find(ctx, openBucket, q) {
		if err != nil {
			return n, fmt.Errorf("look for expired uploads: %w", err)
		}
		var o open
		if err := json.Unmarshal(rec.Value, &o); err != nil {
			return n, fmt.Errorf("read line of upload %s: %w", rec.Key.Name, err)
		}
		st, err := s.cfg.Namespace.Look(ctx, o.Dir, false)
		if err != nil {
			return n, err
		}
		u, err := s.load(ctx, st)
		switch {
		case errors.Is(err, ErrNotFound): // its creation was interrupted
			if _, err := s.cfg.Namespace.Delete(ctx, o.Dir, namespace.Options{}); err != nil && !errors.Is(err, namespace.ErrNotFound) {
				return n, err
			}
			if _, err := s.cfg.Store.Commit(ctx, metastore.Batch{metastore.Delete{Bucket: openBucket, Key: rec.Key}}); err != nil {
				return n, err
			}
			continue
		case err != nil:
			return n, err
		case u.final != nil:
			continue // it waits for its time
		}
		if err := s.giveUp(ctx, u); err != nil {
			return n, fmt.Errorf("abort expired upload %s: %w", u.ID, err)
		}
		n++
		s.log.Info("aborted an expired upload", "upload", u.ID, "created", time.UnixMilli(u.Created))
	}
	return n, nil
}

// giveUp aborts an upload even where a commit was begun and never came to its end.
func (s *Service) giveUp(ctx context.Context, u *Upload) error {
	begun := u.State == StateFinalizing && u.Type == TypeCommit
	if u.State == StateCreated || begun {
		u.State, u.Type = StateFinalizing, TypeAbort
		if err := s.save(ctx, u); err != nil {
			return err
		}
	}
	op, _ := s.finalOp(u, "")
	_, err := s.cfg.Store.Commit(ctx, metastore.Batch{op})
	if errors.Is(err, metastore.ErrConflict) {
		return nil // it was ended at the same time, one way or the other: the next sweep sees which
	}
	if err == nil && begun && len(u.Sharks) > 0 {
		// The commit may have joined the parts already. Nothing refers to that object and nothing ever will.
		err = s.cfg.Storage.Delete(ctx, durable.Location{ID: s.target(u), Sharks: u.Sharks})
	}
	return err
}
