package durable

import (
	"context"
	"fmt"
	"io"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/picker"
)

// A CreateRequest announces a new object.
type CreateRequest struct {
	ID storage.ObjectID

	// Size in bytes; -1 when unknown.
	Size int64

	// MaxSize bounds a body of unknown size; 0 means no bound.
	MaxSize int64

	// Room is what the nodes must have free for a body of unknown size, in bytes; 0 means the placement policy's StreamingSize.
	Room int64

	// Copies to keep, at least 1.
	Copies int

	// Operator says that the write is an operator's, who may fill nodes further.
	Operator bool
}

// Stored describes an object that has been written.
type Stored struct {
	Size   int64
	MD5    [16]byte
	Sharks []storage.Shark // one for each copy
}

// Create finds nodes for a new object. When it returns, each of them has agreed to take it, so that an HTTP server can send "100
// Continue"; only for a body of known size up to Config.HeldSize are the nodes chosen but not asked, since each can still
// be replaced after the body has come. ctx governs all of the upload: when it ends, the copies are cancelled.
//
// The errors are [ErrNotEnoughSpace], [ErrUnavailable], [ErrBusy], [storage.ErrInvalid], [storage.ErrClosed] or ctx's; nothing is held
// after one.
func (s *Store) Create(ctx context.Context, req CreateRequest) (*Upload, error) {
	if req.Copies < 1 || req.Size < -1 || req.MaxSize < 0 || req.Room < 0 {
		return nil, fmt.Errorf("%w: durable: create %s: %d copies of %d bytes, at most %d", storage.ErrInvalid, req.ID, req.Copies, req.Size, req.MaxSize)
	}
	if req.Size >= 0 && req.MaxSize > 0 && req.Size > req.MaxSize {
		return nil, fmt.Errorf("%w: create %s: %d bytes, limit %d", ErrTooLarge, req.ID, req.Size, req.MaxSize)
	}
	room := req.Size
	if room < 0 && req.Room > 0 {
		room = req.Room
	}
	p := &places{s: s, id: req.ID, req: picker.Request{Size: room, Copies: req.Copies, Operator: req.Operator}}
	return s.create(ctx, p, req.Size, req.MaxSize)
}

// CreateOn is [Store.Create] with the nodes given: one copy on each, none of them replaced. Parts of a multipart upload need it, since
// they are assembled where they lie.
func (s *Store) CreateOn(ctx context.Context, id storage.ObjectID, size int64, sharks []storage.Shark) (*Upload, error) {
	if len(sharks) == 0 || size < -1 {
		return nil, fmt.Errorf("%w: durable: create %s on %d nodes, %d bytes", storage.ErrInvalid, id, len(sharks), size)
	}
	p := &places{s: s, id: id, fixed: true, sharks: append([]storage.Shark(nil), sharks...)}
	return s.create(ctx, p, size, 0)
}

func (s *Store) create(ctx context.Context, p *places, size, maxSize int64) (*Upload, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	u := &Upload{s: s, id: p.id, size: size, max: maxSize}
	var err error
	if size >= 0 && size <= s.cfg.HeldSize {
		u.body, err = s.newHeld(ctx, p, size)
	} else {
		u.body, err = s.newStream(ctx, p, size)
	}
	if err != nil {
		return nil, err
	}
	s.met.uploads.Add(1)
	return u, nil
}

// body takes the bytes of an upload and makes copies of them.
type body interface {
	// space returns room for the next bytes, at least one. It may wait for copies to catch up.
	space() ([]byte, error)
	// filled says that the first n bytes of space are the body's next.
	filled(n int)
	// finish ends the body and returns its sums.
	finish() (storage.Sums, error)
	// commit makes all copies durable. finish has been called.
	commit(ctx context.Context) ([]storage.Shark, error)
	// cancel throws everything away. It may be called at any time, also again and after commit.
	cancel()
}

// An Upload receives the body of one new object. It belongs to one goroutine. Exactly one of Commit and Cancel ends
// it; Cancel after Commit does nothing, so it can be deferred.
type Upload struct {
	s         *Store
	id        storage.ObjectID
	size, max int64
	body      body
	written   int64
	sums      storage.Sums
	finished  bool  // the body is at its end
	ended     bool  // by Commit or Cancel
	err       error // the first error; only Cancel makes sense after it
}

// ID returns the id of the object.
func (u *Upload) ID() storage.ObjectID { return u.id }

// Write takes the next bytes of the body and does not keep p. It waits while the slowest copy is too far behind. The error of a failed copy
// shows here or in Commit.
func (u *Upload) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		space, err := u.space()
		if err != nil {
			return done, err
		}
		n := copy(space, p[done:])
		u.filled(n)
		done += n
	}
	return done, u.err
}

// ReadFrom takes the body from r until EOF, reading into the upload's own buffers.
func (u *Upload) ReadFrom(r io.Reader) (int64, error) {
	var done int64
	for idle := 0; idle < 100; {
		if u.err == nil && u.left() == 0 {
			// Only EOF may come now. A byte more is an error.
			var one [1]byte
			n, err := r.Read(one[:])
			switch {
			case n > 0:
				return done, u.overflow()
			case err == io.EOF:
				return done, nil
			case err != nil:
				return done, err
			}
			idle++
			continue
		}
		space, err := u.space()
		if err != nil {
			return done, err
		}
		n, err := r.Read(space)
		u.filled(n)
		done += int64(n)
		if err == io.EOF {
			return done, u.err
		}
		if err != nil {
			return done, err
		}
		if n > 0 {
			idle = 0
		} else {
			idle++
		}
	}
	return done, io.ErrNoProgress
}

// left returns how many bytes the body may still have; negative when there is no bound.
func (u *Upload) left() int64 {
	switch {
	case u.size >= 0:
		return u.size - u.written
	case u.max > 0:
		return u.max - u.written
	}
	return -1
}

func (u *Upload) overflow() error {
	if u.size >= 0 {
		u.err = fmt.Errorf("%w: put %s: more than %d bytes", ErrSize, u.id, u.size)
	} else {
		u.err = fmt.Errorf("%w: put %s: more than %d bytes", ErrTooLarge, u.id, u.max)
	}
	return u.err
}

func (u *Upload) space() ([]byte, error) {
	if u.err != nil {
		return nil, u.err
	}
	if u.finished || u.ended {
		return nil, fmt.Errorf("%w: put %s: body has ended", storage.ErrClosed, u.id)
	}
	left := u.left()
	if left == 0 {
		return nil, u.overflow()
	}
	space, err := u.body.space()
	if err != nil {
		u.err = err
		return nil, err
	}
	if left > 0 && int64(len(space)) > left {
		space = space[:left]
	}
	return space, nil
}

func (u *Upload) filled(n int) {
	u.written += int64(n)
	u.body.filled(n)
}

// MD5 ends the body and returns its sum, so that it can be compared with what the client announced before
// anything becomes visible.
func (u *Upload) MD5() ([16]byte, error) {
	err := u.finish()
	return u.sums.MD5, err
}

func (u *Upload) finish() error {
	if u.err != nil || u.finished {
		return u.err
	}
	if u.size >= 0 && u.written != u.size {
		u.err = fmt.Errorf("%w: put %s: %d of %d bytes", ErrSize, u.id, u.written, u.size)
		return u.err
	}
	u.finished = true
	u.sums, u.err = u.body.finish()
	return u.err
}

// Planned returns where the copies of a body that is held whole will be if every node does its part. It is nil for others, and before MD5.
func (u *Upload) Planned() []storage.Shark {
	h, ok := u.body.(*held)
	if !ok || !u.finished || u.ended {
		return nil
	}
	return h.places.current()
}

// Commit makes all copies durable and returns where they are. After an error nothing is left of the object, but for copies on nodes
// that could not be reached any more, which no record will ever name.
func (u *Upload) Commit(ctx context.Context) (Stored, error) {
	if u.ended {
		return Stored{}, fmt.Errorf("%w: put %s: upload has ended", storage.ErrClosed, u.id)
	}
	u.ended = true
	defer u.body.cancel()
	if err := u.finish(); err != nil {
		u.s.met.uploadsFailed.Add(1)
		return Stored{}, err
	}
	sharks, err := u.body.commit(ctx)
	if err != nil {
		u.s.met.uploadsFailed.Add(1)
		return Stored{}, err
	}
	u.s.met.bytesWritten.Add(uint64(u.sums.Size) * uint64(len(sharks)))
	return Stored{Size: u.sums.Size, MD5: u.sums.MD5, Sharks: sharks}, nil
}

// Cancel throws the upload away. It does not wait for the nodes.
func (u *Upload) Cancel() {
	if !u.ended {
		u.ended = true
		u.s.met.uploadsCancelled.Add(1)
		u.body.cancel()
	}
}
