package metastoretest

import (
	"context"
	"fmt"
	"iter"
	"strconv"

	"github.com/mobulacloud/mobula/storage/metastore"
)

func position(n int) metastore.Position { return metastore.Position(strconv.Itoa(n)) }

func (m *Memory) append(c metastore.Change) {
	m.log = append(m.log, c)
	close(m.wake)
	m.wake = make(chan struct{})
}

// Position implements metastore.Store.
func (m *Memory) Position(ctx context.Context) (metastore.Position, error) {
	if err := m.lock(ctx); err != nil {
		return "", err
	}
	defer m.mu.Unlock()
	return position(len(m.log)), nil
}

// Forget empties the change log, so that a Watch from an earlier position is metastore.ErrPositionGone.
func (m *Memory) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.log {
		m.log[i] = metastore.Change{Position: "gone"}
	}
}

// Watch implements metastore.Store. It gives one notice for every change.
func (m *Memory) Watch(ctx context.Context, after metastore.Position, names ...string) iter.Seq2[metastore.Change, error] {
	return func(yield func(metastore.Change, error) bool) {
		wanted := map[string]bool{}
		for _, name := range names {
			wanted[name] = true
		}
		at, err := m.begin(ctx, after, names)
		for err == nil {
			var c metastore.Change
			var wake <-chan struct{}
			if c, at, wake, err = m.next(ctx, at, wanted); err != nil {
				break
			}
			if wake == nil {
				if !yield(c, nil) {
					return
				}
				continue
			}
			select {
			case <-wake:
			case <-m.closed:
				err = metastore.ErrClosed
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		yield(metastore.Change{}, err)
	}
}

func (m *Memory) begin(ctx context.Context, after metastore.Position, names []string) (at int, err error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	for _, name := range names {
		b, err := m.bucket(name)
		if err != nil {
			return 0, err
		}
		if !b.schema.Watched {
			return 0, fmt.Errorf("%w: bucket %s is not watched", metastore.ErrInvalid, name)
		}
	}
	if after == "" {
		for at < len(m.log) && m.log[at].Position == "gone" {
			at++
		}
		return at, nil
	}
	at, err = strconv.Atoi(string(after))
	switch {
	case err != nil || at < 0:
		return 0, fmt.Errorf("%w: position %.80q", metastore.ErrInvalid, after)
	case at > len(m.log) || at < len(m.log) && m.log[at].Position == "gone":
		return 0, metastore.ErrPositionGone
	}
	return at, nil
}

// next returns the next change after a place, or what to wait for.
func (m *Memory) next(ctx context.Context, at int, wanted map[string]bool) (metastore.Change, int, <-chan struct{}, error) {
	if err := m.lock(ctx); err != nil {
		return metastore.Change{}, at, nil, err
	}
	defer m.mu.Unlock()
	for ; at < len(m.log); at++ {
		c := m.log[at]
		if c.Position == "gone" {
			return c, at, nil, metastore.ErrPositionGone
		}
		b := m.buckets[c.Bucket]
		if b == nil || !wanted[c.Bucket] {
			continue
		}
		if r, ok := b.get(c.Key); ok {
			r = copyRecord(r)
			c.Record = &r
		}
		c.Position = position(at + 1)
		return c, at + 1, nil, nil
	}
	return metastore.Change{}, at, m.wake, nil
}
