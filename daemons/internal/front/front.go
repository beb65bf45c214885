// Package front wires the front of an object store: from records to the HTTP door. The head node runs one; so does coal.
//
// [Open] opens and checks everything and starts nothing; [Front.Run] keeps what must run, running; [Front.Close] ends it when the doors are shut.
//
// Stability: internal to the daemons.
package front

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/daemons/internal/admin"
	"github.com/mobulacloud/mobula/manta/audit"
	"github.com/mobulacloud/mobula/manta/gc"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/supervisor"
	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/manta/repair"
	"github.com/mobulacloud/mobula/manta/sessions"
	"github.com/mobulacloud/mobula/manta/webapi"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/fleet"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/picker"
)

// Config is the JSON section "store" of the daemons' files, and what the daemon adds. The zero value of each field means its documented default.
type Config struct {
	Records Records `json:"records,omitzero"`

	// Copies an object gets that does not ask for another number, and the most it may ask for; 2 and 9.
	Copies    int `json:"copies,omitempty"`
	MaxCopies int `json:"max_copies,omitempty"`

	// MaxObjectMB bounds one object; 51,200.
	MaxObjectMB int64 `json:"max_object_mb,omitempty"`

	// StreamingMB is the room that a node must have for an upload of unknown size; 5,120.
	StreamingMB int64 `json:"streaming_mb,omitempty"`

	// MaxPercentUsed is how full a node may be to take ordinary writes; 90.
	MaxPercentUsed int `json:"max_percent_used,omitempty"`

	// MaxInFlightMB bounds the memory of all uploads together; 96. Beyond it uploads are told to come again.
	MaxInFlightMB int64 `json:"max_in_flight_mb,omitempty"`

	// MaxConnections and MaxRequests at a time; 16,384 and 8,192.
	MaxConnections int `json:"max_connections,omitempty"`
	MaxRequests    int `json:"max_requests,omitempty"`

	// StallSeconds is how long an upload may bring nothing; 45. IdleSeconds is how long a connection may be idle; 120.
	StallSeconds int `json:"stall_seconds,omitempty"`
	IdleSeconds  int `json:"idle_seconds,omitempty"`

	// MultiDC demands that copies lie in two datacentres or more.
	MultiDC bool `json:"multi_dc,omitempty"`

	// UploadPrefix is how many digits of an id name a multipart upload's parent directory, 1 to 4; 3.
	UploadPrefix int `json:"upload_prefix,omitempty"`

	// RepairMBPerSecond bounds what the repair of copies reads, in MiB/s; no bound.
	RepairMBPerSecond int64 `json:"repair_mb_per_second,omitempty"`

	// GraceHours is how long the bytes of deleted objects are kept, and bytes that no record names; 48.
	GraceHours int `json:"grace_hours,omitempty"`

	// AuditHours is the time between two audits, which compare nodes with records; 24. Negative means none.
	AuditHours int `json:"audit_hours,omitempty"`

	// AuditPerSecond is how many copies and entries an audit looks at in a second; 10,000.
	AuditPerSecond int `json:"audit_per_second,omitempty"`

	// AuditMaxPercent of a node's copies may be without a record for the audit to delete them; 10. 100 deletes any number.
	AuditMaxPercent int `json:"audit_max_percent,omitempty"`

	// SnaplinksDisabled are uuids of accounts without snaplinks.
	SnaplinksDisabled []string `json:"snaplinks_disabled,omitempty"`

	// Tokens are the keys of authentication tokens. None means keys that are made at the first start and kept in the state directory.
	Tokens *authcache.TokenConfig `json:"tokens,omitempty"`

	Jobs Jobs `json:"jobs,omitzero"`

	Dir  string                                   `json:"-"` // of state
	Dial func(fleet.Report) (storage.Node, error) `json:"-"` // the storage node of a report
	Name string                                   `json:"-"` // the x-server-name of answers; the host's when empty
	Log  *slog.Logger                             `json:"-"`
	// Forwarded says that a proxy stands in front of the doors, whose X-Forwarded-For names callers.
	Forwarded bool `json:"-"`

	// Audit writes a line for every request to Log.
	Audit bool `json:"-"`
}

// A Front is an object store but for its storage nodes.
type Front struct {
	Records   metastore.Store
	Accounts  *ufds.Directory
	Identity  *authcache.Cache
	Registry  *fleet.Registry
	Fleet     *fleet.Fleet
	Storage   *durable.Store
	Namespace *namespace.Namespace
	Uploads   *mpu.Service
	Door      *webapi.Server // the first version's dialect
	DoorV2    *webapi.Server

	Jobs       *jobs.Records
	Supervisor *supervisor.Supervisor
	Sessions   *sessions.Reflector
	Agents     Agents          // those that the supervisor gives tasks to; the daemon says which
	Inside     *http.Transport // carries requests to InsideURL while Run runs

	Repair  *repair.Service
	Garbage *gc.Collector
	Auditor *audit.Auditor

	noAudit  bool
	requests *webapi.AuditLog
	inside   *inside
	log      *slog.Logger
}

// Open opens the records and makes the parts that stand on them. After an error nothing is left open.
func Open(ctx context.Context, cfg Config) (_ *Front, err error) {
	f := &Front{log: cfg.Log}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if f.Records, err = cfg.Records.open(ctx, cfg.Dir, cfg.Log); err != nil {
		return nil, err
	}
	if err := f.openIdentity(ctx, cfg); err != nil {
		return nil, err
	}
	if err := f.openStorage(ctx, cfg); err != nil {
		return nil, err
	}
	if err := f.openDoors(ctx, cfg); err != nil {
		return nil, err
	}
	return f, f.openSupervisor(cfg)
}

func (f *Front) openIdentity(ctx context.Context, cfg Config) (err error) {
	if f.Accounts, err = ufds.New(ufds.Config{Store: f.Records}); err != nil {
		return err
	}
	if err := f.Accounts.Setup(ctx); err != nil {
		return err
	}
	tokens := cfg.Tokens
	if tokens == nil {
		if tokens, err = keptTokens(cfg.Dir); err != nil {
			return err
		}
	}
	f.Identity, err = authcache.New(authcache.Config{Store: f.Records, Tokens: *tokens, Logger: cfg.Log})
	return err
}

func (f *Front) openStorage(ctx context.Context, cfg Config) (err error) {
	if f.Registry, err = fleet.NewRegistry(ctx, f.Records); err != nil {
		return err
	}
	policy := picker.Config{
		MultiDatacenter: cfg.MultiDC, MaxPercentUsed: cfg.MaxPercentUsed, MaxPercentUsedOperator: max(cfg.MaxPercentUsed, 92),
		StreamingSize: cmp.Or(cfg.StreamingMB, 5120) << 20,
	}
	if f.Fleet, err = fleet.New(fleet.Config{Store: f.Records, Dial: cfg.Dial, Policy: policy, Logger: cfg.Log}); err != nil {
		return err
	}
	f.Storage, err = durable.New(durable.Config{
		Nodes:       f.Fleet,
		MaxInFlight: cmp.Or(cfg.MaxInFlightMB, 96) << 20,
		Damaged:     func(d durable.Damage) { f.Repair.Damaged(d) },
		Logger:      cfg.Log,
	})
	return err
}

func (f *Front) openDoors(ctx context.Context, cfg Config) (err error) {
	if f.Namespace, err = namespace.New(namespace.Config{Store: f.Records, Logger: cfg.Log}); err != nil {
		return err
	}
	if err := f.Namespace.Define(ctx); err != nil {
		return err
	}
	if f.Uploads, err = mpu.New(mpu.Config{Namespace: f.Namespace, Store: f.Records, Storage: f.Storage, Nodes: f.Fleet, PrefixLen: cfg.UploadPrefix, Logger: cfg.Log}); err != nil {
		return err
	}
	if err := f.Uploads.Define(ctx); err != nil {
		return err
	}
	if f.Repair, err = repair.New(repair.Config{Namespace: f.Namespace, Storage: f.Storage, BytesPerSecond: cfg.RepairMBPerSecond << 20, Logger: cfg.Log}); err != nil {
		return err
	}
	f.Registry.Damaged = func(_ string, ids []storage.ObjectID) {
		for _, id := range ids {
			f.Repair.NodeDamaged(id)
		}
	}
	if f.Garbage, err = gc.New(gc.Config{Namespace: f.Namespace, Storage: f.Storage, Uploads: f.Uploads, Grace: time.Duration(cfg.GraceHours) * time.Hour, Logger: cfg.Log}); err != nil {
		return err
	}
	if err := f.openAudit(ctx, cfg); err != nil {
		return err
	}
	routes, err := f.openJobs(ctx, cfg)
	if err != nil {
		return err
	}
	web := webapi.Config{
		Routes: routes, Namespace: f.Namespace, Storage: f.Storage, Identity: f.Identity, Uploads: f.Uploads,
		Name: cfg.Name, MaxObjectSize: cfg.MaxObjectMB << 20, Copies: cfg.Copies, MaxCopies: cfg.MaxCopies,
		StallTimeout: time.Duration(cfg.StallSeconds) * time.Second, IdleTimeout: time.Duration(cfg.IdleSeconds) * time.Second,
		MaxConnections: cfg.MaxConnections, MaxRequests: cfg.MaxRequests, SnaplinksDisabled: cfg.SnaplinksDisabled, Forwarded: cfg.Forwarded, Logger: cfg.Log,
	}
	if cfg.Audit {
		f.requests = webapi.NewAuditLog(cfg.Log, 0)
		web.Audit = f.requests.Add
	}
	if f.Door, err = webapi.New(web); err != nil {
		return err
	}
	web.Dialect = webapi.V2
	f.DoorV2, err = webapi.New(web)
	return err
}

func (f *Front) openAudit(ctx context.Context, cfg Config) (err error) {
	f.noAudit = cfg.AuditHours < 0
	f.Auditor, err = audit.New(audit.Config{
		Namespace: f.Namespace, Store: f.Records, Nodes: f.Fleet, Repair: f.Repair,
		Names: func() (names []string) {
			for _, n := range f.Fleet.Nodes() {
				names = append(names, n.Report.Node)
			}
			return names
		},
		Claims:   []func(context.Context) iter.Seq2[storage.ObjectID, error]{f.Uploads.Targets},
		Grace:    time.Duration(cfg.GraceHours) * time.Hour,
		Interval: time.Duration(max(cfg.AuditHours, 0)) * time.Hour, Rate: cfg.AuditPerSecond, MaxPercent: cfg.AuditMaxPercent, Logger: cfg.Log,
	})
	if err != nil {
		return err
	}
	return f.Auditor.Define(ctx)
}

// Run keeps the parts going that follow and mend, until ctx ends.
func (f *Front) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	parts := map[string]func(context.Context) error{
		"identity": f.Identity.Run, "fleet": f.Fleet.Run, "repair": f.Repair.Run, "garbage collection": f.Garbage.Run, "jobs": f.runJobs,
	}
	if !f.noAudit {
		parts["audit"] = f.Auditor.Run
	}
	for name, run := range parts {
		g.Go(func() error {
			if err := run(ctx); ctx.Err() == nil {
				return fmt.Errorf("%s ended: %w", name, err)
			}
			return nil
		})
	}
	if f.requests != nil {
		g.Go(func() error {
			_ = f.requests.Run(ctx) // the context's end is its only error
			return nil
		})
	}
	return g.Wait()
}

// WaitReady waits until requests can be answered: accounts and storage nodes are known. Run must be going.
func (f *Front) WaitReady(ctx context.Context) error {
	if err := f.Identity.WaitReady(ctx); err != nil {
		return err
	}
	select {
	case <-f.Fleet.Ready():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends what Open opened. The doors must be shut and Run must have returned.
func (f *Front) Close() error {
	var errs []error
	if f.Storage != nil {
		f.Storage.Close()
	}
	if f.Records != nil {
		errs = append(errs, f.Records.Close())
	}
	return errors.Join(errs...)
}

// Describe adds the front's health and numbers to an admin door.
func (f *Front) Describe(d *admin.Door) {
	d.Check("identity", func(context.Context) error { return f.Identity.Ready() })
	d.Check("records", func(ctx context.Context) error {
		_, err := f.Records.Position(ctx)
		return err
	})
	d.Check("nodes", func(context.Context) error {
		nodes := f.Fleet.Nodes()
		if len(nodes) == 0 {
			return errors.New("no storage node is known")
		}
		var errs []error
		for _, n := range nodes {
			if n.Down != "" {
				errs = append(errs, fmt.Errorf("%s is down since %s: %s", n.Report.Node, n.DownSince.UTC().Format(time.RFC3339), n.Down))
			}
			if n.Usage.ReadOnly != "" {
				errs = append(errs, fmt.Errorf("%s takes no writes: %s", n.Report.Node, n.Usage.ReadOnly))
			}
		}
		return errors.Join(errs...)
	})
	d.Collect(admin.FrontDoor(f.Door.Metrics))
	d.Collect(admin.Struct("mobula_copies", nil, f.Storage.Metrics))
	d.Collect(admin.Struct("mobula_repair", nil, f.Repair.Metrics))
	d.Collect(admin.Struct("mobula_garbage", nil, f.Garbage.Metrics))
	d.Collect(admin.Struct("mobula_audit", nil, f.Auditor.Metrics))
	d.Collect(admin.Struct("mobula_identity", nil, f.Identity.Metrics))
	d.Collect(admin.Struct("mobula_jobs", nil, f.Supervisor.Metrics))
	d.Collect(admin.Struct("mobula_sessions", nil, f.Sessions.Metrics))
}
