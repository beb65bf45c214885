package namespace

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// ListOptions select a page of a directory.
type ListOptions struct {
	// ByMtime sorts by modification time, newest first, instead of by name, bytewise. Reverse turns either order around.
	ByMtime, Reverse bool

	// Marker is the name to begin at, inclusive; with ByMtime, MarkerTime is. Zero values mean the beginning.
	Marker     string
	MarkerTime time.Time

	// Only restricts the page to one type; "" means both.
	Only manta.Type

	// Limit is the greatest number of entries; 0 means no limit.
	Limit int
}

// List yields entries of a directory with what a listing shows of them: of the copies only their number, and no headers or
// roles. The entry is the same each time round, with new content; keep a copy, not the pointer. A directory that does not exist is as
// one that is empty. The sequence ends after an error, which is its last element.
func (n *Namespace) List(ctx context.Context, dir manta.Key, o ListOptions) iter.Seq2[*manta.Entry, error] {
	q := metastore.Query{Partition: metastore.In(string(dir))}
	switch {
	case o.ByMtime:
		q.OrderBy, q.Descending = "mtime", !o.Reverse
		if !o.MarkerTime.IsZero() {
			q.From = float64(o.MarkerTime.UnixMilli())
		}
	default:
		if q.Descending = o.Reverse; o.Marker != "" {
			q.From = o.Marker
		}
		if o.Only == manta.TypeDirectory {
			// Dirents are in an index of their own, so a few directories among a million objects are found at once.
			q.OrderBy = "subdir"
		}
	}
	if o.Limit > 0 && (o.Only == "" || q.OrderBy == "subdir") {
		q.Limit = o.Limit + 1 // the head may be among them
	}
	return func(yield func(*manta.Entry, error) bool) {
		var e manta.Entry
		left := o.Limit
		for rec, err := range n.store.Find(ctx, Bucket, q) {
			if err == nil && rec.Key.Name == "" {
				continue
			}
			if err == nil {
				e.Key = dir.Join(rec.Key.Name)
				err = decode(rec.Value, &e, false)
			}
			if err != nil {
				yield(nil, fmt.Errorf("list %s: %w", dir, err))
				return
			}
			if o.Only != "" && e.Type != o.Only {
				continue
			}
			if !yield(&e, nil) {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	}
}

// Count returns the number of entries in a directory.
func (n *Namespace) Count(ctx context.Context, dir manta.Key) (int64, error) {
	count, err := n.store.Counter(ctx, Bucket, headKey(dir))
	if err != nil {
		return 0, fmt.Errorf("count entries of %s: %w", dir, err)
	}
	return count, nil
}

// CheckRoom returns [ErrFull] when a directory holds as many entries as it may. A put finds that out by itself; this is for callers who would rather
// know before they take an object's bytes.
func (n *Namespace) CheckRoom(ctx context.Context, dir manta.Key) error {
	if n.rooms.free(dir, time.Now()) {
		return nil
	}
	count, err := n.Count(ctx, dir)
	if err == nil && count >= n.max {
		err = fmt.Errorf("%w: %s", ErrFull, dir)
	}
	return err
}
