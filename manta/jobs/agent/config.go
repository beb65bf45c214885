package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/storage"
)

// A Store is a storage node of this server; *objfile.Store is one.
type Store interface {
	// Open reads a range of an object, verified.
	Open(ctx context.Context, id storage.ObjectID, off, n int64) (io.ReadCloser, storage.Info, error)
	// OpenFile opens the file that holds an object, not verified; errors.ErrUnsupported if none does.
	OpenFile(ctx context.Context, id storage.ObjectID) (*os.File, storage.Info, error)
}

// Config describes an Agent.
type Config struct {
	// Name is what supervisors know it by; required.
	Name string

	// Stores are the storage nodes at hand, by storage id.
	Stores map[string]Store

	// Front carries requests to the store's front door at FrontURL, as "https://manta.example"; required. An *http.Transport needs an ExpectContinueTimeout.
	Front    http.RoundTripper
	FrontURL string

	// Dir is a directory of the agent's own, for the file systems of zones; required. RunDir is for what need not outlive a boot; "" means one below /run.
	Dir, RunDir string

	// Zones is how many tasks run at a time; 0 means four for each processor, at least 8.
	Zones int

	// Tools is a program that tasks find on their PATH under each of ToolNames; "" means none.
	Tools     string
	ToolNames []string

	// Images are the versions of images that phases may ask for; all of them are the sparse image. nil means one, 1.0.0.
	Images []string

	// MemoryStock and DiskStock in bytes are for zones of phases that ask for more than jobs.DefaultMemory and jobs.DefaultDisk; 0 means 20 % of the server's memory, and
	// 15 % of the disk that Dir is on.
	MemoryStock, DiskStock int64

	// Processes is how many threads and processes a zone may have; 0 means 1,000.
	Processes int64

	// FirstID is the first of the host's user ids for zones, 65,536 each for at most 512 of them. Nobody else may use these. 0 means a place between 1<<29 and 1<<30 that
	// follows from Dir.
	FirstID uint32

	// Plain keeps zones on overlays even where btrfs is possible. Disk limits do not hold then.
	Plain bool

	// Uploads is how many objects are stored for tasks at a time; 0 means 25.
	Uploads int

	// Idle times, hogs and turns, for tests; 0 means the documented defaults of the scheduler.
	IdleMin, IdleMax, HogGrace, HogKill, Turn time.Duration

	// Checkpoint is how often a long task is metered; 0 means 300 s. Jobs with the option frequentCheckpoint have 5 s.
	Checkpoint time.Duration

	// Meter is told what tasks took, at their ends and at checkpoints. It must not block. nil: nobody is.
	Meter func(Measure)

	// Logger hears of faults, and of each task's use; nil discards.
	Logger *slog.Logger
}

// LogValue leaves out what does not print.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(slog.String("name", c.Name), slog.String("front", c.FrontURL), slog.Int("zones", c.Zones))
}

// Sizes of zones that nobody asked for otherwise, in bytes.
const (
	zoneMemory = jobs.DefaultMemory << 20
	zoneDisk   = jobs.DefaultDisk << 30
)

func (c *Config) check() error {
	var errs []error
	for _, required := range []struct {
		name    string
		missing bool
	}{{"Name", c.Name == ""}, {"Front", c.Front == nil}, {"FrontURL", c.FrontURL == ""}, {"Dir", c.Dir == ""}} {
		if required.missing {
			errs = append(errs, fmt.Errorf("agent: Config.%s is required", required.name))
		}
	}
	if c.Zones < 0 || c.Uploads < 0 || c.MemoryStock < 0 || c.DiskStock < 0 || c.Processes < 0 {
		errs = append(errs, errors.New("agent: a limit is negative"))
	}
	c.Zones = cmp.Or(c.Zones, max(8, 4*runtime.NumCPU()))
	c.Uploads = cmp.Or(c.Uploads, 25)
	c.Processes = cmp.Or(c.Processes, 1000)
	c.Checkpoint = cmp.Or(c.Checkpoint, 300*time.Second)
	if c.Images == nil {
		c.Images = []string{"1.0.0"}
	}
	if c.Meter == nil {
		c.Meter = func(Measure) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}
