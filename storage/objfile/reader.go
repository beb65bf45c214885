package objfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"encoding/binary"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

// readWindow is how much of a file is read and verified at once. Every open reader that has begun holds so much, slow ones too.
const readWindow = 2 * blockSize

var windowPool = sync.Pool{New: func() any { return new([readWindow]byte) }}

// errMoved tells that compaction has taken the record elsewhere meanwhile.
var errMoved = errors.New("objfile: moved")

// Open implements [storage.Node]. A damaged packed object is found here, a damaged block of a file when its turn comes.
func (s *Store) Open(ctx context.Context, id storage.ObjectID, off, n int64) (io.ReadCloser, storage.Info, error) {
	if err := s.enter(ctx); err != nil {
		return nil, storage.Info{}, err
	}
	defer s.leave()
	r, info, err := s.open(ctx, id, off, n, false)
	if err != nil {
		return nil, storage.Info{}, err
	}
	s.met.gets.Add(1)
	return r, info, nil
}

// open opens a range. fresh makes it read the disk and not the page cache.
func (s *Store) open(ctx context.Context, id storage.ObjectID, off, n int64, fresh bool) (io.ReadCloser, storage.Info, error) {
	for {
		e, err := s.find(id)
		if err != nil {
			return nil, storage.Info{}, err
		}
		if n < 0 {
			n = max(0, e.size-off)
		}
		if off < 0 || off > e.size || n > e.size-off {
			return nil, storage.Info{}, fmt.Errorf("%w: range %d+%d of %s, size %d", storage.ErrInvalid, off, n, id, e.size)
		}
		var r io.ReadCloser
		if e.file {
			r, err = s.openFile(ctx, id, e, off, n, fresh)
		} else {
			r, err = s.openPacked(ctx, id, e, off, n, fresh)
		}
		if err == nil {
			return r, e.info(id), nil
		}
		if !errors.Is(err, errMoved) {
			return nil, storage.Info{}, err
		}
	}
}

// gone says what a missing segment or file means: the object has moved or gone meanwhile, or it is damaged.
func (s *Store) gone(id storage.ObjectID, e entry, reason string) error {
	if now, ok, err := s.index.lookup(id); err != nil || !ok || now.seq != e.seq || now.deleted != 0 {
		return errMoved // and find will say where to
	}
	return s.damage(id, e, reason, nil)
}

func readError(id storage.ObjectID, err error) error {
	return fmt.Errorf("%w: read %s: %w", storage.ErrUnavailable, id, err)
}

// packedReader hands out content that has been verified in full.
type packedReader struct {
	ctx  context.Context
	buf  []byte
	data []byte
}

func (s *Store) openPacked(ctx context.Context, id storage.ObjectID, e entry, off, n int64, fresh bool) (io.ReadCloser, error) {
	seg, err := s.segs.acquire(e.at.seg)
	if isNotExist(err) {
		return nil, s.gone(id, e, "its journal segment is missing")
	}
	if err != nil {
		return nil, readError(id, err)
	}
	defer s.segs.release(seg)
	buf := getBytes(int(e.length))
	for try := 0; ; try++ {
		if fresh || try > 0 {
			seg.Forget(e.at.off, e.length)
		}
		k, err := seg.ReadAt(buf, e.at.off)
		if err != nil && err != io.EOF {
			putBytes(buf)
			return nil, readError(id, err)
		}
		reason := checkPacked(buf[:k], s.salt, id, &e)
		if reason == "" {
			return &packedReader{ctx: ctx, buf: buf, data: buf[headerSize:][off : off+n]}, nil
		}
		if try > 0 { // not the memory but the disk
			err := s.damage(id, e, reason, buf[:k])
			putBytes(buf)
			return nil, err
		}
	}
}

// checkPacked verifies a record that was read for an object, and says what is wrong with it.
func checkPacked(b []byte, salt uint64, id storage.ObjectID, e *entry) string {
	if int64(len(b)) < e.length {
		return "its journal segment is cut short"
	}
	r, err := parseRecord(b, salt, e.at)
	if err != nil || r.id != id || r.seq != e.seq || r.size != e.size {
		return "its journal record is damaged"
	}
	if sum := checksum(b[headerSize : headerSize+r.payloadLen]); sum != r.payloadCRC || sum != e.crc {
		return "its content does not agree with its check sum"
	}
	return ""
}

func (r *packedReader) Read(p []byte) (int, error) {
	if r.buf == nil {
		return 0, storage.ErrClosed
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}

func (r *packedReader) WriteTo(w io.Writer) (int64, error) {
	if r.buf == nil {
		return 0, storage.ErrClosed
	}
	if err := r.ctx.Err(); err != nil || len(r.data) == 0 {
		return 0, err
	}
	n, err := w.Write(r.data)
	r.data = r.data[n:]
	return int64(n), err
}

func (r *packedReader) Close() error {
	putBytes(r.buf)
	r.buf, r.data = nil, nil
	return nil
}

// fileReader reads a file block by block and hands out nothing that it has not verified.
type fileReader struct {
	s     *Store
	ctx   context.Context
	id    storage.ObjectID
	e     entry
	f     diskfs.File
	seg   *segment // holds the check sums
	fresh bool

	pos, end int64
	page     []byte // of check sums
	pageNo   int64  // -1: none yet
	buf      *[readWindow]byte
	have     []byte // verified, from pos on
	err      error
}

func (s *Store) openFile(ctx context.Context, id storage.ObjectID, e entry, off, n int64, fresh bool) (_ io.ReadCloser, err error) {
	seg, err := s.segs.acquire(e.at.seg)
	if isNotExist(err) {
		return nil, s.gone(id, e, "its journal segment is missing")
	}
	if err != nil {
		return nil, readError(id, err)
	}
	r := &fileReader{s: s, ctx: ctx, id: id, e: e, seg: seg, fresh: fresh, pos: off, end: off + n, pageNo: -1}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	var head [headerSize]byte
	if err := r.readRecord(head[:], e.at.off, func() bool {
		rec, err := parseRecord(head[:], s.salt, e.at)
		return err == nil && rec.id == id && rec.seq == e.seq && rec.size == e.size
	}); err != nil {
		return nil, err
	}
	if r.f, err = s.disk.Open(objectPath(id)); isNotExist(err) {
		return nil, s.gone(id, e, "its file is missing")
	} else if err != nil {
		return nil, readError(id, err)
	}
	if size, err := r.f.Size(); err != nil {
		return nil, readError(id, err)
	} else if size != e.size {
		return nil, s.gone(id, e, fmt.Sprintf("its file has %d bytes instead of %d", size, e.size))
	}
	return r, nil
}

// readRecord reads a part of the journal record and verifies it.
func (r *fileReader) readRecord(p []byte, off int64, ok func() bool) error {
	for try := range 2 {
		if r.fresh || try > 0 {
			r.seg.Forget(off, int64(len(p)))
		}
		k, err := r.seg.ReadAt(p, off)
		if err != nil && err != io.EOF {
			return readError(r.id, err)
		}
		if k == len(p) && ok() {
			return nil
		}
	}
	return r.s.damage(r.id, r.e, "its journal record is damaged", nil)
}

// sum returns the check sum of a block.
func (r *fileReader) sum(block int64) (uint32, error) {
	if no := block / blocksPerPage; no != r.pageNo {
		if r.page == nil {
			r.page = make([]byte, min(pageSize, sumListLen(r.e.size)))
		}
		r.page = r.page[:min(int64(cap(r.page)), sumListLen(r.e.size)-no*pageSize)]
		r.pageNo = -1
		if err := r.readRecord(r.page, r.e.at.off+headerSize+no*pageSize, func() bool { return checkPage(r.page) }); err != nil {
			return 0, err
		}
		r.pageNo = no
	}
	return binary.LittleEndian.Uint32(r.page[block%blocksPerPage*4:]), nil
}

// fill verifies the next blocks.
func (r *fileReader) fill() error {
	if r.err != nil {
		return r.err
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if r.pos == r.end {
		return io.EOF
	}
	if r.buf == nil {
		r.buf = windowPool.Get().(*[readWindow]byte)
	}
	first := r.pos / blockSize
	start := first * blockSize
	b := r.buf[:min(readWindow, (r.end+blockSize-1)/blockSize*blockSize-start, r.e.size-start)]
	if r.fresh {
		r.f.Forget(start, int64(len(b)))
	}
	k, err := r.f.ReadAt(b, start)
	if err != nil && err != io.EOF {
		return readError(r.id, err)
	}
	for i := int64(0); i*blockSize < int64(len(b)); i++ {
		block := b[i*blockSize : min(int64(len(b)), (i+1)*blockSize)]
		good, err := r.verify(first+i, block, int64(k) >= i*blockSize+int64(len(block)))
		if err != nil {
			return err
		}
		if !good {
			r.err = r.damaged(first + i)
			b = b[:i*blockSize]
			break
		}
	}
	have := b[min(int64(len(b)), r.pos-start):]
	r.have = have[:min(int64(len(have)), r.end-r.pos)]
	if len(r.have) == 0 {
		return r.err
	}
	return nil
}

// verify compares a block with its check sum; if it differs, it is read once more from the disk itself.
func (r *fileReader) verify(no int64, block []byte, read bool) (bool, error) {
	want, err := r.sum(no)
	if err != nil {
		return false, err
	}
	if read && checksum(block) == want {
		return true, nil
	}
	r.f.Forget(no*blockSize, int64(len(block)))
	k, err := r.f.ReadAt(block, no*blockSize)
	if err != nil && err != io.EOF {
		return false, readError(r.id, err)
	}
	return k == len(block) && checksum(block) == want, nil
}

func (r *fileReader) damaged(block int64) error {
	return r.s.damage(r.id, r.e, fmt.Sprintf("the 64 KiB block at byte %d does not agree with its check sum", block*blockSize), nil)
}

func (r *fileReader) Read(p []byte) (int, error) {
	if r.f == nil {
		return 0, storage.ErrClosed
	}
	if len(r.have) == 0 {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.have)
	r.have = r.have[n:]
	r.pos += int64(n)
	return n, nil
}

// WriteTo saves a copy of everything.
func (r *fileReader) WriteTo(w io.Writer) (total int64, err error) {
	if r.f == nil {
		return 0, storage.ErrClosed
	}
	for {
		if len(r.have) == 0 {
			if err := r.fill(); err == io.EOF {
				return total, nil
			} else if err != nil {
				return total, err
			}
		}
		n, err := w.Write(r.have)
		total += int64(n)
		r.pos += int64(n)
		r.have = r.have[n:]
		if err != nil {
			return total, err
		}
	}
}

func (r *fileReader) Close() error {
	if r.seg == nil {
		return nil
	}
	r.s.segs.release(r.seg)
	r.seg, r.have = nil, nil
	if r.buf != nil {
		windowPool.Put(r.buf)
		r.buf = nil
	}
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f = nil
	return err
}
