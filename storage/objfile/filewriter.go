package objfile

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

const (
	directChunk = 1 << 20 // one direct write
	directDepth = 4       // direct writes of one object under way at once
	spaceGrant  = 1 << 20 // content of unknown size between looks at the free space
	objectPerm  = 0o444   // readable for a container whose root is nobody outside; the store's directory keeps others out
)

// fileWriter writes the content of one object, in order, into a file without a name. Large content goes past the page cache, in chunks of which a few are
// under way at once while the caller fills the next; what is left at the end, and all content if there are no buffers left, goes through it.
type fileWriter struct {
	s    *Store
	temp diskfs.Temp
	off  int64 // where the next byte that is not in chunk goes
	size int64 // announced, or -1

	taken, granted int64 // content so far, and how much is in order before free space is looked at again

	chunk []byte // being filled; nil: no direct writing
	fill  int
	depth chan struct{}
	wg    sync.WaitGroup
	mu    sync.Mutex
	err   error // of a write under way
}

func (s *Store) newFileWriter(size int64) (*fileWriter, error) {
	t, err := s.disk.CreateTemp(objectsDir, objectPerm)
	if err != nil {
		return nil, s.fileError("create file", err)
	}
	f := &fileWriter{s: s, temp: t, size: size}
	if err := t.Preallocate(size); err != nil {
		f.close()
		return nil, s.fileError("set space aside", err)
	}
	if s.cfg.DirectFrom > 0 && (size < 0 || size >= s.cfg.DirectFrom) && t.SetDirect(true) {
		if f.chunk = s.buffer.get(); f.chunk != nil {
			f.depth = make(chan struct{}, directDepth)
		} else if !t.SetDirect(false) {
			f.close()
			return nil, s.fileError("leave direct mode", errors.ErrUnsupported)
		}
	}
	return f, nil
}

// fileError says what a failure of the disk means to the caller. A full disk passes; after anything else nobody knows what the disk will take.
func (s *Store) fileError(what string, err error) error {
	if diskfs.NoSpace(err) {
		return fmt.Errorf("%w: %s: %w", storage.ErrNoSpace, what, err)
	}
	return fmt.Errorf("%w: %s: %w", storage.ErrUnavailable, what, err)
}

func (f *fileWriter) write(p []byte) error {
	n := int64(len(p))
	if f.size < 0 && f.taken+n > f.granted {
		avail, err := f.s.available()
		if err != nil || avail < n {
			return errors.Join(fmt.Errorf("%w: %d bytes left", storage.ErrNoSpace, avail), err)
		}
		f.granted = f.taken + n + min(spaceGrant, avail-n)
	}
	f.taken += n
	if f.chunk == nil {
		_, err := f.temp.WriteAt(p, f.off)
		f.off += int64(len(p))
		return f.failed(err)
	}
	for len(p) > 0 {
		n := copy(f.chunk[f.fill:], p)
		f.fill += n
		if p = p[n:]; f.fill == len(f.chunk) {
			if err := f.dispatch(); err != nil {
				return err
			}
		}
	}
	return nil
}

// dispatch writes the full chunk beside the caller and gets a fresh one.
func (f *fileWriter) dispatch() error {
	chunk, off := f.chunk, f.off
	f.off += int64(len(chunk))
	f.chunk, f.fill = nil, 0
	f.depth <- struct{}{}
	f.wg.Go(func() {
		_, err := f.temp.WriteAt(chunk, off)
		if err != nil {
			f.mu.Lock()
			f.err = errors.Join(f.err, err)
			f.mu.Unlock()
		}
		f.s.buffer.put(chunk)
		<-f.depth
	})
	if f.chunk = f.s.buffer.get(); f.chunk == nil {
		// All buffers are in use. Ours come back, so wait for those; somebody else's client may be slow.
		f.wg.Wait()
		if f.chunk = f.s.buffer.get(); f.chunk == nil && !f.temp.SetDirect(false) {
			return f.s.fileError("leave direct mode", errors.ErrUnsupported)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed(f.err)
}

// finish brings all content to the disk.
func (f *fileWriter) finish() error {
	f.wg.Wait()
	err := f.err
	if err == nil && f.chunk != nil && f.fill > 0 {
		if !f.temp.SetDirect(false) { // the tail is not aligned
			return f.s.fileError("leave direct mode", errors.ErrUnsupported)
		}
		_, err = f.temp.WriteAt(f.chunk[:f.fill], f.off)
	}
	f.dropChunk()
	if err != nil {
		return f.failed(err)
	}
	if err := f.temp.Sync(); err != nil {
		f.s.setReadOnly(fmt.Errorf("sync object: %w", err))
		return fmt.Errorf("%w: sync object: %w", storage.ErrUnavailable, err)
	}
	return nil
}

func (f *fileWriter) failed(err error) error {
	if err == nil {
		return nil
	}
	if !diskfs.NoSpace(err) {
		f.s.setReadOnly(fmt.Errorf("write object: %w", err))
	}
	return f.s.fileError("write", err)
}

func (f *fileWriter) dropChunk() {
	if f.chunk != nil {
		f.s.buffer.put(f.chunk)
		f.chunk = nil
	}
}

func (f *fileWriter) close() {
	f.wg.Wait()
	f.dropChunk()
	_ = f.temp.Close() // without a name it is gone; with one it is synced
}

// buffers are the chunks of all direct writers together.
type buffers struct {
	free chan struct{}
	pool *sync.Pool
}

func newBuffers(total int64) buffers {
	return buffers{
		free: make(chan struct{}, total/directChunk),
		pool: &sync.Pool{New: func() any { b := alignedBuffer(directChunk); return &b }},
	}
}

// get returns a buffer, or nil if all are in use.
func (b buffers) get() []byte {
	select {
	case b.free <- struct{}{}:
		return *b.pool.Get().(*[]byte)
	default:
		return nil
	}
}

func (b buffers) put(p []byte) {
	b.pool.Put(&p)
	<-b.free
}

func isExist(err error) bool { return errors.Is(err, fs.ErrExist) }
