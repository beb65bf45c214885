package agent

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/mobulacloud/mobula/manta/jobs/agent/internal/cell"
)

// realZones are those of package cell.
type realZones struct{ *cell.Cells }

func (r realZones) Get(ctx context.Context) (zone, error) {
	z, err := r.Cells.Get(ctx)
	if err != nil {
		return nil, err
	}
	return z, nil
}

func openZones(ctx context.Context, cfg *Config) (zonePool, error) {
	cells, err := cell.Open(ctx, cell.Config{Dir: cfg.Dir, RunDir: cfg.RunDir, Zones: cfg.Zones, Warm: cfg.Zones, Memory: zoneMemory, Disk: zoneDisk,
		DiskSize: int64(cfg.Zones)*zoneDisk + cfg.DiskStock, Processes: cfg.Processes, Tools: cfg.Tools, Names: cfg.ToolNames, FirstID: cfg.FirstID, Plain: cfg.Plain,
		Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	return realZones{cells}, nil
}

// Remove ends and removes what an agent on a directory left when its process was killed: zones, mounts, control groups, file systems. The directory
// itself stays. An agent that is up on it is an error. It may be repeated.
func Remove(ctx context.Context, dir string, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := cell.Remove(ctx, cell.Config{Dir: dir, Zones: 1, Memory: zoneMemory, Disk: zoneDisk, Logger: log}); err != nil {
		return fmt.Errorf("agent: remove what is below %s: %w", dir, err)
	}
	return nil
}
