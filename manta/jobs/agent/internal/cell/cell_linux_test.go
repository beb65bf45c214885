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
			c := open(t, func(c *Config) { c.Plain, c.Tools, c.Names = plain, "/usr/bin/env", []string{"tool"} })
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
			st, err := z.Exec(t.Context(), []string{"bash", "-c", `id -u; cat; cat "/manta/alice/stor/a b" /dev/stdin >> /dev/stdout; tool TOOL=yes | grep TOOL; ls /manta/alice/stor`},
				[]string{"PATH=" + Path}, in, out, out)
			if err != nil || !st.Success() {
				t.Error(st, err)
			}
			if got := text(t, out); got != "0\nhello\nhello\nhello\nTOOL=yes\na b\n" {
				t.Errorf("printed %q", got)
			}
			if c.Quotas() == plain {
				t.Errorf("quotas: %v", c.Quotas())
			}
			if err := z.Hide(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func text(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestQuota: what a task writes to its output counts, and so does what it writes elsewhere.
func TestQuota(t *testing.T) {
	c := open(t, func(c *Config) { c.Disk = 32 << 20 })
	if !c.Quotas() {
		t.Skip("no quotas here")
	}
	for _, to := range []string{"cat", "cat > /var/tmp/x"} {
		z, err := c.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out, err := z.Scratch()
		if err != nil {
			t.Fatal(err)
		}
		if z.Full(t.Context()) {
			t.Error("full before anything was written")
		}
		st, err := z.Exec(t.Context(), []string{"bash", "-c", "head -c 64M /dev/urandom | " + to}, []string{"PATH=" + Path}, nil, out, nil)
		if err != nil || st.Code != 1 || !z.Full(t.Context()) {
			t.Errorf("%s: %+v, %v, full %v", to, st, err, z.Full(t.Context()))
		}
		out.Close()
		z.Return()
	}
}
