package cell

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
)

// open makes cells in a directory of their own, and runs them until the test ends.
func open(t testing.TB, change func(*Config)) *Cells {
	t.Helper()
	testenv.NeedRoot(t)
	dir, err := os.MkdirTemp("", "cell")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: dir, Zones: 2, Warm: 1, Memory: 256 << 20, Disk: 64 << 20, DiskSize: 1 << 30, Processes: 500, FirstID: 1 << 28, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&cfg)
	}
	c, err := Open(t.Context(), cfg)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestCell(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(map[bool]string{false: "btrfs", true: "overlay"}[plain], func(t *testing.T) {
			c := open(t, func(c *Config) { c.Plain = plain })
			z, err := c.Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer z.Return()
			in, err := z.ShowCopy("/alice/stor/a b", strings.NewReader("hello\n"))
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := z.Scratch()
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			st, err := z.Exec(t.Context(), []string{"bash", "-c", `id -u; cat; cat "/manta/alice/stor/a b" /dev/stdin > /dev/stdout; ls -l /manta/alice/stor /; cat /proc/self/mounts; cat /proc/sys/kernel/core_pattern`}, nil, in, out, out)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(io.NewSectionReader(out, 0, 1<<20))
			t.Logf("%+v %s", st, text)
			if err := z.Hide(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
