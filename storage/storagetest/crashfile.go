package storagetest

import (
	"io"
	"io/fs"
	"slices"
	"syscall"
	"time"
)

// crashFile is an open file of a CrashFS. It is a diskfs.File, and a diskfs.Temp while nothing has linked it.
type crashFile struct {
	c      *CrashFS
	n      *crashNode
	name   string
	write  bool
	closed bool
}

func (f *crashFile) err(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

func (f *crashFile) begin(op string) error {
	if err := f.c.begin("%s %s", op, f.name); err != nil {
		return err
	}
	if f.closed {
		return f.err(op, fs.ErrClosed)
	}
	if !f.write && op != "sync" {
		return f.err(op, syscall.EBADF)
	}
	return nil
}

func (f *crashFile) ReadAt(p []byte, off int64) (int, error) {
	err := f.c.look()
	defer f.c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if f.closed {
		return 0, f.err("read", fs.ErrClosed)
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	k := copy(p, f.n.data[off:])
	if k < len(p) {
		return k, io.EOF
	}
	return k, nil
}

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.begin("write")
	defer f.c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	short := error(nil)
	if grow := off + int64(len(p)) - int64(len(f.n.data)); grow > 0 {
		if free := f.c.capacity - f.c.used; grow > free { // as a real disk, take what fits
			p = p[:max(0, int64(len(p))-(grow-max(0, free)))]
			short = f.err("write", syscall.ENOSPC)
		}
	}
	if len(p) == 0 {
		return 0, short
	}
	before := len(f.n.data)
	w := crashWrite{off, slices.Clone(p)}
	f.n.apply(w)
	f.n.writes = append(f.n.writes, w)
	f.n.mtime = time.Now()
	f.grown(before)
	return len(p), short
}

func (f *crashFile) grown(before int) {
	if f.n.links > 0 {
		f.c.used += int64(len(f.n.data) - before)
	}
}

func (f *crashFile) Truncate(size int64) error {
	err := f.begin("truncate")
	defer f.c.mu.Unlock()
	if err != nil {
		return err
	}
	before := len(f.n.data)
	w := crashWrite{off: size}
	f.n.apply(w)
	f.n.writes = append(f.n.writes, w)
	f.grown(before)
	return nil
}

func (f *crashFile) Sync() error {
	err := f.begin("sync")
	defer f.c.mu.Unlock()
	if err != nil {
		return err
	}
	f.n.sync()
	return nil
}

// sync brings the durable content up to date by the changes alone, so that a large log costs what was appended.
func (n *crashNode) sync() {
	disk := crashNode{data: n.synced}
	for _, w := range n.writes {
		disk.apply(w)
	}
	n.synced, n.writes = disk.data, nil
}

func (f *crashFile) Size() (int64, error) {
	err := f.c.look()
	defer f.c.mu.Unlock()
	return int64(len(f.n.data)), err
}

func (f *crashFile) Preallocate(size int64) error {
	err := f.begin("preallocate")
	defer f.c.mu.Unlock()
	if err == nil && size-int64(len(f.n.data)) > f.c.capacity-f.c.used {
		err = f.err("preallocate", syscall.ENOSPC)
	}
	return err
}

func (f *crashFile) SetDirect(on bool) bool { return !on }
func (f *crashFile) Forget(off, n int64)    {}

func (f *crashFile) Link(name string) error {
	err := f.begin("link " + name)
	defer f.c.mu.Unlock()
	if err != nil {
		return err
	}
	if err := f.c.add("link", name, f.n); err != nil {
		return err
	}
	f.name = name
	return nil
}

func (f *crashFile) Close() error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.closed {
		return f.err("close", fs.ErrClosed)
	}
	f.closed = true
	return nil
}
