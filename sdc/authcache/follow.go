package authcache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// Run reads the directory and follows its changes until ctx ends; it then returns nil. After any interruption it reads the directory again, so that
// nothing is missed. Any other return is for a store that was closed, or has no directory in it.
func (c *Cache) Run(ctx context.Context) error {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	for {
		err := c.follow(ctx, wait.Reset)
		if ctx.Err() != nil {
			return nil
		}
		c.lost.CompareAndSwap(0, time.Now().UnixNano())
		if errors.Is(err, metastore.ErrClosed) || errors.Is(err, metastore.ErrNoBucket) {
			return fmt.Errorf("follow the directory of accounts: %w", err)
		}
		c.log.Warn("contact with the directory of accounts is lost", "err", err)
		select {
		case <-time.After(wait.NextBackOff()):
		case <-ctx.Done():
			return nil
		}
	}
}

// follow reads the directory once and then applies changes until something fails.
func (c *Cache) follow(ctx context.Context, connected func()) error {
	position, err := c.cfg.Store.Position(ctx)
	if err != nil {
		return err
	}
	buckets := ufds.Buckets()
	names := make([]string, len(buckets))
	next := new(snapshot)
	for i, b := range buckets {
		names[i] = b.Name
		for r, err := range c.cfg.Store.Find(ctx, b.Name, metastore.Query{Partition: metastore.In("")}) {
			if err != nil {
				return err
			}
			c.report(next.apply(b.Name, r.Key.Name, &r))
		}
	}
	c.snap.Store(next)
	c.marks.reach(next.mark)
	c.counters.reloads.Add(1)
	if c.lost.Swap(0) != 0 {
		c.log.Info("contact with the directory of accounts is back")
	}
	select {
	case <-c.ready:
	default:
		close(c.ready)
	}
	connected()
	for change, err := range c.cfg.Store.Watch(ctx, position, names...) {
		if err != nil {
			return err
		}
		next = next.copy()
		c.report(next.apply(change.Bucket, change.Key.Name, change.Record))
		c.snap.Store(next)
		c.marks.reach(next.mark)
		c.counters.changes.Add(1)
	}
	return errors.New("watch ended")
}

func (c *Cache) report(err error) {
	if err != nil {
		c.log.Error("a record of the directory cannot be used", "err", err)
	}
}
