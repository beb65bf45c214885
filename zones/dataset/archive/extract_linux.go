package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxDepth       = 512
	maxLinks       = 40
	whiteout       = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// Extract unpacks a tar stream below root. What exists under an entry's name is replaced, a directory by a directory is kept.
//
// It refuses with [ErrRefused]: names that are absolute or climb above the top, relative symbolic links that climb above
// it, hard links to anything but an earlier file of the tree, device nodes, unknown kinds, ids above MaxID, attributes of
// the kernel, and more than the policy's bytes or entries. Symbolic links in the way of a name are followed as inside a
// machine, where "/" is the top. On error the tree is left as far as it came; the caller throws it away.
func Extract(ctx context.Context, r io.Reader, root *os.Root, p Policy) (Stats, error) {
	x := extractor{ctx: ctx, root: root, policy: p.withDefaults(), buf: make([]byte, 256<<10)}
	if p.Whiteouts {
		x.added = map[string]bool{}
	}
	err := x.run(tar.NewReader(r))
	return x.stats, err
}

type extractor struct {
	ctx    context.Context
	root   *os.Root
	policy Policy
	stats  Stats
	added  map[string]bool // names of this layer, which its own opaque marks spare
	dirs   []dirTime
	buf    []byte
	last   string // the directory that resolved last, and what it is
	lastTo string
}

// dirTime is set at the end: every file made in a directory moves its time.
type dirTime struct {
	name string
	time time.Time
}

func (x *extractor) run(tr *tar.Reader) error {
	for {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if x.stats.Entries++; x.stats.Entries > x.policy.MaxEntries {
			return refuse(h.Name, "more than %d entries", x.policy.MaxEntries)
		}
		if err := x.entry(h, tr); err != nil {
			return err
		}
	}
	for i := len(x.dirs) - 1; i >= 0; i-- {
		// The directory may have been replaced or deleted by a later entry.
		if fi, err := x.root.Lstat(x.dirs[i].name); err == nil && fi.IsDir() {
			_ = x.root.Chtimes(x.dirs[i].name, x.dirs[i].time, x.dirs[i].time)
		}
	}
	return nil
}

func (x *extractor) entry(h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeChar, tar.TypeBlock:
		if x.policy.SkipDevices {
			return nil
		}
		return refuse(h.Name, "a device node")
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo:
	default:
		return refuse(h.Name, "unknown kind %q", h.Typeflag)
	}
	clean, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if h.Uid < 0 || h.Gid < 0 || h.Uid > x.policy.MaxID || h.Gid > x.policy.MaxID {
		return refuse(h.Name, "owner %d:%d", h.Uid, h.Gid)
	}
	if clean == "." {
		if h.Typeflag != tar.TypeDir {
			return refuse(h.Name, "the top is a directory")
		}
		return x.dir(".", h)
	}
	parent, err := x.resolve(path.Dir(clean))
	if err != nil {
		return fmt.Errorf("%w: %.200q: %w", ErrRefused, h.Name, err)
	}
	name, base := path.Join(parent, path.Base(clean)), path.Base(clean)
	if x.policy.Whiteouts {
		if base == whiteoutOpaque {
			return x.opaque(parent)
		}
		if gone, ok := strings.CutPrefix(base, whiteout); ok {
			if gone == "" || gone == "." || gone == ".." {
				return refuse(h.Name, "a whiteout of nothing")
			}
			x.forget(path.Join(parent, gone))
			return x.root.RemoveAll(path.Join(parent, gone))
		}
		x.added[name] = true
	}
	if h.Typeflag == tar.TypeDir {
		return x.dir(name, h)
	}
	if err := x.clear(name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return x.file(name, h, r)
	case tar.TypeSymlink:
		return x.symlink(name, clean, h)
	case tar.TypeLink:
		return x.link(name, h)
	}
	return x.fifo(name, h)
}

// cleanName checks a name as written, before any link is looked at.
func cleanName(name string) (string, error) {
	if name == "" || strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) {
		return "", refuse(name, "an absolute or empty name")
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", refuse(name, "a name that climbs")
		}
		depth++
	}
	if depth > maxDepth {
		return "", refuse(name, "%d levels deep", depth)
	}
	return path.Clean(name), nil
}

// resolve finds the real directory of a path inside, making what is missing. Links count from the top, as
// chroot would have it; os.Root alone refuses absolute ones, which every distribution has (/var/run).
func (x *extractor) resolve(dir string) (string, error) {
	if dir == "." || dir == x.last && x.last != "" {
		if dir == "." {
			return ".", nil
		}
		return x.lastTo, nil
	}
	at, todo, links := ".", strings.Split(dir, "/"), 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		fi, err := x.root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := x.root.Mkdir(next, 0o755); err != nil {
				return "", err
			}
		case err != nil:
			return "", err
		case fi.Mode()&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return "", errors.New("too many symbolic links")
			}
			to, err := x.root.Readlink(next)
			if err != nil {
				return "", err
			}
			if path.IsAbs(to) {
				at = "."
			}
			todo = append(strings.Split(to, "/"), todo...)
			if len(todo) > 4*maxDepth {
				return "", errors.New("symbolic links lead too deep")
			}
			continue
		case !fi.IsDir():
			return "", errors.New("a file is in the way")
		}
		at = next
	}
	x.last, x.lastTo = dir, at
	return at, nil
}

func (x *extractor) forget(name string) { x.last = ""; delete(x.added, name) }

// clear makes room for an entry that is not a directory.
func (x *extractor) clear(name string) error {
	fi, err := x.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.IsDir() || fi.Mode()&fs.ModeSymlink != 0 {
		x.last = "" // what was resolved may have led through it
	}
	return x.root.RemoveAll(name)
}

func (x *extractor) opaque(dir string) error {
	d, err := x.root.Open(dir)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return err
	}
	x.last = ""
	for _, n := range names {
		child := path.Join(dir, n)
		if x.added[child] {
			// A directory of this layer may still hold children of a lower one.
			if fi, err := x.root.Lstat(child); err == nil && fi.IsDir() {
				if err := x.opaque(child); err != nil {
					return err
				}
			}
			continue
		}
		if err := x.root.RemoveAll(child); err != nil {
			return err
		}
	}
	return nil
}

func (x *extractor) dir(name string, h *tar.Header) error {
	if name != "." {
		fi, err := x.root.Lstat(name)
		if err == nil && !fi.IsDir() {
			if err := x.clear(name); err != nil {
				return err
			}
			err = fs.ErrNotExist
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || fi != nil && !fi.IsDir() {
			if err := x.root.Mkdir(name, 0o700); err != nil {
				return err
			}
		}
	}
	d, err := x.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	x.dirs = append(x.dirs, dirTime{name, h.ModTime})
	return x.finish(d, name, h)
}

func (x *extractor) file(name string, h *tar.Header, r io.Reader) error {
	if h.Size < 0 || x.stats.Bytes+h.Size > x.policy.MaxBytes {
		return refuse(h.Name, "more than %d bytes", x.policy.MaxBytes)
	}
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := x.copy(f, r)
	x.stats.Bytes += n
	if err != nil {
		return fmt.Errorf("unpack %s: %w", h.Name, err)
	}
	if err := x.finish(f, name, h); err != nil {
		return err
	}
	if err := unix.Futimes(int(f.Fd()), []unix.Timeval{unix.NsecToTimeval(h.ModTime.UnixNano()), unix.NsecToTimeval(h.ModTime.UnixNano())}); err != nil {
		return fmt.Errorf("set time of %s: %w", h.Name, err)
	}
	return f.Close()
}

// copy leaves holes where blocks are zero, so a disk image does not grow by being packed. It counts bytes itself: a
// sparse entry's size in the header is what it would expand to, which the check before it has already bounded.
func (x *extractor) copy(f *os.File, r io.Reader) (int64, error) {
	var total int64
	hole := false
	for {
		if err := x.ctx.Err(); err != nil {
			return total, err
		}
		n, err := io.ReadFull(r, x.buf)
		if x.stats.Bytes+total+int64(n) > x.policy.MaxBytes {
			return total, refuse(f.Name(), "more than %d bytes", x.policy.MaxBytes)
		}
		if n > 0 {
			if hole = n >= 4096 && isZero(x.buf[:n]); !hole {
				if _, werr := f.WriteAt(x.buf[:n], total); werr != nil {
					return total, werr
				}
			}
			total += int64(n)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			if err == io.ErrUnexpectedEOF && n == 0 {
				return total, err
			}
			break
		}
		if err != nil {
			return total, err
		}
	}
	if hole {
		return total, f.Truncate(total)
	}
	return total, nil
}

var zeros [4096]byte

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

func (x *extractor) symlink(name, clean string, h *tar.Header) error {
	if h.Linkname == "" || strings.ContainsRune(h.Linkname, 0) || len(h.Linkname) >= unix.PathMax {
		return refuse(h.Name, "a bad link")
	}
	if !path.IsAbs(h.Linkname) && climbs(path.Dir(clean), h.Linkname) {
		return refuse(h.Name, "a link out of the tree")
	}
	if err := x.root.Symlink(h.Linkname, name); err != nil {
		return err
	}
	return x.root.Lchown(name, h.Uid, h.Gid)
}

// climbs reports whether a relative link read in dir leads above the top.
func climbs(dir, link string) bool {
	depth := 0
	if dir != "." {
		depth = strings.Count(dir, "/") + 1
	}
	for part := range strings.SplitSeq(link, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

func (x *extractor) link(name string, h *tar.Header) error {
	to, err := cleanName(h.Linkname)
	if err != nil {
		return err
	}
	parent, err := x.resolve(path.Dir(to))
	if err != nil {
		return fmt.Errorf("%w: %.200q: %w", ErrRefused, h.Name, err)
	}
	target := path.Join(parent, path.Base(to))
	fi, err := x.root.Lstat(target)
	if err != nil {
		return refuse(h.Name, "a hard link to what is not there")
	}
	if fi.IsDir() {
		return refuse(h.Name, "a hard link to a directory")
	}
	return x.root.Link(target, name)
}

func (x *extractor) fifo(name string, h *tar.Header) error {
	d, err := x.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	base := path.Base(name)
	if err := unix.Mknodat(int(d.Fd()), base, unix.S_IFIFO|0o600, 0); err != nil {
		return &fs.PathError{Op: "mkfifo", Path: name, Err: err}
	}
	if err := unix.Fchownat(int(d.Fd()), base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "chown", Path: name, Err: err}
	}
	return unix.Fchmodat(int(d.Fd()), base, uint32(h.Mode&0o777), 0)
}

// finish gives an open file or directory its owner, mode and attributes, in this order: a change of owner clears set-uid.
func (x *extractor) finish(f *os.File, name string, h *tar.Header) error {
	fd := int(f.Fd())
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return &fs.PathError{Op: "chown", Path: name, Err: err}
	}
	if err := unix.Fchmod(fd, uint32(h.Mode&0o7777)); err != nil {
		return &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	for k, v := range h.PAXRecords {
		attr, ok := strings.CutPrefix(k, xattrPrefix)
		if !ok {
			continue
		}
		if strings.HasPrefix(attr, "trusted.") || strings.HasPrefix(attr, "user.overlay.") {
			return refuse(h.Name, "attribute %.60s", attr)
		}
		if !keepXattr(attr) {
			continue
		}
		if err := unix.Fsetxattr(fd, attr, []byte(v), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return &fs.PathError{Op: "setxattr " + attr, Path: name, Err: err}
		}
	}
	return nil
}
