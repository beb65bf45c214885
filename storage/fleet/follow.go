package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// Run follows the records and looks after nodes that are down until ctx ends, whose error it returns. When the
// metastore fails, the Fleet goes on with what it knows, and Run tries again.
func (f *Fleet) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { f.runProbes(ctx) })
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(10*time.Second),
		backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		began := time.Now()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > time.Minute {
			retry.Reset()
		}
		f.log.WarnContext(ctx, "following storage nodes failed", "err", err)
		timer := time.NewTimer(retry.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	loops.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		if n.dialled != nil {
			closeNode(n.dialled)
			n.dialled = nil
		}
	}
	return context.Cause(ctx)
}

// follow reads all records and then their changes, until something fails.
func (f *Fleet) follow(ctx context.Context) error {
	at, err := f.cfg.Store.Position(ctx)
	if err != nil {
		return fmt.Errorf("position: %w", err)
	}
	seen := map[string]bool{}
	for _, bucket := range []string{MemberBucket, ReportBucket} {
		for r, err := range f.cfg.Store.Find(ctx, bucket, metastore.Query{Partition: metastore.In("")}) {
			if err != nil {
				return fmt.Errorf("list %s: %w", bucket, err)
			}
			f.apply(bucket, r.Key, &r)
			seen[bucket+"/"+r.Key.Name] = true
		}
	}
	f.forget(seen)
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
	for change, err := range f.cfg.Store.Watch(ctx, at, MemberBucket, ReportBucket) {
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		f.apply(change.Bucket, change.Key, change.Record)
	}
	return nil
}

// forget drops what a full listing did not show.
func (f *Fleet) forget(seen map[string]bool) {
	f.mu.RLock()
	var gone []metastore.Change
	for id := range f.nodes {
		if !seen[ReportBucket+"/"+id] {
			gone = append(gone, metastore.Change{Bucket: ReportBucket, Key: key(id)})
		}
	}
	for id := range f.members {
		if !seen[MemberBucket+"/"+id] {
			gone = append(gone, metastore.Change{Bucket: MemberBucket, Key: key(id)})
		}
	}
	f.mu.RUnlock()
	for _, c := range gone {
		f.apply(c.Bucket, c.Key, nil)
	}
}

// apply takes up one record; nil means that it is gone. A record that cannot be read is logged and passed over, for one bad
// record must not blind the fleet.
func (f *Fleet) apply(bucket string, k metastore.Key, r *metastore.Record) {
	var err error
	switch bucket {
	case MemberBucket:
		var m Member
		if r != nil {
			err = json.Unmarshal(r.Value, &m)
		}
		if err == nil {
			f.setMember(k.Name, m, r != nil)
		}
	case ReportBucket:
		var rec record
		if r != nil {
			err = json.Unmarshal(r.Value, &rec)
			rec.Node = k.Name
		}
		if err == nil {
			f.setReport(k.Name, rec, r != nil)
		}
	}
	if err != nil {
		f.log.Error("unreadable record of a storage node", "bucket", bucket, "node", k.Name, "err", err)
	}
}

func (f *Fleet) setMember(id string, m Member, there bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !there {
		delete(f.members, id)
	} else {
		f.members[id] = m
	}
	f.stale = true
	close(f.heard)
	f.heard = make(chan struct{})
}

// silence is how long after its last report a node's next one is news.
const silence = 2 * DefaultInterval

func (f *Fleet) setReport(id string, rec record, there bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[id]
	if !there {
		if n != nil && n.dialled != nil {
			closeNode(n.dialled)
		}
		delete(f.nodes, id)
		f.stale = true
		return
	}
	if n == nil {
		n = &node{sign: make(chan struct{}, 1)}
		f.nodes[id] = n
		f.stale = true
	}
	if n.dialled != nil && n.address != rec.Address {
		closeNode(n.dialled)
		n.dialled = nil
	}
	if rec.Usage.ReadOnly != n.report.Usage.ReadOnly {
		f.stale = true
	}
	at := time.UnixMilli(rec.Timestamp)
	if at.Sub(n.reported) > silence {
		f.stale = true // the view may hold it for gone
	}
	n.report, n.reported = rec.Report, at
	f.dirty = true
	close(f.heard)
	f.heard = make(chan struct{})
	if n.down != "" {
		// It reports, so it lives; whether it can be reached from here is for the probe to say.
		f.probe(n)
	}
}
