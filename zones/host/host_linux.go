package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/image"
	"github.com/mobulacloud/mobula/zones/internal/statefile"
)

// Config says what a host is made of.
type Config struct {
	// Dir holds the records of zones. Required.
	Dir string
	// Pool holds their datasets, Images what they start from, on the same pool. Required.
	Pool   dataset.Pool
	Images *image.Store
	// Drivers run them; the first that serves a brand is taken. Required.
	Drivers []zones.Driver
	// Network gives them interfaces; without one a zone with NICs is refused.
	Network Network
	// GuestTools is a program that acts as mdata-get and its kin when it is called so (metadata.GuestMain). OS zones find it
	// below /.zonecontrol/bin, sparse ones on their PATH too. Empty leaves them without.
	GuestTools string
	// RunDir is for sockets and mounts of running zones; it should be on a tmpfs and its path be at most 40 bytes.
	// Empty means a directory below /run/mobula that belongs to Dir.
	RunDir string
	// ServerUUID is this server's; empty means one that is made once and kept in Dir.
	ServerUUID string
	// FirstID is the first of the host's user ids that zones are given, in ranges of 65536; 0 means 1<<30.
	FirstID uint32
	// Datacenter is what guests are told the data centre is called.
	Datacenter string
	// Log hears of repairs, boots and ends; nil discards.
	Log *slog.Logger
}

// Host is all machines of one server. Its methods may be called from several goroutines.
type Host struct {
	cfg   Config
	log   *slog.Logger
	turns keyedLocks
	files statefile.FS

	mu     sync.Mutex
	closed bool
	userns map[zones.IDRange]*os.File

	// step is called before every step of every verb; tests die in it.
	step func(what string)
}

type hostFile struct {
	Format     string `json:"format"`
	Version    int    `json:"version"`
	ServerUUID string `json:"server_uuid"`
	// Boot is the boot of the machine in which zones were last booted.
	Boot string `json:"boot,omitempty"`
}

const hostFormat = "mobula-host"

// Open opens a host, making its directory, and finishes or undoes whatever a killed process left under way. Zones that
// run are found again and not disturbed.
func Open(ctx context.Context, cfg Config) (*Host, error) {
	h := &Host{cfg: cfg, log: cfg.Log, userns: map[zones.IDRange]*os.File{}, files: statefile.OS{}, step: func(string) {}}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if err := h.configure(); err != nil {
		return nil, fmt.Errorf("open host: %w", err)
	}
	if err := h.repairAll(ctx); err != nil {
		return nil, fmt.Errorf("open host: %w", err)
	}
	return h, nil
}

func (h *Host) configure() error {
	c := &h.cfg
	if c.Dir == "" || c.Pool == nil || c.Images == nil || len(c.Drivers) == 0 {
		return fmt.Errorf("%w: Dir, Pool, Images and Drivers are required", zones.ErrInvalid)
	}
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return err
	}
	if c.FirstID == 0 {
		c.FirstID = 1 << 30
	}
	if c.RunDir == "" {
		sum := sha256.Sum256([]byte(c.Dir))
		c.RunDir = "/run/mobula/" + hex.EncodeToString(sum[:4])
	}
	if len(c.RunDir) > 40 {
		return fmt.Errorf("%w: RunDir %s is longer than 40 bytes", zones.ErrInvalid, c.RunDir)
	}
	for _, d := range []string{"zones", "locks"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, d), 0o700); err != nil {
			return err
		}
	}
	// Emulators run as a zone's ids and pass through here; what is inside says for itself who may read it.
	if err := os.MkdirAll(c.RunDir, 0o711); err != nil {
		return err
	}
	unlock, err := h.lock(context.Background(), "host", true)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := h.loadHostFile()
	if err != nil {
		return err
	}
	if c.ServerUUID == "" {
		c.ServerUUID = f.ServerUUID
	}
	return nil
}

func (h *Host) loadHostFile() (hostFile, error) {
	path := filepath.Join(h.cfg.Dir, "host.json")
	b, err := h.files.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		f := hostFile{Format: hostFormat, Version: recordVersion, ServerUUID: uuid.NewString()}
		return f, h.saveHostFile(f)
	}
	var f hostFile
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil || f.Format != hostFormat {
		return f, fmt.Errorf("%s is not a host's: %v", path, err)
	}
	if f.Version > recordVersion {
		return f, fmt.Errorf("%s has version %d, which is newer than this program", path, f.Version)
	}
	return f, nil
}

func (h *Host) saveHostFile(f hostFile) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return h.write(filepath.Join(h.cfg.Dir, "host.json"), b)
}

// ServerUUID is this server's.
func (h *Host) ServerUUID() string { return h.cfg.ServerUUID }

// Images is the store that zones start from.
func (h *Host) Images() *image.Store { return h.cfg.Images }

// Capabilities lists what the drivers can do here.
func (h *Host) Capabilities() []zones.Capabilities {
	var out []zones.Capabilities
	for _, d := range h.cfg.Drivers {
		out = append(out, d.Capabilities())
	}
	return out
}

// Close lets go of what this process holds. Zones run on.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, f := range h.userns {
		f.Close()
	}
	h.userns = map[zones.IDRange]*os.File{}
	return nil
}

// Destroy deletes every zone by force, then whatever the host made besides: its network and run directory. Images stay in
// the store. It may be repeated.
func (h *Host) Destroy(ctx context.Context) error {
	ids, err := h.uuids()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if err := h.delete(ctx, id, true); err != nil && !errors.Is(err, zones.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if h.cfg.Network != nil {
		errs = append(errs, h.cfg.Network.Sweep(ctx, func(string) bool { return false }))
	}
	_ = os.Remove(h.cfg.RunDir)
	return errors.Join(errs...)
}

func (h *Host) driver(b zones.Brand) (zones.Driver, error) {
	i := slices.IndexFunc(h.cfg.Drivers, func(d zones.Driver) bool { return d.Capabilities().Serves(b) })
	if i < 0 {
		return nil, fmt.Errorf("%w: no driver here runs brand %s", zones.ErrNotSupported, b)
	}
	return h.cfg.Drivers[i], nil
}

// cleanUp gives a context for undoing, which must not be cut short by what caused the undoing.
func cleanUp(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}
