package shard

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// The ring's own buckets. The map is in the first shard; fences and notes are in every one.
const (
	bucketMap   = "shard_map"
	bucketFence = "shard_fence"
	bucketDirty = "shard_dirty"

	mapFormat = 1
)

var mapKey = metastore.Key{Name: "map"}

// ringMap is the map as it is stored.
type ringMap struct {
	Format int        `json:"format"`
	Shards []mapShard `json:"shards"`
	Owners []int      `json:"owners"` // of each virtual node, in Shards
	Moves  []mapMove  `json:"moves,omitempty"`
	NextID int        `json:"next_id"`
}

type mapShard struct {
	Name string `json:"name"`

	// Joined is where the shard's change log was when it came to the ring: a watcher from before then begins there.
	Joined metastore.Position `json:"joined"`
}

// mapMove is a move under way.
type mapMove struct {
	ID     int    `json:"id"`
	VNodes []int  `json:"vnodes"`
	From   int    `json:"from"`
	To     int    `json:"to"`
	Phase  string `json:"phase"`
}

// The phases of a move. Before the switch it can be aborted, after it only completed.
const (
	phaseCopy  = "copy"
	phaseAbort = "abort"
	phaseClean = "clean"
)

// A ring is one state of the map, as this process knows it. It is immutable but for its fences' cache.
type ring struct {
	ringMap
	etag   string
	stores []metastore.Store // as Shards
	fences []map[int]fence   // as Shards, by virtual node
}

func vnode(partition string, of int) int {
	sum := sha256.Sum256([]byte(partition))
	return int(binary.BigEndian.Uint64(sum[:]) % uint64(of))
}

func (r *ring) vnode(partition string) int { return vnode(partition, len(r.Owners)) }

func (r *ring) owner(partition string) int { return r.Owners[r.vnode(partition)] }

// A known is the ring with the time up to which it may be trusted.
type known struct {
	ring  *ring
	until time.Time

	// Lower bounds of the shards' change logs, for the positions of commits.
	positions []metastore.Position
}

// current returns a ring that no move has switched for longer than MapTTL: writers on a moved virtual node wait that
// long, so that nobody reads at its old place what has been written at the new one.
func (s *Store) current(ctx context.Context) (*known, error) {
	if k := s.known.Load(); k != nil && time.Now().Before(k.until) {
		return k, nil
	}
	return s.refresh(ctx, nil)
}

// refresh reads the map again, and the fences if it has changed or they are those of stale.
func (s *Store) refresh(ctx context.Context, stale *known) (*known, error) {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	have := s.known.Load()
	if have != nil && time.Now().Before(have.until) && have != stale {
		return have, nil // somebody else has just done it
	}
	asked := time.Now()
	record, err := s.shards[0].Store.Get(ctx, bucketMap, mapKey)
	if err != nil {
		return nil, fmt.Errorf("read the shard map: %w", err)
	}
	next := &known{until: asked.Add(s.config.MapTTL)}
	if have != nil && have.ring.etag == record.Etag && (stale == nil || stale.ring != have.ring) {
		next.ring = have.ring
	} else if next.ring, err = s.readRing(ctx, record); err != nil {
		return nil, err
	}
	for i, store := range next.ring.stores {
		if store == nil {
			next.positions = append(next.positions, "")
			continue
		}
		p, err := store.Position(ctx)
		if err != nil {
			return nil, fmt.Errorf("shard %s: %w", next.ring.Shards[i].Name, err)
		}
		next.positions = append(next.positions, p)
	}
	s.known.Store(next)
	return next, nil
}

func (s *Store) readRing(ctx context.Context, record metastore.Record) (*ring, error) {
	r := &ring{etag: record.Etag}
	if err := json.Unmarshal(record.Value, &r.ringMap); err != nil {
		return nil, fmt.Errorf("decode the shard map: %w", err)
	}
	if r.Format != mapFormat || len(r.Owners) == 0 || slices.Min(r.Owners) < 0 || slices.Max(r.Owners) >= len(r.Shards) {
		return nil, fmt.Errorf("%w: the shard map has format %d, and this program knows %d", metastore.ErrInvalid, r.Format, mapFormat)
	}
	for i, x := range r.Shards {
		at := slices.IndexFunc(s.shards, func(y Shard) bool { return y.Name == x.Name })
		if at < 0 {
			if slices.Contains(r.Owners, i) {
				return nil, fmt.Errorf("%w: the map names shard %s, which has not been opened", metastore.ErrUnavailable, x.Name)
			}
			// Drained and left out.
			r.stores, r.fences = append(r.stores, nil), append(r.fences, nil)
			continue
		}
		fences, err := readFences(ctx, s.shards[at].Store)
		if err != nil {
			return nil, fmt.Errorf("shard %s: %w", x.Name, err)
		}
		r.stores, r.fences = append(r.stores, s.shards[at].Store), append(r.fences, fences)
	}
	return r, nil
}

// changeMap replaces the map by what change makes of it, if it is still the one that change saw. change may be called again.
func (s *Store) changeMap(ctx context.Context, change func(m *ringMap) error) error {
	first := s.shards[0].Store
	for {
		record, err := first.Get(ctx, bucketMap, mapKey)
		if err != nil && !errors.Is(err, metastore.ErrNotFound) {
			return fmt.Errorf("read the shard map: %w", err)
		}
		var m ringMap
		if err == nil {
			if err := json.Unmarshal(record.Value, &m); err != nil {
				return fmt.Errorf("decode the shard map: %w", err)
			}
		}
		if err := change(&m); err != nil {
			if errors.Is(err, errNoChange) {
				return nil
			}
			return err
		}
		value, err := json.Marshal(m)
		if err != nil {
			return err
		}
		_, err = first.Commit(ctx, metastore.Batch{metastore.Put{Bucket: bucketMap, Key: mapKey, Value: value, If: metastore.EtagIs(record.Etag)}})
		if err == nil {
			s.known.Store(nil)
			return nil
		}
		if !errors.Is(err, metastore.ErrConflict) {
			return fmt.Errorf("write the shard map: %w", err)
		}
	}
}

var errNoChange = errors.New("no change")
