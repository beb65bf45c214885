package front

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
	"github.com/mobulacloud/mobula/storage/metastore/postgres"
	"github.com/mobulacloud/mobula/storage/metastore/shard"
)

// Records says where records are kept.
type Records struct {
	// URLs of PostgreSQL databases, one a shard, as pgx reads them; always the same one first. A shard is known by its place, from 1, or by a
	// name in front of the URL and a "=". None means the embedded store, in the state directory.
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
		_, url := named(0, r.URLs[0])
		s, err := postgres.Open(ctx, url, postgres.Config{Logger: log})
		if err != nil {
			return nil, fmt.Errorf("records: %w", err)
		}
		return s, nil
	}
	return r.openRing(ctx, log)
}

// named splits a shard's name from its URL.
func named(i int, url string) (name, rest string) {
	if name, rest, ok := strings.Cut(url, "="); ok && !strings.ContainsAny(name, ":/ ") && strings.HasPrefix(rest, "postgres") {
		return name, rest
	}
	return strconv.Itoa(i + 1), url
}

// openRing opens every shard and the ring over them.
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
		name, url := named(i, url)
		s, err := postgres.Open(ctx, url, postgres.Config{Logger: log})
		if err != nil {
			return nil, fmt.Errorf("records: shard %s: %w", name, err)
		}
		shards = append(shards, shard.Shard{Name: name, Store: s})
	}
	ring, err := shard.Open(ctx, shards, shard.Config{Logger: log})
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	return ring, nil
}
