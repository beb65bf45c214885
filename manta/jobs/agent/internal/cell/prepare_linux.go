package cell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/btrfs"
	"github.com/mobulacloud/mobula/zones/dataset/overlay"
	"github.com/mobulacloud/mobula/zones/image"
	"github.com/mobulacloud/mobula/zones/pool"
)

// Names of datasets. Those of zones begin with zonePrefix and are nobody's after a restart.
const (
	baseName   = "task-base"
	zonePrefix = "task-zone-"
)

// Each zone has idRange user ids. While it is reset, old and new have their own, so maxRanges is for half as many zones.
const (
	idRange   = 65536
	maxRanges = 512
)

// openFiles opens the pool of file systems: btrfs if this host has it, for its quotas.
func (c *Cells) openFiles(ctx context.Context) error {
	size := c.cfg.DiskSize
	if size <= 0 {
		size = 64 << 30
	}
	if !c.cfg.Plain {
		p, err := btrfs.Open(ctx, btrfs.Config{Dir: filepath.Join(c.cfg.Dir, "zones"), File: filepath.Join(c.cfg.Dir, "zones.img"), Size: size, MaxSize: 1, Log: c.log})
		if err == nil {
			c.files = p
			c.undo = func() error { return p.Unmount() }
			return c.removeDatasets(ctx)
		}
		c.log.Warn("no btrfs for zones of tasks: their disk limits are not enforced", "err", err)
	}
	p, err := overlay.Open(ctx, overlay.Config{Dir: filepath.Join(c.cfg.Dir, "layers"), Log: c.log})
	if err != nil {
		return err
	}
	c.files, c.undo = p, p.Close
	return c.removeDatasets(ctx)
}

// removeDatasets removes the file systems of zones, and what they are cloned from, which is made anew at each start.
func (c *Cells) removeDatasets(ctx context.Context) error {
	list, err := c.files.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range list {
		if strings.HasPrefix(d.Name, zonePrefix) {
			errs = append(errs, c.files.Delete(ctx, d.Name))
		}
	}
	if err := c.files.Delete(ctx, baseName); err != nil && !errors.Is(err, dataset.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// makeBase makes what zones are cloned from: the sparse image and the directories that tasks have besides.
func (c *Cells) makeBase(ctx context.Context) error {
	images, err := image.Open(ctx, image.Config{Dir: filepath.Join(c.cfg.Dir, "images"), Pool: c.files, Log: c.log})
	if err != nil {
		return err
	}
	img, err := images.Get(ctx, zones.SparseImage)
	if err != nil {
		return err
	}
	c.image = img.Mounts
	if _, err := c.files.Clone(ctx, dataset.Ref{Dataset: img.Dataset, Snapshot: image.Final}, baseName, dataset.Options{Volatile: true}); err != nil {
		return err
	}
	root, err := c.files.Root(ctx, baseName)
	if err != nil {
		return err
	}
	m, err := root.Open(dataset.OpenOptions{})
	if err != nil {
		return err
	}
	defer m.Close() // a dataset is frozen when nobody has it open
	r, err := m.OpenRoot()
	if err != nil {
		return err
	}
	defer r.Close()
	for _, dir := range []string{InputDir, AssetDir, ToolDir} {
		if err := r.MkdirAll(strings.TrimPrefix(dir, "/"), 0o755); err != nil {
			return err
		}
	}
	r.Close()
	m.Close()
	c.base = dataset.Ref{Dataset: baseName, Snapshot: "final"}
	_, err = c.files.Snapshot(ctx, c.base.Dataset, c.base.Snapshot)
	return err
}

// windows is where zones' input directories are, on memory.
func (c *Cells) windows() string { return filepath.Join(c.run, "in") }

func (c *Cells) makeWindow() error {
	dir := c.windows()
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	if err := unix.Mount("mobula-inputs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("mode=711,size=%d", 64<<20+c.cfg.Zones*(4<<20))); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}

// tools is on disk, not in memory: the program is large.
func (c *Cells) tools() string { return filepath.Join(c.cfg.Dir, "bin") }

// installTools makes the directory that zones have on their PATH, anew at each start: the program may be another.
func (c *Cells) installTools() error {
	if c.cfg.Tools == "" {
		return nil
	}
	dir := c.tools()
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	in, err := os.Open(c.cfg.Tools)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, "mtools"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	if err := errors.Join(out.Chmod(0o755), out.Close()); err != nil {
		return err
	}
	for _, name := range c.cfg.Names {
		if name == "" || strings.Contains(name, "/") {
			return fmt.Errorf("bad name %q", name)
		}
		if err := os.Symlink("mtools", filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes what a new zone needs.
func (c *Cells) prepare(ctx context.Context, class pool.Class) (m zones.Machine, err error) {
	id := uuid.NewString()
	n, err := c.takeIDs()
	if err != nil {
		return m, err
	}
	m = zones.Machine{
		ID: id, Spec: &zones.Spec{Brand: zones.BrandMinimal}, RunDir: filepath.Join(c.run, "zones", id), IDs: zones.IDRange{First: c.cfg.FirstID + n*idRange, Size: idRange},
		Limits: class.Limits, NoNewPrivileges: true, Hostname: "task", Domain: "local",
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.release(context.WithoutCancel(ctx), m))
		}
	}()
	if err := os.MkdirAll(m.RunDir, 0o700); err != nil {
		return m, err
	}
	name := zonePrefix + id
	o := dataset.Options{Volatile: true}
	if c.Quotas() {
		o.Quota = c.cfg.Disk
	}
	if _, err := c.files.Clone(ctx, c.base, name, o); err != nil {
		return m, err
	}
	if m.Root, err = c.show(ctx, name, n, filepath.Join(c.run, "roots", id)); err != nil {
		return m, err
	}
	window := filepath.Join(c.windows(), id)
	if err := os.Mkdir(window, 0o755); err != nil {
		return m, err
	}
	m.Mounts = append(m.Mounts, c.image...)
	m.Mounts = append(m.Mounts, zones.Mount{Source: window, Target: InputDir, ReadOnly: true, NoSUID: true, NoExec: true})
	if c.cfg.Tools != "" {
		m.Mounts = append(m.Mounts, zones.Mount{Source: c.tools(), Target: ToolDir, ReadOnly: true, NoSUID: true})
	}
	return m, nil
}

// show gives the root as a path. Layers are mounted, with the zone's ids.
func (c *Cells) show(ctx context.Context, name string, n uint32, at string) (zones.Root, error) {
	root, err := c.files.Root(ctx, name)
	if err != nil || root.Dir != "" {
		return zones.Root{Path: root.Dir}, err
	}
	c.mu.Lock()
	ns := c.userns[n]
	if ns == nil {
		if ns, err = dataset.NewUserNS(c.cfg.FirstID+n*idRange, idRange); err == nil {
			c.userns[n] = ns
		}
	}
	c.mu.Unlock()
	if err != nil {
		return zones.Root{}, err
	}
	if err := os.MkdirAll(at, 0o711); err != nil {
		return zones.Root{}, err
	}
	m, err := root.Open(dataset.OpenOptions{UserNS: ns, NoDev: true})
	if err != nil {
		return zones.Root{}, err
	}
	defer m.Close()
	return zones.Root{Path: at, Mapped: true}, m.Attach(at)
}

// release removes what prepare made, as far as it is there. The names are of the window, as a zone that was reset has another id than its files.
func (c *Cells) release(ctx context.Context, m zones.Machine) error {
	var errs []error
	for _, mt := range m.Mounts {
		if mt.Target == InputDir {
			errs = append(errs, os.RemoveAll(mt.Source))
		}
	}
	if m.Root.Mapped {
		errs = append(errs, unmount(m.Root.Path), remove(m.Root.Path))
	}
	if name := c.datasetOf(m); name != "" {
		if err := c.files.Delete(ctx, name); err != nil && !errors.Is(err, dataset.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, os.RemoveAll(m.RunDir))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.ids, (m.IDs.First-c.cfg.FirstID)/idRange)
	c.mu.Unlock()
	return nil
}

// datasetOf is the name of a machine's file system: that of the window that was made with it.
func (c *Cells) datasetOf(m zones.Machine) string {
	for _, mt := range m.Mounts {
		if mt.Target == InputDir {
			return zonePrefix + filepath.Base(mt.Source)
		}
	}
	return zonePrefix + m.ID // prepare did not get that far
}

func (c *Cells) takeIDs() (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := uint32(0); n < maxRanges; n++ {
		if !c.ids[n] {
			c.ids[n] = true
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: user ids", zones.ErrNoSpace)
}

// listenIn listens on port 80 of the loopback of a network namespace, from a thread that enters it and then ends.
func listenIn(netns string) (net.Listener, error) {
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and not unlocked
		ns, err := os.Open(netns)
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, fmt.Errorf("enter network namespace: %w", err)}
			return
		}
		l, err := net.Listen("tcp4", "127.0.0.1:80")
		done <- result{l, err}
	}()
	r := <-done
	return r.l, r.err
}

// sweep clears away what a process left that did not end in order: machines first, as they hold the rest.
func (c *Cells) sweep(ctx context.Context) error {
	if err := c.destroyAll(ctx); err != nil {
		return err
	}
	if err := unmountBelow(c.run); err != nil {
		return err
	}
	for _, name := range []string{"zones", "roots", "in"} {
		if err := os.RemoveAll(filepath.Join(c.run, name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cells) destroyAll(ctx context.Context) error {
	lister, ok := zones.As[zones.Lister](c.driver)
	if !ok {
		return zones.ErrNotSupported
	}
	ids, err := lister.List(ctx)
	errs := []error{err}
	for _, id := range ids {
		errs = append(errs, c.driver.Destroy(ctx, id))
	}
	return errors.Join(errs...)
}

// unmountBelow unmounts everything below a directory, the newest first.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(string(data), "\n")
	var errs []error
	for i := len(lines) - 1; i >= 0; i-- {
		f := strings.Fields(lines[i])
		if len(f) < 5 {
			continue
		}
		if at := unescape(f[4]); strings.HasPrefix(at, dir+"/") {
			errs = append(errs, unmount(at))
		}
	}
	return errors.Join(errs...)
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func unmount(at string) error {
	err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // not a mount
		return nil
	}
	return err
}

func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
