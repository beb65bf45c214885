package sendstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Options bounds what Apply does, and gives it the base of an incremental stream.
type Options struct {
	// MaxBytes bounds the bytes written; 0 means 64 GiB.
	MaxBytes int64
	// MaxEntries bounds the files made; 0 means two million.
	MaxEntries int
	// MaxID is the highest user or group id; 0 means 65535.
	MaxID uint64
	// Base is the read-only tree that an incremental stream builds on, whose content the target already holds; nil takes full streams only.
	Base *os.Root
	// BaseUUID is the uuid under which the sender knows the base.
	BaseUUID [16]byte
}

// Result says what a stream was.
type Result struct {
	// UUID is the sender's for the snapshot; a later incremental stream names it as its base.
	UUID [16]byte
	// Incremental: the stream held changes only.
	Incremental bool
	Entries     int
	Bytes       int64
}

// Apply carries out a stream below root, which is empty, or holds the base's content. It refuses with [ErrBad] device nodes, attributes of
// the kernel, ids above MaxID, paths that climb, and clones from outside the tree and its base. On error the
// tree is left as far as it came.
func Apply(ctx context.Context, r io.Reader, root *os.Root, o Options) (Result, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 30
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = 2_000_000
	}
	if o.MaxID == 0 {
		o.MaxID = 65535
	}
	a := applier{root: root, o: o}
	defer a.drop()
	s := NewReader(r)
	var c Command
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return a.res, err
		}
		if err := s.Next(&c); err != nil {
			return a.res, err
		}
		if first := c.Kind == Subvol || c.Kind == Snapshot; first != (n == 0) {
			return a.res, bad("command %d in place %d", c.Kind, n)
		}
		if c.Kind == End {
			return a.res, nil
		}
		if err := a.do(&c); err != nil {
			return a.res, err
		}
	}
}

type applier struct {
	root *os.Root
	o    Options
	res  Result

	dir     *os.File // the parent used last
	dirName string
	file    *os.File // the file written last
	name    string
}

func (a *applier) drop() {
	if a.dir != nil {
		a.dir.Close()
	}
	if a.file != nil {
		a.file.Close()
	}
	a.dir, a.file = nil, nil
}

// at opens the parent of a path. The top itself gives "." in the top.
func (a *applier) at(p string) (dir int, base string, err error) {
	d := path.Dir(p)
	if p == "." {
		d = "."
	}
	if a.dir == nil || a.dirName != d {
		f, err := a.root.OpenFile(d, os.O_RDONLY|syscall.O_DIRECTORY, 0)
		if err != nil {
			return 0, "", bad("%v", err)
		}
		if a.dir != nil {
			a.dir.Close()
		}
		a.dir, a.dirName = f, d
	}
	return int(a.dir.Fd()), path.Base(p), nil
}

func (a *applier) open(p string) (*os.File, error) {
	if a.file != nil && a.name == p {
		return a.file, nil
	}
	// A set-uid file loses the bit when it is written; the stream sets modes after contents.
	f, err := a.root.OpenFile(p, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, bad("%v", err)
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, bad("write to %.100q, which is no file", p)
	}
	if a.file != nil {
		a.file.Close()
	}
	a.file, a.name = f, p
	return f, nil
}

func (a *applier) do(c *Command) error {
	switch c.Kind {
	case Subvol, Snapshot:
		return a.begin(c)
	case UpdateExtent:
		return bad("a stream without data")
	}
	p, err := c.path(attrPath)
	if err != nil {
		return err
	}
	switch c.Kind {
	case Write, Clone, Truncate:
		return a.content(c, p)
	case Chmod, Chown, Utimes, SetXattr, RemoveXattr:
		return a.meta(c, p)
	}
	if p == "." {
		return bad("command %d on the top", c.Kind)
	}
	dir, base, err := a.at(p)
	if err != nil {
		return err
	}
	if err := a.names(c, dir, base); err != nil {
		if errors.Is(err, ErrBad) {
			return err
		}
		return bad("%.100q: command %d: %v", p, c.Kind, err)
	}
	return nil
}

func (a *applier) begin(c *Command) error {
	var err error
	if a.res.UUID, err = c.uuid(attrUUID); err != nil {
		return err
	}
	if c.Kind == Subvol {
		if a.o.Base != nil {
			return bad("a full stream where an incremental one was expected")
		}
		return nil
	}
	base, err := c.uuid(attrCloneUUID)
	if err != nil {
		return err
	}
	if a.o.Base == nil {
		return bad("an incremental stream without its base")
	}
	if base != a.o.BaseUUID {
		return bad("the stream builds on another snapshot")
	}
	a.res.Incremental = true
	return nil
}

// names carries out what makes, moves and removes names.
func (a *applier) names(c *Command, dir int, base string) error {
	switch c.Kind {
	case Mkfile, Mkdir, Mkfifo, Mksock, Symlink, Mknod:
		if a.res.Entries++; a.res.Entries > a.o.MaxEntries {
			return bad("more than %d entries", a.o.MaxEntries)
		}
	}
	switch c.Kind {
	case Mkfile:
		return unix.Mknodat(dir, base, unix.S_IFREG|0o600, 0)
	case Mkdir:
		return unix.Mkdirat(dir, base, 0o700)
	case Mkfifo:
		return unix.Mknodat(dir, base, unix.S_IFIFO|0o600, 0)
	case Mksock:
		return unix.Mknodat(dir, base, unix.S_IFSOCK|0o600, 0)
	case Mknod:
		return bad("a device node")
	case Symlink:
		to, err := c.bytes(attrPathLink)
		if err != nil {
			return err
		}
		if len(to) == 0 || len(to) >= unix.PathMax || strings.ContainsRune(string(to), 0) {
			return bad("a bad link")
		}
		return unix.Symlinkat(string(to), dir, base)
	case Link:
		from, err := c.path(attrPathLink)
		if err != nil {
			return err
		}
		return a.two(from, func(d int, b string) error { return unix.Linkat(d, b, dir, base, 0) })
	case Rename:
		to, err := c.path(attrPathTo)
		if err != nil {
			return err
		}
		err = a.two(to, func(d int, b string) error { return unix.Renameat(dir, base, d, b) })
		a.drop() // names no longer lead where they did
		return err
	case Unlink, Rmdir:
		flags := 0
		if c.Kind == Rmdir {
			flags = unix.AT_REMOVEDIR
		}
		err := unix.Unlinkat(dir, base, flags)
		a.drop()
		return err
	}
	return bad("command %d", c.Kind)
}

// two opens the parent of the second path of a command, beside the first one's.
func (a *applier) two(p string, f func(dir int, base string) error) error {
	if p == "." {
		return bad("the top as second path")
	}
	d, err := a.root.OpenFile(path.Dir(p), os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(int(d.Fd()), path.Base(p))
}

func (a *applier) spend(n uint64) error {
	if n > uint64(a.o.MaxBytes-a.res.Bytes) {
		return bad("more than %d bytes", a.o.MaxBytes)
	}
	a.res.Bytes += int64(n)
	return nil
}

const maxOffset = 1 << 50

func (a *applier) content(c *Command, p string) error {
	f, err := a.open(p)
	if err != nil {
		return err
	}
	if c.Kind == Truncate {
		n, err := c.number(attrSize)
		if err != nil {
			return err
		}
		if n > maxOffset {
			return bad("size %d", n)
		}
		return f.Truncate(int64(n))
	}
	off, err := c.number(attrFileOffset)
	if err != nil {
		return err
	}
	if off > maxOffset {
		return bad("offset %d", off)
	}
	if c.Kind == Clone {
		return a.clone(c, f, int64(off))
	}
	data, err := c.bytes(attrData)
	if err != nil {
		return err
	}
	if err := a.spend(uint64(len(data))); err != nil {
		return err
	}
	_, err = f.WriteAt(data, int64(off))
	return err
}

// clone copies a range of this tree or of the base, sharing blocks where the file system can.
func (a *applier) clone(c *Command, to *os.File, off int64) error {
	id, err := c.uuid(attrCloneUUID)
	if err != nil {
		return err
	}
	from, err := c.path(attrClonePath)
	if err != nil {
		return err
	}
	src, err := c.number(attrCloneOffset)
	if err != nil {
		return err
	}
	n, err := c.number(attrCloneLen)
	if err != nil {
		return err
	}
	if src > maxOffset || n > maxOffset {
		return bad("clone of %d bytes at %d", n, src)
	}
	if err := a.spend(n); err != nil {
		return err
	}
	root := a.root
	switch {
	case id == a.res.UUID:
	case a.o.Base != nil && id == a.o.BaseUUID:
		root = a.o.Base
	default:
		return bad("a clone from elsewhere")
	}
	f, err := root.OpenFile(from, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return bad("%v", err)
	}
	defer f.Close()
	r := unix.FileCloneRange{Src_fd: int64(f.Fd()), Src_offset: src, Src_length: n, Dest_offset: uint64(off)}
	if unix.IoctlFileCloneRange(int(to.Fd()), &r) == nil {
		return nil
	}
	m, err := io.Copy(io.NewOffsetWriter(to, off), io.NewSectionReader(f, int64(src), int64(n)))
	if err == nil && m != int64(n) {
		err = bad("clone beyond the end of %.100q", from)
	}
	return err
}

func (a *applier) meta(c *Command, p string) error {
	dir, base, err := a.at(p)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return bad("%.100q: %v", p, err)
	}
	switch c.Kind {
	case Chmod:
		mode, err := c.number(attrMode)
		if err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return nil // a link has no mode, and chmod would follow it
		}
		return unix.Fchmodat(dir, base, uint32(mode&0o7777), 0)
	case Chown:
		uid, err := c.number(attrUID)
		if err != nil {
			return err
		}
		gid, err := c.number(attrGID)
		if err != nil {
			return err
		}
		if uid > a.o.MaxID || gid > a.o.MaxID {
			return bad("owner %d:%d", uid, gid)
		}
		return unix.Fchownat(dir, base, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
	case Utimes:
		at, err := c.time(attrAtime)
		if err != nil {
			return err
		}
		mt, err := c.time(attrMtime)
		if err != nil {
			return err
		}
		ts := []unix.Timespec{{Sec: at.Unix(), Nsec: int64(at.Nanosecond())}, {Sec: mt.Unix(), Nsec: int64(mt.Nanosecond())}}
		return unix.UtimesNanoAt(dir, base, ts, unix.AT_SYMLINK_NOFOLLOW)
	}
	return a.xattr(c, dir, base)
}

func (a *applier) xattr(c *Command, dir int, base string) error {
	b, err := c.bytes(attrXattrName)
	if err != nil {
		return err
	}
	name := string(b)
	switch {
	case strings.HasPrefix(name, "trusted."), strings.HasPrefix(name, "user.overlay."), strings.ContainsRune(name, 0):
		return bad("attribute %.60q", name)
	case !strings.HasPrefix(name, "user.") && name != "security.capability":
		return nil
	}
	link := fmt.Sprintf("/proc/self/fd/%d/%s", dir, base)
	if c.Kind == RemoveXattr {
		if err := unix.Lremovexattr(link, name); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return &fs.PathError{Op: "removexattr", Path: base, Err: err}
		}
		return nil
	}
	data, err := c.bytes(attrXattrData)
	if err != nil {
		return err
	}
	if err := unix.Lsetxattr(link, name, data, 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		return &fs.PathError{Op: "setxattr", Path: base, Err: err}
	}
	return nil
}
