package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sort"
	"syscall"
)

// WriteDiff packs what root has that base has not, or has otherwise, as an OCI layer: unpacked over base with Policy.Whiteouts it gives
// root. Files are equal if kind, owner, mode, size, time and content are; contents are compared unless both are the same inode
// unchanged, as in a clone.
func WriteDiff(ctx context.Context, w io.Writer, base, root *os.Root) error {
	p := differ{packer: packer{ctx: ctx, root: root, tw: tar.NewWriter(w), seen: map[inode]string{}, buf: make([]byte, 256<<10)}, base: base}
	if err := p.compare("."); err != nil {
		return err
	}
	return p.tw.Close()
}

type differ struct {
	packer
	base *os.Root
}

func names(r *os.Root, dir string) ([]string, error) {
	d, err := r.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	n, err := d.Readdirnames(-1)
	sort.Strings(n)
	return n, err
}

// compare handles a directory that both have. Its own header goes first if it differs.
func (p *differ) compare(dir string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	was, err := names(p.base, dir)
	if err != nil {
		return err
	}
	is, err := names(p.root, dir)
	if err != nil {
		return err
	}
	same, err := p.sameMeta(dir)
	if err != nil {
		return err
	}
	if !same {
		if err := p.dirHeader(dir); err != nil {
			return err
		}
	}
	for _, n := range was {
		if _, found := slices.BinarySearch(is, n); !found {
			h := &tar.Header{Name: "./" + path.Join(dir, whiteout+n), Typeflag: tar.TypeReg, Mode: 0o600, Format: tar.FormatPAX}
			if err := p.put(h); err != nil {
				return err
			}
		}
	}
	for _, n := range is {
		name := path.Join(dir, n)
		_, both := slices.BinarySearch(was, n)
		if !both {
			if err := p.entry(name); err != nil {
				return err
			}
			continue
		}
		if err := p.both(name); err != nil {
			return err
		}
	}
	return nil
}

func (p *differ) both(name string) error {
	a, err := p.base.Lstat(name)
	if err != nil {
		return err
	}
	b, err := p.root.Lstat(name)
	if err != nil {
		return err
	}
	if a.IsDir() && b.IsDir() {
		return p.compare(name)
	}
	same, err := p.same(name, a, b)
	if err != nil || same {
		return err
	}
	return p.entry(name)
}

func (p *differ) dirHeader(dir string) error {
	d, err := p.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	fi, err := d.Stat()
	if err != nil {
		return err
	}
	h := header(dir+"/", fi)
	if err := addXattrs(h, d); err != nil {
		return err
	}
	return p.put(h)
}

func (p *differ) sameMeta(name string) (bool, error) {
	a, err := p.base.Lstat(name)
	if err != nil {
		return false, err
	}
	b, err := p.root.Lstat(name)
	if err != nil {
		return false, err
	}
	return equalMeta(a, b), nil
}

func equalMeta(a, b fs.FileInfo) bool {
	x, ok1 := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	return ok1 && ok2 && a.Mode() == b.Mode() && x.Uid == y.Uid && x.Gid == y.Gid && a.ModTime().Equal(b.ModTime())
}

func (p *differ) same(name string, a, b fs.FileInfo) (bool, error) {
	if a.Mode() != b.Mode() || !equalMeta(a, b) {
		if a.Mode()&fs.ModeSymlink == 0 || b.Mode()&fs.ModeSymlink == 0 {
			return false, nil
		}
	}
	switch {
	case a.Mode()&fs.ModeSymlink != 0:
		x, err := p.base.Readlink(name)
		if err != nil {
			return false, err
		}
		y, err := p.root.Readlink(name)
		sa, sb := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
		return x == y && sa.Uid == sb.Uid && sa.Gid == sb.Gid, err
	case !a.Mode().IsRegular():
		return true, nil
	case a.Size() != b.Size():
		return false, nil
	}
	sa, sb := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
	if sa.Ino == sb.Ino && sa.Ctim == sb.Ctim {
		return true, nil
	}
	return p.sameContent(name)
}

func (p *differ) sameContent(name string) (bool, error) {
	open := func(r *os.Root) (*os.File, error) {
		return r.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	}
	a, err := open(p.base)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := open(p.root)
	if err != nil {
		return false, err
	}
	defer b.Close()
	x, y := p.buf[:len(p.buf)/2], p.buf[len(p.buf)/2:]
	for {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if errA == io.EOF || errA == io.ErrUnexpectedEOF {
			return true, nil
		}
		if errA != nil || errB != nil {
			return false, errA
		}
	}
}
