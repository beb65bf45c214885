//go:build linux

package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/btrfs"
	"github.com/mobulacloud/mobula/zones/dataset/overlay"
	"github.com/mobulacloud/mobula/zones/image"
	"github.com/mobulacloud/mobula/zones/network"
	"github.com/mobulacloud/mobula/zones/oci"
)

// lab is a whole host in a directory of a test's, with the real driver. Another process can open the same.
type lab struct {
	dir string
	// btrfs puts datasets into a loop file; else they are overlays.
	btrfs bool
	// network gives it a bridge of its own.
	network bool
}

func (l lab) key() string { return strings.ToLower(filepath.Base(l.dir)) }

func (l lab) run() string { return "/run/mobula-t-" + l.key() }

type opened struct {
	*Host
	pool   dataset.Pool
	driver *oci.Driver
	net    *network.Network
}

func (l lab) open(ctx context.Context, log *slog.Logger) (*opened, error) {
	o := &opened{}
	var err error
	if l.btrfs {
		o.pool, err = btrfs.Open(ctx, btrfs.Config{Dir: l.dir + "/pool", File: l.dir + "/pool.img", Size: 1 << 30})
	} else {
		o.pool, err = overlay.Open(ctx, overlay.Config{Dir: l.dir + "/pool"})
	}
	if err != nil {
		return nil, err
	}
	images, err := image.Open(ctx, image.Config{Dir: l.dir + "/images", Pool: o.pool})
	if err != nil {
		return nil, err
	}
	// Two labs may have zones of one uuid, so each has a place of its own for roots that start.
	if err := errors.Join(os.MkdirAll(l.run()+"/mnt", 0o711), os.Chmod(l.run(), 0o711)); err != nil {
		return nil, err
	}
	o.driver, err = oci.New(oci.Config{StateDir: l.run() + "/oci", MountDir: l.run() + "/mnt", CgroupParent: "/mobula-t-" + l.key(), Logger: log})
	if err != nil {
		return nil, err
	}
	cfg := Config{Dir: l.dir + "/host", Pool: o.pool, Images: images, Drivers: []zones.Driver{o.driver}, RunDir: l.run() + "/z", Log: log}
	if l.network {
		o.net, err = network.Open(ctx, network.Config{Instance: l.key(), Dir: l.run() + "/netns", Logger: log})
		if err != nil {
			return nil, err
		}
		if err := o.net.PutTag(ctx, network.Tag{Name: "external"}); err != nil {
			return nil, err
		}
		cfg.Network = NetworkOf(o.net, nil)
	}
	o.Host, err = Open(ctx, cfg)
	return o, err
}

func (o *opened) close() {
	o.Host.Close()
	o.driver.Close()
	if o.net != nil {
		o.net.Close()
	}
	o.pool.Close()
}

func (l lab) logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// newLab makes a lab that is torn down after the test, and fails it if anything is left of it.
func newLab(t testing.TB, l lab) lab {
	t.Helper()
	testenv.NeedRoot(t)
	if l.btrfs {
		testenv.NeedTool(t, "btrfs", "mkfs.btrfs")
	}
	var err error
	if l.dir, err = os.MkdirTemp("", "mt"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		o, err := l.open(ctx, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Errorf("open for clean-up: %v", err)
			return
		}
		if err := o.Destroy(ctx); err != nil {
			t.Error(err)
		}
		if o.net != nil {
			if err := o.net.Destroy(ctx); err != nil {
				t.Error(err)
			}
		}
		o.Host.Close()
		o.driver.Close()
		if p, ok := o.pool.(*btrfs.Pool); ok {
			if err := p.Unmount(); err != nil {
				t.Error(err)
			}
		} else {
			o.pool.Close()
		}
		os.RemoveAll(l.run())
		os.RemoveAll(l.dir)
		l.noLeaks(t)
	})
	return l
}

func (l lab) must(t testing.TB) *opened {
	t.Helper()
	o, err := l.open(t.Context(), l.logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	return o
}

// specJSON is the payload of a small zone, with more properties if wanted.
func specJSON(extra string) []byte {
	if extra != "" {
		extra = "," + extra
	}
	return []byte(`{"brand":"joyent-minimal","image_uuid":"sparse","max_physical_memory":64` + extra + `}`)
}

func spec(t testing.TB, extra string) *zones.Spec {
	t.Helper()
	s, err := zones.ParseSpec(specJSON(extra))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sh runs a script in a zone and gives what it prints.
func (o *opened) sh(t testing.TB, id, script string) string {
	t.Helper()
	out, err := o.try(t.Context(), id, script)
	if err != nil {
		t.Errorf("exec %q: %v: %s", script, err, out)
	}
	return strings.TrimSpace(out)
}

func (o *opened) try(ctx context.Context, id, script string) (string, error) {
	var out bytes.Buffer
	p, err := o.Exec(ctx, id, zones.ExecRequest{Args: []string{"/bin/sh", "-c", script}, Stdout: &out, Stderr: &out})
	if err != nil {
		return "", err
	}
	st, err := p.Wait()
	if err == nil && !st.Success() {
		err = fmt.Errorf("exit %+v", st)
	}
	return out.String(), err
}

func state(t testing.TB, o *opened, id string) zones.State {
	t.Helper()
	z, err := o.Get(t.Context(), id)
	if errors.Is(err, zones.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return z.State
}
