package archive

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const xattrPrefix = "SCHILY.xattr."

// Write packs the tree below root, the top directory included as "./", in the order of names, so equal trees give equal archives.
// Owners, modes, times, hard links and the extended attributes that [Extract] takes are kept; sockets and
// device nodes are left out. A file that shrinks while it is read is an error.
func Write(ctx context.Context, w io.Writer, root *os.Root) error {
	p := packer{ctx: ctx, root: root, tw: tar.NewWriter(w), seen: map[inode]string{}, buf: make([]byte, 256<<10)}
	if err := p.dir("."); err != nil {
		return err
	}
	if err := p.tw.Close(); err != nil {
		return fmt.Errorf("finish archive: %w", err)
	}
	return nil
}

type inode struct{ dev, ino uint64 }

type packer struct {
	ctx  context.Context
	root *os.Root
	tw   *tar.Writer
	seen map[inode]string // first name of a file with several
	buf  []byte
}

func (p *packer) dir(name string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	d, err := p.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	fi, err := d.Stat()
	if err != nil {
		return err
	}
	h := header(name+"/", fi)
	if err := addXattrs(h, d); err != nil {
		return err
	}
	if err := p.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	sort.Strings(names)
	for _, n := range names {
		if err := p.entry(path.Join(name, n)); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) entry(name string) error {
	fi, err := p.root.Lstat(name)
	if err != nil {
		return err
	}
	switch m := fi.Mode(); {
	case m.IsDir():
		return p.dir(name)
	case m.IsRegular():
		return p.file(name)
	case m&fs.ModeSymlink != 0:
		to, err := p.root.Readlink(name)
		if err != nil {
			return err
		}
		h := header(name, fi)
		h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, to, 0
		return p.put(h)
	case m&fs.ModeNamedPipe != 0:
		h := header(name, fi)
		h.Typeflag, h.Size = tar.TypeFifo, 0
		return p.put(h)
	}
	return nil
}

func (p *packer) put(h *tar.Header) error {
	if err := p.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("pack %s: %w", h.Name, err)
	}
	return nil
}

func (p *packer) file(name string) error {
	f, err := p.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("pack %s: it changed while it was packed", name)
	}
	h := header(name, fi)
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		if first, ok := p.seen[id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return p.put(h)
		}
		p.seen[id] = h.Name
	}
	h.Typeflag = tar.TypeReg
	if err := addXattrs(h, f); err != nil {
		return err
	}
	if err := p.put(h); err != nil {
		return err
	}
	// The size is in the header already: a file that grows is cut there, as a snapshot would.
	n, err := io.CopyBuffer(onlyWriter{p.tw}, io.LimitReader(f, h.Size), p.buf)
	if err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	if n != h.Size {
		return fmt.Errorf("pack %s: it shrank while it was packed", name)
	}
	return p.ctx.Err()
}

// onlyWriter hides ReadFrom, which would not use our buffer.
type onlyWriter struct{ io.Writer }

func header(name string, fi fs.FileInfo) *tar.Header {
	if !strings.HasPrefix(name, ".") || strings.HasPrefix(name, "..") || name != "./" {
		name = "./" + strings.TrimPrefix(name, "./")
	}
	h := &tar.Header{
		Name: name, Size: fi.Size(), Mode: tarMode(fi.Mode()), ModTime: fi.ModTime().Truncate(time.Microsecond),
		Format: tar.FormatPAX,
	}
	if fi.IsDir() {
		h.Typeflag, h.Size = tar.TypeDir, 0
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid = int(st.Uid), int(st.Gid)
	}
	return h
}

func tarMode(m fs.FileMode) int64 {
	n := int64(m.Perm())
	if m&fs.ModeSetuid != 0 {
		n |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		n |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		n |= 0o1000
	}
	return n
}

// keepXattr reports which extended attributes belong to the content. trusted.* is the kernel's own (overlayfs reads
// its layers' structure from there) and user.overlay.* likewise; the rest is the host's policy.
func keepXattr(name string) bool {
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") || name == "security.capability"
}

func addXattrs(h *tar.Header, f *os.File) error {
	fd := int(f.Fd())
	n, err := unix.Flistxattr(fd, nil)
	if err != nil || n == 0 {
		return nil // the file system has none
	}
	list := make([]byte, n)
	if n, err = unix.Flistxattr(fd, list); err != nil {
		return fmt.Errorf("list attributes of %s: %w", h.Name, err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if !keepXattr(name) {
			continue
		}
		val := make([]byte, 64<<10)
		n, err := unix.Fgetxattr(fd, name, val)
		if err != nil {
			return fmt.Errorf("read attribute %s of %s: %w", name, h.Name, err)
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrPrefix+name] = string(val[:n])
	}
	return nil
}
