package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mobulacloud/mobula/storage/metastore"
)

const (
	watchPage = 512

	// lostNotice bounds the wait for a change whose committer died between its commit and its notice.
	lostNotice = 5 * time.Second

	trimEvery = time.Minute
)

// A hub wakes the watchers of this process, and has the notifier tell other processes.
type hub struct {
	mu       sync.Mutex
	wake     chan struct{} // closed at each change
	pending  chan struct{} // a notice is due
	watchers int
	stop     context.CancelFunc // ends the listener
}

func (h *hub) init() {
	h.wake = make(chan struct{})
	h.pending = make(chan struct{}, 1)
}

func (h *hub) waiter() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wake
}

func (h *hub) rouse() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.wake)
	h.wake = make(chan struct{})
}

// changed says that a commit with changes is visible.
func (h *hub) changed() {
	h.rouse()
	select {
	case h.pending <- struct{}{}:
	default: // the notice that is due covers this change, too
	}
}

func (s *Store) channel() string { return s.config.Schema + "_changes" }

// notifier sends notices, one for however many commits there were meanwhile, and trims the log now and then.
func (s *Store) notifier() {
	trim := time.NewTimer(trimEvery)
	defer trim.Stop()
	for {
		var err error
		select {
		case <-s.done.Done():
			return
		case <-s.watch.pending:
			_, err = s.pool.Exec(s.done, s.sql.notify, s.channel())
		case <-trim.C:
			err = s.trim(s.done)
			trim.Reset(trimEvery)
		}
		if err != nil && s.done.Err() == nil {
			s.config.Logger.Warn("metastore change log", "err", unavailable("change log", err))
		}
	}
}

// trim removes changes beyond their age. Of two processes that do it at once one finds less to do.
func (s *Store) trim(ctx context.Context) error {
	return s.transact(ctx, func(tx pgx.Tx) error {
		var floor string
		if err := tx.QueryRow(ctx, s.sql.metaGet+" FOR UPDATE", "floor").Scan(&floor); err != nil {
			return err
		}
		var last string
		if err := tx.QueryRow(ctx, s.sql.trim, s.config.ChangeAge).Scan(&last); err != nil {
			return err
		}
		have, err1 := strconv.ParseUint(floor, 10, 64)
		gone, err2 := strconv.ParseUint(last, 10, 64)
		if err := errors.Join(err1, err2); err != nil || gone <= have {
			return err
		}
		_, err := tx.Exec(ctx, s.sql.metaSet, "floor", last)
		return err
	})
}

// listen holds a connection that wakes the watchers when another process has committed.
func (s *Store) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		s.config.Logger.Warn("metastore listener", "err", unavailable("listen", err))
		s.watch.rouse() // something may have been missed
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (s *Store) listenOnce(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{s.channel()}.Sanitize()); err != nil {
		return err
	}
	for {
		// What was committed before the connection listened has to be looked for once.
		s.watch.rouse()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

// join counts a watcher; the first one starts the listener, the last one stops it.
func (s *Store) join() (leave func(), err error) {
	h := &s.watch
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.done.Err() != nil {
		return nil, metastore.ErrClosed
	}
	if h.watchers++; h.watchers == 1 {
		var ctx context.Context
		ctx, h.stop = context.WithCancel(s.done)
		s.work.Go(func() { s.listen(ctx) })
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.watchers--; h.watchers == 0 {
			h.stop()
		}
	}, nil
}

// Position implements metastore.Store.
func (s *Store) Position(ctx context.Context) (metastore.Position, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	var text string
	if err := s.pool.QueryRow(ctx, `SELECT pg_current_snapshot()::text`).Scan(&text); err != nil {
		return "", unavailable("position", err)
	}
	at, err := parseSnapshot(text)
	return s.position(place{from: at, to: at}), err
}

// Watch implements metastore.Store. It shows changes once they are committed, from whatever process. When it loses the database it
// ends with metastore.ErrUnavailable: watch again from the last position.
func (s *Store) Watch(ctx context.Context, after metastore.Position, names ...string) iter.Seq2[metastore.Change, error] {
	return func(yield func(metastore.Change, error) bool) {
		if err := s.run(ctx, after, names, yield); err != nil {
			yield(metastore.Change{}, err)
		}
	}
}

func (s *Store) run(ctx context.Context, after metastore.Position, names []string, yield func(metastore.Change, error) bool) error {
	wanted, err := s.watchable(ctx, names)
	if err != nil {
		return err
	}
	at, err := s.parsePosition(after)
	if err != nil {
		return err
	}
	leave, err := s.join()
	if err != nil {
		return err
	}
	defer leave()
	first := after != ""
	for {
		wake := s.watch.waiter()
		changes, next, more, err := s.changes(ctx, at, wanted, first)
		if err != nil {
			if s.done.Err() != nil {
				return metastore.ErrClosed
			}
			return err
		}
		first = true
		for _, c := range changes {
			if !yield(c, nil) {
				return nil
			}
		}
		if at = next; more {
			continue
		}
		lost := time.NewTimer(lostNotice)
		select {
		case <-wake:
		case <-lost.C:
		case <-ctx.Done():
			err = ctx.Err()
		case <-s.done.Done():
			err = metastore.ErrClosed
		}
		lost.Stop()
		if err != nil {
			return err
		}
	}
}

func (s *Store) watchable(ctx context.Context, names []string) (map[string]bool, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := s.reload(ctx); err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, name := range names {
		b := s.buckets.Load().byName[name]
		switch {
		case b == nil:
			return nil, fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, name)
		case !b.Bucket.Watched:
			return nil, fmt.Errorf("%w: bucket %s is not watched", metastore.ErrInvalid, name)
		}
		wanted[name] = true
	}
	return wanted, nil
}

// changes reads a page after a place, and the place that it came to. All of it is of one snapshot, so what is gone from the
// log and the log itself cannot disagree.
func (s *Store) changes(ctx context.Context, at place, wanted map[string]bool, checkFloor bool) (list []metastore.Change, next place, more bool, err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, at, false, err
	}
	defer leave()
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var text, floorText, generation string
		if err := tx.QueryRow(ctx, s.sql.horizon).Scan(&text, &floorText, &generation); err != nil {
			return err
		}
		now, err := parseSnapshot(text)
		if err != nil {
			return err
		}
		floor, err := strconv.ParseUint(floorText, 10, 64)
		if err != nil {
			return err
		}
		if checkFloor && at.from.xmin <= floor || at.from.xmin > now.xmax {
			return metastore.ErrPositionGone
		}
		all := s.buckets.Load()
		if generation != all.generation {
			if all, err = s.loadBuckets(ctx, tx); err != nil {
				return err
			}
		}
		if at.settled() {
			at.to = now
		}
		list, next, more, err = s.read(ctx, tx, all, at, wanted)
		return err
	})
	return list, next, more, unavailable("watch", err)
}

func (s *Store) read(ctx context.Context, tx pgx.Tx, all *buckets, at place, wanted map[string]bool) (list []metastore.Change, next place, more bool, err error) {
	rows, err := tx.Query(ctx, s.sql.changes, at.from.String(), at.to.String(), strconv.FormatUint(at.xid, 10), at.n, watchPage)
	if err != nil {
		return nil, at, false, err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var xid string
		var id uint32
		var k row
		var etag *string
		var modified *time.Time
		var value []byte
		if err := rows.Scan(append(append([]any{&xid, &at.n, &id}, k.dest()...), &etag, &modified, &value)...); err != nil {
			return nil, at, false, err
		}
		n++
		if at.xid, err = strconv.ParseUint(xid, 10, 64); err != nil {
			return nil, at, false, err
		}
		b := all.byID[id]
		if b == nil || !wanted[b.Bucket.Name] {
			continue
		}
		c := metastore.Change{Position: s.position(at), Bucket: b.Bucket.Name, Key: k.key()}
		if etag != nil {
			c.Record = &metastore.Record{Bucket: c.Bucket, Key: c.Key, Value: value, Etag: *etag, Modified: modified.UTC()}
		}
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		return nil, at, false, err
	}
	if n == watchPage {
		return list, at, true, nil
	}
	// All that to sees is behind us now.
	return list, place{from: at.to, to: at.to}, n > 0, nil
}
