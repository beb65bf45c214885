package durable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/mobulacloud/mobula/storage"
)

// Open returns the n bytes from off on of the object at loc; n < 0 means to the end. The copies are asked in random order, those on healthy
// nodes first. When the one that is read fails or turns out to be damaged, reading goes on at that very byte from another, unnoticed but in the
// metrics; a missing or damaged copy is reported to Config.Damaged. The reader belongs to one goroutine, honours ctx and must be
// closed.
//
// A range outside the object is [storage.ErrInvalid]. When no copy can go on, Open or Read fails with [ErrUnavailable] if one
// may come back later, and with [ErrLost] if not; both wrap what each node said.
func (s *Store) Open(ctx context.Context, loc Location, off, n int64) (io.ReadCloser, error) {
	if n < 0 {
		n = loc.Size - off
	}
	if off < 0 || n < 0 || off > loc.Size || n > loc.Size-off {
		return nil, fmt.Errorf("%w: durable: read %d bytes from %d of %s, which has %d", storage.ErrInvalid, n, off, loc.ID, loc.Size)
	}
	s.met.reads.Add(1)
	if n == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	r := &reader{s: s, ctx: ctx, loc: loc, pos: off, end: off + n, whole: off == 0 && n == loc.Size, sources: s.order(loc.Sharks)}
	if err := r.next(); err != nil {
		return nil, err
	}
	return r, nil
}

// source is a copy as one reader knows it.
type source struct {
	shark storage.Shark
	tries int
	err   error // why it was left last
	spent bool  // not to be tried again
}

// maxTries is how often a reader asks one copy that fails without being damaged: a node may restart in the middle of a long read.
const maxTries = 2

// order shuffles the copies, those on healthy nodes before the others.
func (s *Store) order(sharks []storage.Shark) []source {
	sources := make([]source, len(sharks))
	for i, shark := range sharks {
		sources[i].shark = shark
	}
	if len(sources) > 1 {
		s.randMu.Lock()
		s.rand.Shuffle(len(sources), func(i, j int) { sources[i], sources[j] = sources[j], sources[i] })
		s.randMu.Unlock()
		slices.SortStableFunc(sources, func(a, b source) int {
			return int(s.nodes.Standing(a.shark.Node)) - int(s.nodes.Standing(b.shark.Node))
		})
	}
	return sources
}

// reader reads one range from whichever copy is intact.
type reader struct {
	s        *Store
	ctx      context.Context
	loc      Location
	pos, end int64
	whole    bool   // the range is all of the object, so that its sum can be compared
	crc      uint32 // of what was read so far, if whole
	sources  []source
	cur      *part
	err      error // final
}

// part is an open copy.
type part struct {
	src   *source
	from  int64 // where it begins
	rc    io.ReadCloser
	info  storage.Info
	guard *guard
}

func (p *part) close() {
	p.rc.Close()
	p.guard.end()
}

// next opens the next copy to read from. Its error is final.
func (r *reader) next() error {
	for {
		src, hedge := r.candidates()
		if src == nil {
			return r.fail()
		}
		part := r.openFirst(src, hedge)
		if part != nil {
			r.cur = part
			return nil
		}
		if r.ctx.Err() != nil {
			return r.fail()
		}
	}
}

// candidates returns the copy to try and another to ask if that one is slow.
func (r *reader) candidates() (src, hedge *source) {
	for tries := range maxTries {
		for i := range r.sources {
			c := &r.sources[i]
			if c.spent || c.tries != tries {
				continue
			}
			if src == nil {
				src = c
			} else {
				return src, c
			}
		}
		if src != nil {
			return src, nil
		}
	}
	return nil, nil
}

// open asks one copy for the rest of the range from pos on. That is the reader's position, which a hedge that lost must not look up: the reader goes on meanwhile.
func (r *reader) open(ctx context.Context, shark storage.Shark, pos int64) (*part, error) {
	g := newGuard(ctx)
	p := &part{guard: g, from: pos}
	node, err := r.s.nodes.Node(shark.Node)
	if err == nil {
		g.start(r.s.cfg.CreateTimeout)
		p.rc, p.info, err = node.Open(g.ctx, r.loc.ID, pos, r.end-pos)
		err = g.stop(err)
	}
	r.s.observe(g.ctx, shark.Node, err)
	if err == nil {
		if err = matches(r.loc, p.info); err != nil {
			p.rc.Close()
		}
	}
	if err != nil {
		g.end()
		return nil, err
	}
	return p, nil
}

// matches says whether a copy is of the object that the record describes.
func matches(loc Location, info storage.Info) error {
	if info.Size != loc.Size || loc.MD5 != [16]byte{} && info.MD5 != loc.MD5 {
		return fmt.Errorf("%w: copy has %d bytes with MD5 %x, want %d with %x", storage.ErrCorrupt, info.Size, info.MD5, loc.Size, loc.MD5)
	}
	return nil
}

// leave notes why a copy is not read from any more, and reports damage.
func (r *reader) leave(src *source, op string, err error) {
	src.tries++
	src.err = &NodeError{Op: op, Node: src.shark.Node, Err: err}
	switch {
	case errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrCorrupt):
		src.spent = true
		r.s.met.damaged.Add(1)
		r.s.log.WarnContext(r.ctx, "damaged copy", "object", r.loc.ID, "node", src.shark.Node, "at", r.pos, "err", err)
		if r.s.cfg.Damaged != nil {
			r.s.cfg.Damaged(Damage{Location: r.loc, Shark: src.shark, Err: err})
		}
	case errors.Is(err, storage.ErrInvalid):
		src.spent = true
	}
}

// fail makes the final error out of what the copies said.
func (r *reader) fail() error {
	if r.ctx.Err() != nil {
		r.err = fmt.Errorf("read %s: %w", r.loc.ID, context.Cause(r.ctx))
		return r.err
	}
	r.s.met.readsFailed.Add(1)
	class := ErrLost
	var errs []error
	for _, src := range r.sources {
		errs = append(errs, src.err)
		if !src.spent {
			class = ErrUnavailable
		}
	}
	r.err = fmt.Errorf("%w: read %s at %d: %w", class, r.loc.ID, r.pos, errors.Join(append(errs, errNoMoreCopies)...))
	return r.err
}

var errNoMoreCopies = errors.New("no copy is left to read from")

// Read reads on, from another copy if need be.
func (r *reader) Read(p []byte) (int, error) {
	for {
		if r.err != nil {
			return 0, r.err
		}
		if r.pos == r.end {
			return 0, io.EOF
		}
		if len(p) == 0 {
			return 0, nil
		}
		if r.cur == nil {
			if err := r.next(); err != nil {
				return 0, err
			}
		}
		if left := r.end - r.pos; int64(len(p)) > left {
			p = p[:left]
		}
		r.cur.guard.start(r.s.cfg.StallTimeout)
		n, err := r.cur.rc.Read(p)
		if n > 0 && r.pos+int64(n) == r.end && !r.whole && err == nil {
			err = r.confirm()
		}
		err = r.cur.guard.stop(err)
		sumErr := r.sum(p[:n])
		if r.pos+int64(n) == r.end && (sumErr != nil || !r.whole && err != io.EOF) {
			// Something in this transfer is wrong, and nobody knows what.
			if sumErr != nil {
				err = sumErr
			}
			if r.pos == r.cur.from {
				r.lose(err) // nothing of it was handed out
				continue
			}
			r.err = fmt.Errorf("%w: read %s: transfer from %s: %w", storage.ErrCorrupt, r.loc.ID, r.cur.src.shark.Node, err)
			r.s.log.ErrorContext(r.ctx, "content changed on the way", "object", r.loc.ID, "node", r.cur.src.shark.Node, "err", err)
			r.drop()
			return 0, r.err
		}
		r.count(n)
		if r.pos == r.end {
			r.drop()
		} else if err != nil {
			r.lose(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// confirm reads on to the end, where a node behind a network says whether what came is what it sent. io.EOF is the good answer.
func (r *reader) confirm() error {
	var one [1]byte
	n, err := r.cur.rc.Read(one[:])
	if err == nil {
		err = fmt.Errorf("%w: %d bytes beyond the range", storage.ErrUnavailable, n)
	}
	return err
}

// sum takes bytes that are about to be handed out into the sum of the whole, if it is read. Before the last of them leave, that must be the
// sum which is stored with the copy, so that a transfer that went wrong on the way is never taken for complete.
func (r *reader) sum(p []byte) error {
	if !r.whole {
		return nil
	}
	crc := crc32.Update(r.crc, castagnoli, p)
	if r.pos+int64(len(p)) == r.end && crc != r.cur.info.CRC32C {
		return fmt.Errorf("%w: content has CRC32C %08x, not the stored %08x", storage.ErrUnavailable, crc, r.cur.info.CRC32C)
	}
	r.crc = crc
	return nil
}

func (r *reader) count(n int) {
	r.pos += int64(n)
	r.s.met.bytesRead.Add(uint64(n))
}

// lose leaves the current copy in the middle.
func (r *reader) lose(err error) {
	src, g := r.cur.src, r.cur.guard
	if err == io.EOF {
		err = fmt.Errorf("%w: %w", storage.ErrUnavailable, io.ErrUnexpectedEOF)
	}
	r.s.observe(g.ctx, src.shark.Node, err)
	r.drop()
	if r.ctx.Err() == nil {
		r.leave(src, "read", err)
		r.s.met.failovers.Add(1)
	}
}

func (r *reader) drop() {
	if r.cur != nil {
		r.cur.close()
		r.cur = nil
	}
}

// WriteTo writes the rest of the range to w. Nodes that can write their verified buffers themselves do so without a copy.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	start := r.pos
	out := &outlet{r: r, w: w}
	for r.err == nil && r.pos < r.end {
		if r.cur == nil && r.next() != nil {
			break
		}
		wt, ok := r.cur.rc.(io.WriterTo)
		if !ok {
			c := newChunk()
			_, err := io.CopyBuffer(w, struct{ io.Reader }{r}, c.data[:cap(c.data)])
			chunks.Put(c)
			return r.pos - start, err
		}
		g := r.cur.guard
		g.start(r.s.cfg.StallTimeout)
		_, err := wt.WriteTo(out)
		err = g.stop(err)
		switch {
		case out.err != nil:
			r.drop()
			return r.pos - start, out.err
		case r.pos == r.end:
			r.drop()
		case err == nil:
			r.lose(io.EOF)
		default:
			r.lose(err)
		}
	}
	return r.pos - start, r.err
}

// outlet is where a node's WriteTo goes: it keeps the reader's position and tells a fault of the destination from one of the node.
type outlet struct {
	r   *reader
	w   io.Writer
	err error // of w, or final
}

var errRangeEnds = errors.New("durable: end of range")

func (o *outlet) Write(p []byte) (int, error) {
	r := o.r
	// A slow destination is no fault of the node.
	g := r.cur.guard
	g.timer.Stop()
	clip := p
	if left := r.end - r.pos; int64(len(clip)) > left {
		clip = clip[:left]
	}
	if err := r.sum(clip); err != nil {
		o.err = fmt.Errorf("%w: read %s: from %s: %w", storage.ErrCorrupt, r.loc.ID, r.cur.src.shark.Node, err)
		return 0, o.err
	}
	n, err := o.w.Write(clip)
	r.count(n)
	if err == nil && n < len(clip) {
		err = io.ErrShortWrite
	}
	if err != nil {
		o.err = err
		return n, err
	}
	if len(clip) < len(p) {
		return n, errRangeEnds
	}
	g.timer.Reset(r.s.cfg.StallTimeout)
	return n, nil
}

// Close releases the copy that is being read.
func (r *reader) Close() error {
	r.drop()
	if r.err == nil && r.pos < r.end {
		r.err = fmt.Errorf("%w: read %s", storage.ErrClosed, r.loc.ID)
	}
	return nil
}
