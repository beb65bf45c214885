package front

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

// Records says where records are kept.
type Records struct {
	// URLs of PostgreSQL databases, one a shard, as pgx reads them. None means the embedded store, in the state directory.
	URLs []string `json:"urls,omitempty"`

	// CacheMB is the memory for the embedded store's blocks, in MiB; 0 means 32.
	CacheMB int64 `json:"cache_mb,omitempty"`
}

// open opens the store of records.
func (r Records) open(ctx context.Context, dir string, log *slog.Logger) (metastore.Store, error) {
	if len(r.URLs) == 0 {
		cache := r.CacheMB
		if cache == 0 {
			cache = 32
		}
		s, err := pebble.Open(filepath.Join(dir, "records"), pebble.Config{CacheSize: cache << 20, Logger: log})
		if err != nil {
			return nil, fmt.Errorf("records: %w", err)
		}
		return s, nil
	}
	return nil, errors.New("records: PostgreSQL is not wired")
}
