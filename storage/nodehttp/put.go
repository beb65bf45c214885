package nodehttp

import (
	"crypto/md5"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/mobulacloud/mobula/storage"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// smallBody is the size up to which a body is moved in one piece.
const smallBody = 64 << 10

var smallBuffers = sync.Pool{New: func() any { return new([smallBody]byte) }}

func (x *exchange) put(id storage.ObjectID) {
	info, err := x.receive(id)
	if err != nil {
		x.fail(err)
		return
	}
	x.done(http.StatusCreated, info)
}

func (x *exchange) receive(id storage.ObjectID) (storage.Info, error) {
	size, err := x.announced()
	if err != nil {
		return storage.Info{}, err
	}
	p := &putBody{x: x}
	if err := p.expect(); err != nil {
		return storage.Info{}, err
	}
	// Nothing has touched the body: the node agrees or refuses before "100 Continue" goes out with the first read.
	w, err := x.node.Create(x.ctx(), id, storage.CreateOptions{Size: size})
	if err != nil {
		return storage.Info{}, err
	}
	defer w.Cancel()
	if err := p.copy(w); err != nil {
		return storage.Info{}, err
	}
	sums, err := p.sums()
	if err != nil {
		return storage.Info{}, err
	}
	x.waiting()
	return w.Commit(x.ctx(), sums)
}

// announced is the size of the object to come, or -1.
func (x *exchange) announced() (int64, error) {
	size := x.r.ContentLength
	if s := x.r.Header.Get(headerSize); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 || size >= 0 && size != n {
			return 0, fmt.Errorf("%w: %s %.40q", storage.ErrInvalid, headerSize, s)
		}
		size = n
	}
	return size, nil
}

// putBody is the content of a PUT and what is known about it.
type putBody struct {
	x        *exchange
	md5      *[16]byte // from the header
	crc      *uint32   // from the header
	trailers bool      // both come behind the body

	n       int64
	hash    hash.Hash // nil: the peer's MD5 is taken
	ownCRC  uint32
	haveCRC bool // the peer tells it
}

// expect reads what the headers promise.
func (p *putBody) expect() error {
	h := p.x.r.Header
	if s := h.Get(headerMD5); s != "" {
		sum, err := parseMD5(s)
		if err != nil {
			return err
		}
		p.md5 = &sum
	}
	if s := h.Get(headerCRC); s != "" {
		crc, err := parseCRC(s)
		if err != nil {
			return err
		}
		p.crc = &crc
	}
	_, tm := p.x.r.Trailer[headerMD5]
	_, tc := p.x.r.Trailer[headerCRC]
	p.trailers = tm && tc
	p.haveCRC = p.trailers || p.crc != nil
	if !p.haveCRC || !p.trailers && p.md5 == nil {
		p.hash = md5.New()
	}
	return nil
}

func (p *putBody) copy(w storage.Writer) error {
	b := smallBuffers.Get().(*[smallBody]byte) // small, because a slow peer holds it for long
	defer smallBuffers.Put(b)
	buf := b[:]
	for {
		p.x.moving()
		n, err := fillFrom(p.x.r.Body, buf)
		if n > 0 {
			p.n += int64(n)
			if p.hash != nil {
				p.hash.Write(buf[:n])
			}
			if !p.haveCRC {
				p.ownCRC = crc32.Update(p.ownCRC, castagnoli, buf[:n])
			}
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			// Cut off, or too slow. Nobody may be there to read the answer.
			return fmt.Errorf("%w: body broke off after %d bytes: %w", storage.ErrChecksum, p.n, err)
		}
	}
}

// fillFrom reads until the buffer is half full, so that small chunks on the wire do not become small writes.
func fillFrom(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf)/2 && err == nil {
		var k int
		k, err = r.Read(buf[n:])
		n += k
	}
	return n, err
}

// sums is what the node is told at Commit.
func (p *putBody) sums() (storage.Sums, error) {
	s := storage.Sums{Size: p.n, CRC32C: p.ownCRC}
	if p.trailers {
		t := p.x.r.Trailer
		sum, err1 := parseMD5(t.Get(headerMD5))
		crc, err2 := parseCRC(t.Get(headerCRC))
		if err := errors.Join(err1, err2); err != nil { // announced and missing: the writer did not commit
			return s, err
		}
		s.MD5, s.CRC32C = sum, crc
		return s, nil
	}
	if p.crc != nil {
		s.CRC32C = *p.crc
	}
	if p.hash == nil {
		s.MD5 = *p.md5
		return s, nil
	}
	p.hash.Sum(s.MD5[:0])
	if p.md5 != nil && *p.md5 != s.MD5 {
		return s, fmt.Errorf("%w: content has MD5 %s, announced %s", storage.ErrChecksum, formatMD5(s.MD5), formatMD5(*p.md5))
	}
	return s, nil
}
