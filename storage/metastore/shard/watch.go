package shard

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A vector is a position: one of each shard, by name.
type vector map[string]metastore.Position

func (v vector) position() metastore.Position {
	text, _ := json.Marshal(v) // cannot fail
	return metastore.Position(base64.RawURLEncoding.EncodeToString(text))
}

func parsePosition(p metastore.Position) (vector, error) {
	v := vector{}
	if p == "" {
		return v, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(string(p))
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: position %.80q", metastore.ErrInvalid, p)
	}
	return v, nil
}

// position is just after a batch on one shard. Of the others it knows where they were when the map was last read: a watcher from
// here may see some of their changes from a moment before.
func (k *known) position(shard int, own metastore.Position) metastore.Position {
	v := vector{}
	for i, x := range k.ring.Shards {
		if k.ring.stores[i] != nil {
			v[x.Name] = k.positions[i]
		}
	}
	v[k.ring.Shards[shard].Name] = own
	return v.position()
}

// Position implements metastore.Store.
func (s *Store) Position(ctx context.Context) (metastore.Position, error) {
	if err := s.open(ctx); err != nil {
		return "", err
	}
	v := vector{}
	for _, x := range s.shards {
		p, err := x.Store.Position(ctx)
		if err != nil {
			return "", fmt.Errorf("shard %s: %w", x.Name, err)
		}
		v[x.Name] = p
	}
	return v.position(), nil
}

// Watch implements metastore.Store: the changes of all shards, those of one shard in its order. A record that
// has moved since its change is read where it is now.
func (s *Store) Watch(ctx context.Context, after metastore.Position, buckets ...string) iter.Seq2[metastore.Change, error] {
	return func(yield func(metastore.Change, error) bool) {
		if err := s.watch(ctx, after, buckets, yield); err != nil {
			yield(metastore.Change{}, err)
		}
	}
}

type notice struct {
	shard  string
	change metastore.Change
	err    error
}

func (s *Store) watch(ctx context.Context, after metastore.Position, buckets []string, yield func(metastore.Change, error) bool) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	at, err := parsePosition(after)
	if err != nil {
		return err
	}
	for _, b := range buckets {
		if reserved(b) {
			return fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, b)
		}
	}
	k, err := s.current(ctx)
	if err != nil {
		return err
	}
	if after != "" {
		// A shard that joined after the position was taken had nothing of ours before it joined.
		for i, x := range k.ring.Shards {
			if _, ok := at[x.Name]; !ok && k.ring.stores[i] != nil {
				at[x.Name] = x.Joined
			}
		}
	}
	reading, stop := context.WithCancel(ctx)
	notices := make(chan notice)
	var readers sync.WaitGroup
	defer func() {
		stop()
		readers.Wait()
	}()
	for _, x := range s.shards {
		from := at[x.Name] // at itself changes as notices come
		readers.Go(func() {
			for c, err := range x.Store.Watch(reading, from, buckets...) {
				select {
				case notices <- notice{x.Name, c, err}:
				case <-reading.Done():
					return
				}
			}
		})
	}
	for {
		var n notice
		select {
		case n = <-notices:
		case <-s.done:
			return metastore.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
		if n.err != nil {
			if err := s.open(ctx); err != nil {
				return err
			}
			return fmt.Errorf("shard %s: %w", n.shard, n.err)
		}
		if err := s.settle(ctx, n.shard, &n.change); err != nil {
			return err
		}
		at[n.shard] = n.change.Position
		n.change.Position = at.position()
		if !yield(n.change, nil) {
			return nil
		}
	}
}

// settle replaces the record of a change by the owner's, if the shard that told of it is the owner no more.
func (s *Store) settle(ctx context.Context, shard string, c *metastore.Change) error {
	k, err := s.current(ctx)
	if err != nil {
		return err
	}
	if k.ring.Shards[k.ring.owner(c.Key.Partition)].Name == shard {
		return nil
	}
	r, err := s.Get(ctx, c.Bucket, c.Key)
	switch {
	case errors.Is(err, metastore.ErrNotFound):
		c.Record = nil
	case err != nil:
		return err
	default:
		c.Record = &r
	}
	return nil
}
