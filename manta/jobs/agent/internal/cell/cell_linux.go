package cell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/pool"
)

// meter reads what a zone has used; an *oci.Meter is one.
type meter interface {
	Read() zones.Usage
	Close()
}

// Cell is a zone in one group's hands. One goroutine at a time uses it, but for Close of its parts.
type Cell struct {
	cells  *Cells
	lease  *pool.Lease
	zone   pool.Zone
	holder *holder
	meter  meter
	window string
	dir    string // where files of the zone's own file system are made
	memory int64
	disk   int64

	once  sync.Once
	shown string // what Show made
	above string // the directory below window that was made for the last one, "" for none
	given bool

	broken bool
	looked unix.Timespec // when the root directory was changed last, as TakeCore saw it
}

// Get hands out a zone that nobody has used.
func (c *Cells) Get(ctx context.Context) (*Cell, error) {
	lease, err := c.pool.Get(ctx, c.class)
	if err != nil {
		return nil, err
	}
	cell := &Cell{cells: c, lease: lease, zone: lease.Zone(), memory: c.cfg.Memory, disk: c.cfg.Disk}
	cell.holder = cell.zone.Data.(*holder)
	if err = cell.open(ctx); err != nil {
		cell.Discard()
		return nil, err
	}
	return cell, nil
}

func (z *Cell) open(ctx context.Context) (err error) {
	for _, mt := range z.zone.Machine.Mounts {
		if mt.Target == InputDir {
			z.window = mt.Source
		}
	}
	root, err := z.cells.files.Root(ctx, z.cells.datasetOf(z.zone.Machine))
	if err != nil {
		return err
	}
	if z.dir = root.Dir; z.dir == "" {
		z.dir = root.Upper
	}
	z.meter, err = openMeter(z.cells.driver, z.zone.ID)
	return err
}

// ID is the zone's.
func (z *Cell) ID() string { return z.zone.ID }

// Port is the listener on the zone's loopback. It ends with the cell.
func (z *Cell) Port() net.Listener { return z.holder.port }

// Limit sets what the zone may use, in bytes.
func (z *Cell) Limit(ctx context.Context, memory, disk int64) error {
	if memory != z.memory {
		if err := z.cells.driver.Update(ctx, z.zone.ID, z.cells.limits(memory)); err != nil {
			return err
		}
		z.memory = memory
	}
	if disk != z.disk && z.cells.Quotas() {
		if err := z.cells.files.SetQuota(ctx, z.cells.datasetOf(z.zone.Machine), disk); err != nil {
			return err
		}
		z.disk = disk
	}
	return nil
}

// Scratch makes a file without a name in the zone's file system, so that what is written counts for it. Everybody in the zone who has it open may
// open it again by its descriptor.
func (z *Cell) Scratch() (*os.File, error) {
	fd, err := unix.Open(z.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_APPEND|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return nil, &os.PathError{Op: "make scratch file", Path: z.dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), "scratch")
	if err := unix.Fchmod(fd, 0o666); err != nil { // the mask of this process is not asked
		f.Close()
		return nil, err
	}
	return f, nil
}

// ShowCopy shows bytes as a file at a path below InputDir, and returns it open for reading.
func (z *Cell) ShowCopy(name string, r io.Reader) (*os.File, error) {
	f, err := z.place(name)
	if err != nil {
		return nil, err
	}
	if r != nil {
		if _, err := io.Copy(f, r); err != nil {
			f.Close()
			return nil, errors.Join(err, z.Hide(context.Background()))
		}
	}
	in, err := os.Open(z.window + z.shown)
	if err = errors.Join(f.Chmod(0o444), f.Close(), err); err != nil {
		return nil, errors.Join(err, z.Hide(context.Background()))
	}
	return in, nil
}

// ShowFile shows a file of the host at a path below InputDir, and returns it open for reading as the zone sees it.
func (z *Cell) ShowFile(ctx context.Context, name string, file *os.File) (*os.File, error) {
	f, err := z.place(name)
	if err != nil {
		return nil, err
	}
	f.Close()
	at := InputDir + z.shown
	giver, ok := zones.As[zones.Giver](z.cells.driver)
	if !ok {
		return nil, errors.Join(zones.ErrNotSupported, z.Hide(ctx))
	}
	if err := giver.Give(ctx, z.zone.ID, zones.Gift{File: file, Path: at}); err != nil {
		return nil, errors.Join(err, z.Hide(ctx))
	}
	z.given = true
	in, err := z.openInside(at)
	if err != nil {
		return nil, errors.Join(err, z.Hide(ctx))
	}
	return in, nil
}

// place makes a file below the window, with the directories above it. Nobody but this process can make anything there, so no link is in the way. The
// directories are left for the next one, as inputs of a job mostly lie together.
func (z *Cell) place(name string) (*os.File, error) {
	if z.shown != "" {
		return nil, errors.New("cell: an input is shown already")
	}
	name = path.Clean("/" + name)
	if dir := path.Dir(name); dir != z.above {
		if err := z.clear(); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(z.window+dir, 0o755); err != nil {
			return nil, err
		}
		z.above = dir
	}
	f, err := os.OpenFile(z.window+name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	z.shown = name
	return f, nil
}

// clear removes the directories of the last input.
func (z *Cell) clear() error {
	if z.above == "" || z.above == "/" {
		return nil
	}
	top, _, _ := strings.Cut(strings.TrimPrefix(z.above, "/"), "/")
	z.above = ""
	return os.RemoveAll(filepath.Join(z.window, top))
}

// openInside opens a file of the zone by its path there. Nobody inside has power over what is mounted at InputDir.
func (z *Cell) openInside(name string) (*os.File, error) {
	root, err := unix.Open("/proc/"+strconv.Itoa(z.holder.pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, strings.TrimPrefix(name, "/"), &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, &os.PathError{Op: "open in zone", Path: name, Err: err}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Hide removes what was shown.
func (z *Cell) Hide(ctx context.Context) error {
	if z.shown == "" {
		return nil
	}
	if z.given {
		giver, _ := zones.As[zones.Giver](z.cells.driver)
		if err := giver.Take(ctx, z.zone.ID, InputDir+z.shown); err != nil {
			return err
		}
		z.given = false
	}
	if err := remove(z.window + z.shown); err != nil {
		return err
	}
	z.shown = ""
	return nil
}

// Store writes a file, executable, to a path inside, from within the zone: no link there leads elsewhere, and it counts for the zone.
func (z *Cell) Store(ctx context.Context, name string, r io.Reader) error {
	var complaint strings.Builder
	st, err := zones.Run(ctx, z.cells.driver, z.zone.ID, zones.ExecRequest{
		Args:  []string{"/bin/sh", "-c", `mkdir -p "${1%/*}" && cat >"$1" && chmod 755 "$1"`, "sh", name},
		Stdin: r, Stderr: &complaint, Alone: true,
	})
	if err == nil && !st.Success() {
		err = fmt.Errorf("write %s in zone: code %d: %.200s", name, st.Code, complaint.String())
	}
	return err
}

// Exec runs a program to its end, and everything that it started. When ctx ends first the error is its cause, and nothing is left running either.
func (z *Cell) Exec(ctx context.Context, args, env []string, in, out, err *os.File) (zones.ExitStatus, error) {
	req := zones.ExecRequest{Args: args, Env: env, Dir: "/", Alone: true, Cores: true, NoNewPrivileges: true}
	if in != nil {
		req.Stdin = in
	}
	if out != nil {
		req.Stdout = out
	}
	if err != nil {
		req.Stderr = err
	}
	p, e := z.cells.driver.Exec(ctx, z.zone.ID, req)
	if e != nil {
		_, never := errors.AsType[*zones.StartError](e)
		z.broken = z.broken || !never // it may have started, and may be killed only after the next one has
		if ctx.Err() != nil {
			e = context.Cause(ctx)
		}
		return zones.ExitStatus{}, e
	}
	st, e := p.Wait()
	if e != nil && (ctx.Err() == nil || errors.Is(e, zones.ErrTimeout)) {
		z.broken = true
	}
	return st, e
}

// Broken reports that it is not known what still runs in the zone, or that nothing can any more.
func (z *Cell) Broken() bool { return z.broken }

// Usage reads those of the zone's meters that an oci.Meter has.
func (z *Cell) Usage() zones.Usage { return z.meter.Read() }

// Full reports whether the zone's file system has no room left.
func (z *Cell) Full(ctx context.Context) bool {
	if z.disk <= 0 || !z.cells.Quotas() {
		return false
	}
	u, err := z.cells.files.Usage(ctx, z.cells.datasetOf(z.zone.Machine))
	return err == nil && u.Used >= z.disk-z.disk/256
}

// Return gives the zone back, to be reset.
func (z *Cell) Return() { z.back((*pool.Lease).Return) }

// Discard gives the zone back, to be removed, as when it did not do what it was told.
func (z *Cell) Discard() { z.back((*pool.Lease).Discard) }

func (z *Cell) back(how func(*pool.Lease)) {
	z.once.Do(func() {
		if z.meter != nil {
			z.meter.Close()
		}
		z.holder.port.Close()
		how(z.lease)
	})
}

// root is the zone's root on the host.
func (z *Cell) root() string { return filepath.Clean(z.zone.Machine.Root.Path) }
