package objfile

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/mobulacloud/mobula/storage"
)

// verify reads all of an object and notes that it is intact. pace, if there is one, is told of every piece before it is read on.
func (s *Store) verify(ctx context.Context, id storage.ObjectID, pace func(n int64) error) (int64, error) {
	e, err := s.find(id)
	if err != nil {
		return 0, err
	}
	r, _, err := s.open(ctx, id, 0, -1, true)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := r.(io.WriterTo).WriteTo(pacer(func(n int64) error {
		if pace != nil {
			return pace(n)
		}
		return s.interrupted(ctx)
	}))
	if err != nil {
		return n, err
	}
	if s.readOnlyError() != nil {
		return n, nil // there is no place to note it
	}
	return n, s.submit(&op{kind: opVerified, id: id, seq: e.seq, stamp: s.cfg.Now().Unix()})
}

// pacer is a writer that counts.
type pacer func(n int64) error

func (p pacer) Write(b []byte) (int, error) { return len(b), p(int64(len(b))) }

// Scrub verifies objects, the one whose verification is the longest ago first, until all have been verified since a time, or ctx ends. It reads no more
// than rate bytes per second (0 = as fast as it can), and returns how many objects it has looked at. Damaged ones go to quarantine
// and are reported through Config.OnDamage; they are no error here.
func (s *Store) Scrub(ctx context.Context, since time.Time, rate int64) (objects int64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.leave()
	return s.scrub(ctx, since, rate)
}

func (s *Store) scrub(ctx context.Context, since time.Time, rate int64) (objects int64, err error) {
	var owed time.Duration // how far reading is ahead of its rate
	pace := func(n int64) error {
		s.met.scrubBytes.Add(n)
		if rate > 0 {
			owed += time.Duration(float64(n) / float64(rate) * float64(time.Second))
		}
		if owed < 50*time.Millisecond {
			return s.interrupted(ctx)
		}
		err := s.sleep(ctx, owed)
		owed = 0
		return err
	}
	var last storage.ObjectID
	unreadable := map[storage.ObjectID]bool{}
	for {
		if err := s.interrupted(ctx); err != nil {
			return objects, err
		}
		at, id, ok, err := s.index.first(prefixVerified, unreadable)
		if err != nil || !ok || at >= since.Unix() || id == last {
			return objects, err // the same object again: it could not be noted
		}
		last = id
		objects++
		_, err = s.verify(ctx, id, pace)
		s.met.scrubbed.Add(1)
		switch {
		case err == nil:
			s.giveUp(ctx, unreadable, pace)
		case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrNotFound):
		case errors.Is(err, syscall.EIO) && len(unreadable) < maxUnreadable:
			unreadable[id] = true
		default:
			return objects, err
		}
		if err := pace(minScrubCost); err != nil {
			return objects, err
		}
	}
}

// giveUp looks again at objects that the disk could not read, now that it has read another: so it is they and not the disk. Those that it still cannot read are damaged copies.
func (s *Store) giveUp(ctx context.Context, unreadable map[storage.ObjectID]bool, pace func(int64) error) {
	for id := range unreadable {
		delete(unreadable, id)
		e, err := s.find(id)
		if err != nil {
			continue
		}
		if _, err = s.verify(ctx, id, pace); errors.Is(err, syscall.EIO) {
			_ = s.damage(id, e, "the disk cannot read it", nil)
		}
	}
}

const (
	minScrubCost  = 4096      // an object costs the disk at least this
	maxUnreadable = 16        // objects in a row that cannot be read: then it is the disk
	scrubPause    = time.Hour // at most, between looks at the queue
	minPause      = time.Minute
)

func (s *Store) scrubLoop(ctx context.Context) {
	for {
		if _, err := s.scrub(ctx, s.cfg.Now().Add(-s.cfg.ScrubAge), s.cfg.ScrubRate); err != nil && s.interrupted(ctx) == nil {
			s.cfg.Log.Warn("scrub", "err", err)
		}
		pause := scrubPause
		if at, _, ok, err := s.index.first(prefixVerified, nil); err == nil && ok {
			pause = min(pause, max(minPause, time.Unix(at, 0).Add(s.cfg.ScrubAge).Sub(s.cfg.Now())))
		}
		if s.sleep(ctx, pause) != nil {
			return
		}
	}
}

func (s *Store) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.stop:
		return storage.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
