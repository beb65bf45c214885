package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// claimBucket holds one record, which says who is at it and how far.
const claimBucket = "manta_audit"

var claimKey = metastore.Key{Name: "claim"}

// ErrClaimed says that another process is auditing, or has taken over.
var ErrClaimed = errors.New("audit: another process is at it")

// How often a claim is renewed, and when one that was not may be taken over. Clocks of head nodes may differ by a good part of that.
const (
	beatEvery    = time.Minute
	claimExpires = 15 * time.Minute
)

// claimRecord is format 1.
type claimRecord struct {
	Holder   string `json:"holder,omitempty"`
	Beat     int64  `json:"beat,omitempty"`     // when Holder was last alive, ms
	Slice    int    `json:"slice,omitempty"`    // to do next
	Slices   int    `json:"slices,omitempty"`   // of the round under way; 0 when there is none
	Finished int64  `json:"finished,omitempty"` // the last round, ms
}

// A claim is held while a round runs.
type claim struct {
	a      *Auditor
	record claimRecord
	etag   string
	beat   time.Time // on this process's own clock
}

// read returns the claim as it is.
func (a *Auditor) read(ctx context.Context) (metastore.Item[claimRecord], error) {
	item, err := a.claims.Get(ctx, claimKey)
	if errors.Is(err, metastore.ErrNotFound) {
		return metastore.Item[claimRecord]{}, nil
	}
	if err != nil {
		return item, fmt.Errorf("read the audit's claim: %w", err)
	}
	return item, nil
}

// due says how long it is until a round may begin or go on.
func (a *Auditor) due(ctx context.Context) (time.Duration, error) {
	item, err := a.read(ctx)
	if err != nil {
		return 0, err
	}
	r := item.Value
	if r.Finished > 0 {
		a.count(func(m *Metrics) { m.LastRound = time.UnixMilli(r.Finished) })
	}
	now := a.cfg.Now()
	switch {
	case r.Holder != "":
		return time.UnixMilli(r.Beat).Add(claimExpires).Sub(now), nil
	case r.Slices > 0 || r.Finished == 0:
		return 0, nil
	}
	return time.UnixMilli(r.Finished).Add(a.cfg.Interval).Sub(now), nil
}

// claim takes the claim, over from a holder that is no more, if need be.
func (a *Auditor) claim(ctx context.Context) (*claim, error) {
	item, err := a.read(ctx)
	if err != nil {
		return nil, err
	}
	r := item.Value
	if r.Holder != "" && a.cfg.Now().Before(time.UnixMilli(r.Beat).Add(claimExpires)) {
		return nil, ErrClaimed
	}
	c := &claim{a: a, record: r, etag: item.Etag}
	c.record.Holder = a.holder
	return c, c.save(ctx)
}

// save writes the claim, if it is still ours.
func (c *claim) save(ctx context.Context) error {
	c.beat = time.Now()
	c.record.Beat = c.a.cfg.Now().UnixMilli()
	etag, err := c.a.claims.Put(ctx, claimKey, c.record, metastore.EtagIs(c.etag))
	if errors.Is(err, metastore.ErrConflict) {
		return ErrClaimed
	}
	if err != nil {
		return fmt.Errorf("write the audit's claim: %w", err)
	}
	c.etag = etag
	return nil
}

// alive renews the claim now and then. Call it often.
func (c *claim) alive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if time.Since(c.beat) < beatEvery {
		return nil
	}
	return c.save(ctx)
}

// pause waits, and stays alive meanwhile.
func (c *claim) pause(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); ; {
		if err := c.alive(ctx); err != nil {
			return err
		}
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		if err := pause(ctx, min(left, beatEvery)); err != nil {
			return err
		}
	}
}

// release gives the claim up with the round unfinished, so that anybody may go on with it.
func (c *claim) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	c.record.Holder = ""
	return c.save(ctx)
}

// finish gives the claim up at the end of a round.
func (c *claim) finish(ctx context.Context) error {
	c.record = claimRecord{Finished: c.a.cfg.Now().UnixMilli()}
	return c.save(ctx)
}
