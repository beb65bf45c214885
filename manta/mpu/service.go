package mpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/picker"
)

// Limits of uploads.
const (
	MaxParts    = 10000
	MinPartSize = 5 << 20 // bytes; of every part but the last
)

// Buckets that hold the finalizing records, and a line for every upload by the time of its creation.
const (
	finalBucket = "manta_uploads"
	openBucket  = "manta_uploads_open"
)

// Config says what multipart uploads stand on. Namespace, Store and Storage are required.
type Config struct {
	Namespace *namespace.Namespace
	Store     metastore.Store // the one under Namespace
	Storage   Storage
	Nodes     Chooser

	// PrefixLen is how many digits of an id its directory's prefix has, 1 to 4; 0 means 3.
	PrefixLen int

	// MaxSize is the room that the nodes of an upload of unknown size must have, in bytes; 0 leaves that to the picker.
	MaxSize int64

	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// Logger hears of what is cleaned up; nil discards.
	Logger *slog.Logger
}

// Storage joins, copies and deletes bytes; *[durable.Store] does.
type Storage interface {
	Create(ctx context.Context, req durable.CreateRequest) (*durable.Upload, error)
	Open(ctx context.Context, loc durable.Location, off, n int64) (io.ReadCloser, error)
	Assemble(ctx context.Context, target storage.ObjectID, parts []storage.ObjectID, sharks []storage.Shark, size int64) (durable.Stored, error)
	Delete(ctx context.Context, loc durable.Location) error
}

// Chooser finds nodes for new copies, as [durable.Nodes] does.
type Chooser interface {
	Choose(req picker.Request) ([]picker.Tuple, error)
}

// A Service keeps multipart uploads. Its methods may be called by any number of goroutines at once.
type Service struct {
	cfg Config
	log *slog.Logger
}

// New checks the configuration and returns a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Namespace == nil || cfg.Store == nil || cfg.Storage == nil || cfg.Nodes == nil {
		return nil, errors.New("mpu: Config.Namespace, Store, Storage and Nodes are required")
	}
	if cfg.PrefixLen == 0 {
		cfg.PrefixLen = 3
	}
	if cfg.PrefixLen < 1 || cfg.PrefixLen > 4 {
		return nil, fmt.Errorf("mpu: Config.PrefixLen is %d, not 1 to 4", cfg.PrefixLen)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg, log: cfg.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// Define makes the buckets of uploads. It may be repeated.
func (s *Service) Define(ctx context.Context) error {
	for _, b := range []metastore.Bucket{
		{Name: finalBucket, Version: 1, Indexes: []metastore.Index{{Field: "time", Type: metastore.Number}}},
		{Name: openBucket, Version: 1, Indexes: []metastore.Index{{Field: "time", Type: metastore.Number}}},
	} {
		if err := s.cfg.Store.Define(ctx, b); err != nil {
			return fmt.Errorf("define bucket %s: %w", b.Name, err)
		}
	}
	return nil
}
