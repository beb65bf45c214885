package objfile

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/mobulacloud/mobula/storage"
)

// writer receives one object: in memory as long as it may still be packed, then in a file.
type writer struct {
	s        *Store
	ctx      context.Context
	id       storage.ObjectID
	size     int64 // announced, or -1
	sums     blockSums
	buf      []byte
	file     *fileWriter
	reserved int64
	err      error
	done     bool
}

// Create implements [storage.Node]. ctx governs the writer until it is committed or cancelled.
func (s *Store) Create(ctx context.Context, id storage.ObjectID, o storage.CreateOptions) (storage.Writer, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	return s.create(ctx, id, o.Size)
}

func (s *Store) create(ctx context.Context, id storage.ObjectID, size int64) (*writer, error) {
	if id == (storage.ObjectID{}) || size < -1 || size > maxObject {
		return nil, fmt.Errorf("%w: create %s, size %d", storage.ErrInvalid, id, size)
	}
	if err := s.readOnlyError(); err != nil {
		return nil, err
	}
	w := &writer{s: s, ctx: ctx, id: id, size: size, reserved: max(size, 1)}
	if err := s.reserve(w.reserved); err != nil {
		return nil, fmt.Errorf("create %s: %w", id, err)
	}
	if size > s.cfg.PackLimit || s.cfg.PackLimit < 0 {
		if err := w.openFile(); err != nil {
			w.end()
			return nil, err
		}
	} else if size > 0 {
		w.buf = getBytes(int(size))[:0]
	}
	return w, nil
}

func (w *writer) openFile() error {
	f, err := w.s.newFileWriter(w.size)
	if err != nil {
		return fmt.Errorf("create %s: %w", w.id, err)
	}
	w.file = f
	if w.size >= 0 { // the file has its space now
		_ = w.s.reserve(-w.reserved)
		w.reserved = 0
	}
	return nil
}

func (w *writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, storage.ErrClosed
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.err = w.s.enter(w.ctx); w.err != nil {
		return 0, w.err
	}
	defer w.s.leave()
	w.err = w.write(p)
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

func (w *writer) write(p []byte) error {
	switch n := w.sums.size + int64(len(p)); {
	case w.size >= 0 && n > w.size:
		return fmt.Errorf("%w: write %s: more than the %d bytes announced", storage.ErrChecksum, w.id, w.size)
	case n > maxObject:
		return fmt.Errorf("%w: write %s: longer than %d bytes", storage.ErrInvalid, w.id, int64(maxObject))
	}
	if w.file == nil {
		if w.sums.size+int64(len(p)) <= w.s.cfg.PackLimit {
			w.sums.writeWhole(p)
			w.buf = appendBytes(w.buf, p)
			return nil
		}
		if err := w.openFile(); err != nil {
			return err
		}
		w.sums = blockSums{} // once more, with the blocks'
		w.sums.write(w.buf)
		if err := w.file.write(w.buf); err != nil {
			return err
		}
		w.dropBuffer()
	}
	w.sums.write(p)
	return w.file.write(p)
}

// Commit implements [storage.Writer].
func (w *writer) Commit(ctx context.Context, sums storage.Sums) (storage.Info, error) {
	if w.done {
		return storage.Info{}, storage.ErrClosed
	}
	defer w.end()
	if w.err != nil {
		return storage.Info{}, w.err
	}
	if err := w.s.enter(ctx); err != nil {
		return storage.Info{}, err
	}
	defer w.s.leave()
	return w.commit(sums)
}

func (w *writer) commit(sums storage.Sums) (storage.Info, error) {
	if w.sums.size != sums.Size || w.sums.whole != sums.CRC32C || w.size >= 0 && w.sums.size != w.size {
		return storage.Info{}, fmt.Errorf("%w: commit %s: %d bytes with CRC32C %08x came, announced %d, told %d with %08x",
			storage.ErrChecksum, w.id, w.sums.size, w.sums.whole, w.size, sums.Size, sums.CRC32C)
	}
	var info storage.Info
	var err error
	if w.file != nil {
		info, err = w.commitFile(sums)
	} else {
		info, err = w.commitPacked(sums)
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("commit %s: %w", w.id, err)
	}
	w.s.met.puts.Add(1)
	w.s.met.putBytes.Add(sums.Size)
	return info, nil
}

func (w *writer) commitPacked(sums storage.Sums) (storage.Info, error) {
	for {
		o := &op{kind: opPut, id: w.id, sums: sums, payload: w.buf}
		err := w.s.submit(o)
		if !errors.Is(err, errTombstoned) {
			return o.info, err
		}
		unlock := w.s.lockID(w.id)
		err = w.s.clearTombstone(w.id)
		unlock()
		if err != nil {
			return storage.Info{}, err
		}
	}
}

func (w *writer) commitFile(sums storage.Sums) (storage.Info, error) {
	s := w.s
	if err := w.file.finish(); err != nil {
		return storage.Info{}, err
	}
	defer s.lockID(w.id)()
	e, ok, err := s.index.lookup(w.id)
	switch {
	case err != nil:
		return storage.Info{}, fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	case ok && e.deleted == 0:
		if !e.same(sums) {
			return storage.Info{}, storage.ErrExist
		}
		return e.info(w.id), nil
	case ok:
		if err := s.clearTombstone(w.id); err != nil {
			return storage.Info{}, err
		}
	}
	owner := objectsDir + "/" + w.id.Owner.String()
	if err := s.dirs.make(owner); err != nil {
		return storage.Info{}, s.fileError("make directory", err)
	}
	name := objectPath(w.id)
	if err := w.file.temp.Link(name); isExist(err) {
		// Nothing in the index has this name, so it is what a crash left, or a deleted file on its way out.
		if err := s.disk.Remove(name); err != nil && !isNotExist(err) {
			return storage.Info{}, s.fileError("remove orphan", err)
		}
		if err := w.file.temp.Link(name); err != nil {
			return storage.Info{}, s.fileError("link", err)
		}
	} else if err != nil {
		return storage.Info{}, s.fileError("link", err)
	}
	if err := s.dirs.sync(owner); err != nil {
		s.setReadOnly(fmt.Errorf("sync directory: %w", err))
		return storage.Info{}, fmt.Errorf("%w: sync directory: %w", storage.ErrUnavailable, err)
	}
	o := &op{kind: opPut, id: w.id, sums: sums, payload: w.sums.list(), file: true}
	if err := s.submit(o); err != nil {
		if !errors.Is(err, storage.ErrUnavailable) { // else the record may be in the journal
			_ = s.disk.Remove(name)
		}
		return storage.Info{}, err
	}
	if o.rec == nil { // a packed put of the same content won
		_ = s.disk.Remove(name)
	}
	return o.info, nil
}

// clearTombstone ends the grace period of a deleted object, so that its id can be written anew. The id is locked.
func (s *Store) clearTombstone(id storage.ObjectID) error {
	e, ok, err := s.index.lookup(id)
	if err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	if !ok || e.deleted == 0 {
		return nil
	}
	_, err = s.purge(id, e.deleted)
	return err
}

// Cancel implements [storage.Writer].
func (w *writer) Cancel() { w.end() }

func (w *writer) end() {
	if w.done {
		return
	}
	w.done = true
	if w.file != nil {
		w.file.close()
		w.file = nil
	}
	w.dropBuffer()
	if w.reserved != 0 {
		_ = w.s.reserve(-w.reserved)
	}
}

func (w *writer) dropBuffer() {
	putBytes(w.buf)
	w.buf = nil
}

// Byte slices for packed objects, in two sizes; smaller ones are not worth keeping.
const (
	smallBytes = 8 << 10
	largeBytes = 64<<10 + 2*headerSize
)

var (
	smallPool = sync.Pool{New: func() any { return new([smallBytes]byte) }}
	largePool = sync.Pool{New: func() any { return new([largeBytes]byte) }}
)

func getBytes(n int) []byte {
	switch {
	case n <= smallBytes:
		return smallPool.Get().(*[smallBytes]byte)[:n]
	case n <= largeBytes:
		return largePool.Get().(*[largeBytes]byte)[:n]
	}
	return make([]byte, n)
}

// putBytes gives back what getBytes gave. The caller has no other use of it.
func putBytes(b []byte) {
	switch cap(b) {
	case smallBytes:
		smallPool.Put((*[smallBytes]byte)(b[:smallBytes]))
	case largeBytes:
		largePool.Put((*[largeBytes]byte)(b[:largeBytes]))
	}
}

// appendBytes is append for slices of getBytes.
func appendBytes(b, p []byte) []byte {
	if len(b)+len(p) <= cap(b) {
		return append(b, p...)
	}
	n := len(b) + len(p)
	if n > smallBytes {
		n = max(n, largeBytes)
	}
	bigger := getBytes(n)[:len(b)]
	copy(bigger, b)
	putBytes(b)
	return append(bigger, p...)
}
