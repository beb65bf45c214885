package front

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
	"github.com/mobulacloud/mobula/storage/metastore/postgres"
	"github.com/mobulacloud/mobula/storage/metastore/shard"
)

// Records says where records are kept.
type Records struct {
	// URLs of PostgreSQL databases, one a shard, as pgx reads them; always in the same order, new ones at the end. None means the embedded
	// store, in the state directory.
	URLs []string `json:"urls,omitempty"`

	// CacheMB is the memory for the embedded store's blocks, in MiB; 0 means 32.
	CacheMB int64 `json:"cache_mb,omitempty"`
}

// open opens the store of records.
func (r Records) open(ctx context.Context, dir string, log *slog.Logger) (metastore.Store, error) {
	switch len(r.URLs) {
	case 0:
		s, err := pebble.Open(filepath.Join(dir, "records"), pebble.Config{CacheSize: cmp.Or(r.CacheMB, 32) << 20, Logger: log})
		if err != nil {
			return nil, fmt.Errorf("records: %w", err)
		}
		return s, nil
	case 1:
		s, err := postgres.Open(ctx, r.URLs[0], postgres.Config{Logger: log})
		if err != nil {
			return nil, fmt.Errorf("records: %w", err)
		}
		return s, nil
	}
	return r.openRing(ctx, log)
}

// openRing opens every shard and the ring over them. A shard is known by its place among the URLs.
func (r Records) openRing(ctx context.Context, log *slog.Logger) (_ metastore.Store, err error) {
	var shards []shard.Shard
	defer func() {
		if err != nil {
			for _, s := range shards {
				err = errors.Join(err, s.Store.Close())
			}
		}
	}()
	for i, url := range r.URLs {
		s, err := postgres.Open(ctx, url, postgres.Config{Logger: log})
		if err != nil {
			return nil, fmt.Errorf("records: shard %d: %w", i+1, err)
		}
		shards = append(shards, shard.Shard{Name: strconv.Itoa(i + 1), Store: s})
	}
	ring, err := shard.Open(ctx, shards, shard.Config{Logger: log})
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	return ring, nil
}
