//go:build !linux

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/mobulacloud/mobula/zones"
)

func openZones(context.Context, *Config) (zonePool, error) {
	return nil, fmt.Errorf("%w: zones need Linux", zones.ErrNotSupported)
}

// Remove does nothing where there can be no agent.
func Remove(context.Context, string, *slog.Logger) error { return nil }

func stocks(*Config) error { return nil }

func newPipe() (r, w *os.File, err error) { return os.Pipe() }
