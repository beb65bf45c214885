package agent

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/mobulacloud/mobula/manta/jobs/agent/internal/cell"
)

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
