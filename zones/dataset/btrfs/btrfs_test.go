//go:build linux

package btrfs

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/datasettest"
)

func need(t testing.TB) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "btrfs", "mkfs.btrfs")
}

// loopPool opens a pool in a loop file of its own.
func loopPool(t testing.TB, change func(*Config)) (*Pool, Config) {
	t.Helper()
	need(t)
	dir := t.TempDir()
	cfg := Config{Dir: filepath.Join(dir, "mnt"), File: filepath.Join(dir, "pool.img"), Size: 512 << 20}
	if change != nil {
		change(&cfg)
	}
	t.Cleanup(func() { unix.Unmount(cfg.Dir, unix.MNT_DETACH) })
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p, cfg
}

func suite(t *testing.T, full bool) {
	// One file system for all: making one takes longer than a test.
	base, cfg := loopPool(t, func(c *Config) { c.fullQuota = full })
	t.Cleanup(func() { base.Unmount() })
	n := 0
	place := func(t *testing.T) func() (dataset.Pool, error) {
		n++
		dir := filepath.Join(cfg.Dir, "pools", string(rune('a'+n)))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := removeTree(dir); err != nil {
				t.Error(err)
			}
		})
		return func() (dataset.Pool, error) { return Open(t.Context(), Config{Dir: dir, fullQuota: full}) }
	}
	datasettest.TestPool(t, place)
	t.Run("history", func(t *testing.T) {
		steps := 150
		if testenv.Long() {
			steps = 5000
		}
		datasettest.TestHistory(t, rand.Uint64(), steps, place)
	})
}

func TestPoolWithSimpleQuotas(t *testing.T) { suite(t, false) }
func TestPoolWithFullQuotas(t *testing.T)   { suite(t, true) }

func TestUnmountLeavesNothing(t *testing.T) {
	p, cfg := loopPool(t, nil)
	if _, err := p.Create(t.Context(), "a", dataset.Options{}); err != nil {
		t.Fatal(err)
	}
	second, err := Open(t.Context(), cfg) // joins the mount that is there
	if err != nil {
		t.Fatal(err)
	}
	if second.device != p.device {
		t.Errorf("the file is shown twice, as %s and %s", p.device, second.device)
	}
	second.Close()
	if err := p.Unmount(); err != nil {
		t.Fatal(err)
	}
	if dev, _ := attached(cfg.File); dev != "" {
		t.Errorf("%s still shows the pool's file", dev)
	}
	p, err = Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Unmount()
	if _, err := p.Get(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

func TestGrow(t *testing.T) {
	p, _ := loopPool(t, func(c *Config) { c.Size = 256 << 20 })
	defer p.Unmount()
	before, err := p.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Grow(t.Context(), 600<<20); err != nil {
			t.Fatal(err)
		}
	}
	after, err := p.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.Size != 256<<20 || after.Size != 600<<20 {
		t.Errorf("size %d, then %d", before.Size, after.Size)
	}
}

// A machine's owner can make subvolumes inside; they must not keep the dataset from being deleted or rolled back.
func TestNestedSubvolumes(t *testing.T) {
	p, cfg := loopPool(t, nil)
	defer p.Unmount()
	ctx := t.Context()
	if _, err := p.Create(ctx, "a", dataset.Options{Quota: 32 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Snapshot(ctx, "a", "s"); err != nil {
		t.Fatal(err)
	}
	nest := func() string {
		at := p.live("a")
		for _, n := range []string{"one", "two", "three"} {
			if err := create(at, n, nil, false, 0); err != nil {
				t.Fatal(err)
			}
			at = filepath.Join(at, n, "dir")
			os.Mkdir(at, 0o755)
		}
		return at
	}
	at := nest()
	out, err := exec.Command("dd", "if=/dev/urandom", "of="+at+"/big", "bs=1M", "count=64", "conv=fsync").CombinedOutput()
	if err == nil {
		t.Errorf("64 MiB in a nested subvolume passed a quota of 32 MiB: %s", out)
	}
	if err := p.Rollback(ctx, "a", "s"); err != nil {
		t.Fatal(err)
	}
	nest()
	if err := p.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "tmp", "*", "*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// Whatever step of a verb the process dies at, the next Open leaves each dataset as before or as asked.
func TestRepair(t *testing.T) {
	p, cfg := loopPool(t, nil)
	defer func() { p.Unmount() }()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(body string) { must(os.WriteFile(filepath.Join(p.live("a"), "f"), []byte(body), 0o644)) }
	read := func() string {
		b, _ := os.ReadFile(filepath.Join(p.live("a"), "f"))
		return string(b)
	}
	_, err := p.Create(ctx, "a", dataset.Options{})
	must(err)
	write("1")
	_, err = p.Snapshot(ctx, "a", "one")
	must(err)
	write("2")
	_, err = p.Snapshot(ctx, "a", "two")
	must(err)
	crash := func() {
		t.Helper()
		p.dir.Close() // releases the flock as death does; nothing is cleaned
		p.fs.Close()
		p, err = Open(ctx, cfg)
		must(err)
	}

	// Died in Create, before the rename.
	_, _, err = p.build(recordNow(p), dataset.Options{}, "")
	must(err)
	crash()
	if l, _ := p.List(ctx); len(l) != 1 {
		t.Errorf("list = %v", l)
	}
	// Died in Snapshot, before the record named it.
	must(snapshot(p.live("a"), filepath.Join(p.dir.Dataset("a"), "snap"), "stray", true, 0))
	crash()
	if s, _ := os.ReadDir(filepath.Join(p.dir.Dataset("a"), "snap")); len(s) != 2 {
		t.Errorf("%d snapshots on disk, want 2", len(s))
	}
	// Died in Rollback: after the record, after the copy, after the exchange.
	for step := range 3 {
		write("3")
		r, err := p.dir.Load("a")
		must(err)
		r.Pending = pendingRollback(r.Snapshots[0].ID)
		dir := p.dir.Dataset("a")
		must(saveRecord(dir, r))
		if step > 0 {
			must(snapshot(p.snap("a", r.Snapshots[0].ID), dir, "next", false, r.Group))
		}
		if step > 1 {
			must(unix.Renameat2(unix.AT_FDCWD, dir+"/next", unix.AT_FDCWD, dir+"/root", unix.RENAME_EXCHANGE))
		}
		crash()
		if got := read(); got != "1" {
			t.Errorf("step %d: content after repair = %q, want 1", step, got)
		}
		i, err := p.Get(ctx, "a")
		must(err)
		if len(i.Snapshots) != 1 {
			t.Errorf("step %d: snapshots = %v", step, i.Snapshots)
		}
		if _, err := os.Lstat(dir + "/next"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("step %d: the old tree is left: %v", step, err)
		}
		_, err = p.Snapshot(ctx, "a", "two")
		must(err)
	}
	// Died in Delete, after the dataset was withdrawn.
	_, err = p.withdraw(ctx, "a")
	must(err)
	crash()
	if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "tmp", "*", "*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if l, _ := p.List(ctx); len(l) != 0 {
		t.Errorf("list = %v", l)
	}
	_, err = p.Create(ctx, "a", dataset.Options{})
	must(err)
}
