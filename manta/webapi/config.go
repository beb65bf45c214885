package webapi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage/durable"
)

// A Dialect is a version of the wire protocol. Clients tell them apart by the Server header.
type Dialect int

// Dialects. Both serve the same routes; V2 refuses snaplinks.
const (
	V1 Dialect = iota // Server: Manta
	V2                // Server: Manta/2
)

// String returns the value of the Server header.
func (d Dialect) String() string {
	if d == V2 {
		return "Manta/2"
	}
	return "Manta"
}

// Config describes a Server.
type Config struct {
	Namespace *namespace.Namespace // required
	Storage   *durable.Store       // required
	Identity  Identity             // required; an *authcache.Cache

	// Uploads serves multipart uploads; nil means that there are none, and no uploads directories either.
	Uploads *mpu.Service

	Dialect Dialect

	// Name is the x-server-name of answers; "" means the host's name.
	Name string

	// MaxObjectSize bounds an object in bytes, and is what a chunked upload may send without a max-content-length; 0 means 51,200 MB.
	MaxObjectSize int64

	// Copies are how many an object gets that does not say, MaxCopies how many it may ask for; 0 means 2 and 9.
	Copies, MaxCopies int

	// StallTimeout is how long an upload may bring no bytes; 0 means 45 s. IdleTimeout is how long a connection may be idle between
	// requests, over its headers, or over taking an answer; 0 means 120 s.
	StallTimeout, IdleTimeout time.Duration

	// MaxConnections beyond which requests are answered with ThrottledError; 0 means 16,384.
	MaxConnections int

	// MaxRequests at work at the same time, beyond which likewise; 0 means 8,192.
	MaxRequests int

	// MaxReads of objects at the same time, beyond which likewise; 0 means 512. Each holds a few buffers of 256 KiB at the most.
	MaxReads int

	// MaxDrain is how many bytes of a refused body are read, so that a client that sends first and reads later gets its answer;
	// 0 means 64 MiB. A longer body ends with the connection.
	MaxDrain int64

	// ClearText says that this server's own port is the unprotected one: requests are refused unless they are pre-signed or read public
	// objects. [Server.ClearText] gives a second handler with this set.
	ClearText bool

	// SnaplinksDisabled are uuids of accounts that may not make snaplinks, nor be linked to.
	SnaplinksDisabled []string

	// DocsURL is where "/" and "/docs" lead; "" means the public documentation of the original's API.
	DocsURL string

	// Forwarded says that a proxy of one's own stands in front and names the caller's address in X-Forwarded-For. Without it that header is not
	// believed.
	Forwarded bool

	// Routes are further routes, which win against the server's own.
	Routes []Route

	// Audit is told of every request that has ended. It must not block; see [AuditLog].
	Audit func(*Audit)

	// Logger hears of faults; nil discards.
	Logger *slog.Logger
}

const docsURL = "https://apidocs.tritondatacenter.com/manta/"

func (cfg *Config) check() error {
	var errs []error
	for _, required := range []struct {
		name string
		nil  bool
	}{{"Namespace", cfg.Namespace == nil}, {"Storage", cfg.Storage == nil}, {"Identity", cfg.Identity == nil}} {
		if required.nil {
			errs = append(errs, fmt.Errorf("webapi: Config.%s is required", required.name))
		}
	}
	if cfg.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			errs = append(errs, fmt.Errorf("webapi: Config.Name: %w", err))
		}
		cfg.Name = host
	}
	cfg.MaxObjectSize = cmp.Or(cfg.MaxObjectSize, 51200<<20)
	cfg.Copies = cmp.Or(cfg.Copies, 2)
	cfg.MaxCopies = cmp.Or(cfg.MaxCopies, 9)
	cfg.StallTimeout = cmp.Or(cfg.StallTimeout, 45*time.Second)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, 120*time.Second)
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, 16384)
	cfg.MaxRequests = cmp.Or(cfg.MaxRequests, 8192)
	cfg.MaxReads = cmp.Or(cfg.MaxReads, 512)
	cfg.MaxDrain = cmp.Or(cfg.MaxDrain, 64<<20)
	cfg.DocsURL = cmp.Or(cfg.DocsURL, docsURL)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxObjectSize < 0 || cfg.Copies < 0 || cfg.Copies > cfg.MaxCopies || cfg.StallTimeout < 0 || cfg.IdleTimeout < 0 ||
		cfg.MaxConnections < 0 || cfg.MaxRequests < 0 || cfg.MaxReads < 0 || cfg.MaxDrain < 0 {
		errs = append(errs, errors.New("webapi: a limit is negative, or Copies is above MaxCopies"))
	}
	if cfg.Dialect != V1 && cfg.Dialect != V2 {
		errs = append(errs, fmt.Errorf("webapi: Config.Dialect is %d", cfg.Dialect))
	}
	return errors.Join(errs...)
}
