package agent

import (
	"context"
	"io"
	"net"
	"os"

	"github.com/mobulacloud/mobula/manta/jobs/agent/internal/cell"
	"github.com/mobulacloud/mobula/zones"
)

// zonePool hands out zones. It is cell.Cells, but for tests.
type zonePool interface {
	Run(ctx context.Context) error
	Get(ctx context.Context) (zone, error)
	Close(ctx context.Context) error
	Missing() []string
}

// zone is what a stream runs tasks in; see cell.Cell.
type zone interface {
	ID() string
	Port() net.Listener
	Limit(ctx context.Context, memory, disk int64) error
	Scratch() (*os.File, error)
	ShowCopy(name string, r io.Reader) (*os.File, error)
	ShowFile(ctx context.Context, name string, file *os.File) (*os.File, error)
	Hide(ctx context.Context) error
	Store(ctx context.Context, name string, r io.Reader) error
	Exec(ctx context.Context, args, env []string, in, out, err *os.File) (zones.ExitStatus, error)
	Usage() zones.Usage
	Full(ctx context.Context) bool
	TakeCore() (*cell.Core, error)
	Broken() bool
	Return()
	Discard()
}
