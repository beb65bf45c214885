package task

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A pipe is one end of a conversation: it sends items of one type, in frames, and receives those of another. Each end may send only as much as the other one has
// room for, so that neither a beat nor an answer ever waits behind what a busy peer does not take.
type pipe[S, R any] struct {
	conn    io.ReadWriteCloser
	r       *bufio.Reader
	sends   kind // of frames with items
	gets    kind
	ended   chan struct{} // closed once the conversation is over
	ending  sync.Once
	reason  error          // valid after ended
	leaving atomic.Bool    // this end has had enough
	loops   sync.WaitGroup // reader and beats
	quiet   *time.Timer    // ends a conversation in which nothing is heard
	turn    chan struct{}  // holds a token while nobody sends
	room    chan struct{}  // told that the peer has taken something

	writing sync.Mutex
	stall   *time.Timer // ends a write that the peer does not take
	frame   []byte

	mu          sync.Mutex
	queue       []R
	queued      int           // bytes of queue
	more        chan struct{} // told that there is something in queue
	outstanding int           // bytes sent that the peer has not taken
}

// newPipe begins a conversation. r may hold bytes that were read ahead.
func newPipe[S, R any](conn io.ReadWriteCloser, r *bufio.Reader, sends, gets kind) *pipe[S, R] {
	p := &pipe[S, R]{
		conn: conn, r: r, sends: sends, gets: gets, ended: make(chan struct{}), turn: make(chan struct{}, 1), room: make(chan struct{}, 1), more: make(chan struct{}, 1),
	}
	p.turn <- struct{}{}
	p.quiet = time.AfterFunc(Silence, func() { p.end(errSilence) })
	p.stall = time.AfterFunc(Silence, func() { p.end(errStalled) })
	p.stall.Stop()
	p.loops.Go(p.read)
	p.loops.Go(p.beat)
	return p
}

var (
	errSilence = errors.New("task: nothing was heard of the other side for too long")
	errStalled = errors.New("task: the other side takes nothing any more")
)

// end ends the conversation for a reason.
func (p *pipe[S, R]) end(reason error) {
	p.ending.Do(func() {
		if p.leaving.Load() {
			reason = ErrClosed // whatever the peer does when it hears of it
		}
		p.reason = reason
		close(p.ended)
		p.quiet.Stop()
		p.conn.Close()
	})
}

// bye tells the peer why the conversation ends, unless that is busy, and ends it.
func (p *pipe[S, R]) bye(reason error) {
	p.leaving.Store(true)
	if !p.writing.TryLock() {
		p.end(ErrClosed)
		return
	}
	defer p.writing.Unlock()
	select {
	case <-p.ended:
		return
	default:
	}
	text := ""
	if reason != nil {
		if text = reason.Error(); len(text) > maxReason {
			text = text[:maxReason]
		}
	}
	p.put(kindEnd, []byte(text), Silence/16)
	p.end(ErrClosed)
}

// close ends the conversation and waits for its goroutines.
func (p *pipe[S, R]) close() {
	p.bye(nil)
	p.loops.Wait()
}

func (p *pipe[S, R]) write(k kind, payload []byte) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.put(k, payload, Silence)
}

// put is write for whoever holds the lock.
func (p *pipe[S, R]) put(k kind, payload []byte, patience time.Duration) error {
	p.frame = appendFrame(p.frame[:0], k, payload)
	p.stall.Reset(patience)
	_, err := p.conn.Write(p.frame)
	p.stall.Stop()
	if cap(p.frame) > 1<<20 {
		p.frame = nil
	}
	if err != nil {
		p.end(fmt.Errorf("task: write: %w", err))
		return p.reason
	}
	return nil
}

// Send hands over items in order.
func (p *pipe[S, R]) Send(ctx context.Context, items ...S) error {
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-p.ended:
		return p.reason
	case <-ctx.Done():
		return ctx.Err()
	}
	batch := []byte{'['}
	flush := func() error {
		if len(batch) == 1 {
			return nil
		}
		batch = append(batch, ']')
		defer func() { batch = batch[:1] }()
		if len(batch) > MaxFrame {
			return fmt.Errorf("task: %d bytes are too many for a frame", len(batch))
		}
		if err := p.reserve(ctx, len(batch)); err != nil {
			return err
		}
		return p.write(p.sends, batch)
	}
	for i := range items {
		text, err := json.Marshal(&items[i])
		if err != nil {
			return fmt.Errorf("task: encode: %w", err)
		}
		if len(batch)+len(text) > batchSize {
			if err := flush(); err != nil {
				return err
			}
		}
		if len(batch) > 1 {
			batch = append(batch, ',')
		}
		batch = append(batch, text...)
	}
	return flush()
}

// reserve waits until the peer has room for n bytes.
func (p *pipe[S, R]) reserve(ctx context.Context, n int) error {
	for {
		p.mu.Lock()
		ok := p.outstanding == 0 || p.outstanding+n <= window
		if ok {
			p.outstanding += n
		}
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-p.room:
		case <-p.ended:
			return p.reason
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Receive waits for items and returns all that are there.
func (p *pipe[S, R]) Receive(ctx context.Context) ([]R, error) {
	for {
		p.mu.Lock()
		list, n := p.queue, p.queued
		p.queue, p.queued = nil, 0
		p.mu.Unlock()
		if len(list) > 0 {
			p.write(kindTaken, appendCount(nil, n)) // if this fails the next call says so
			return list, nil
		}
		select {
		case <-p.more:
		case <-p.ended:
			p.mu.Lock()
			left := len(p.queue)
			p.mu.Unlock()
			if left == 0 {
				return nil, p.reason
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// read takes frames until the end.
func (p *pipe[S, R]) read() {
	for {
		k, payload, err := readFrame(p.r)
		if err == nil {
			p.quiet.Reset(Silence)
			err = p.take(k, payload)
		}
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("task: the other side is gone: %w", err)
			}
			p.end(err)
			return
		}
	}
}

func (p *pipe[S, R]) take(k kind, payload []byte) error {
	switch k {
	case kindBeat:
		return nil
	case kindTaken:
		n, err := parseCount(payload)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.outstanding -= n
		bad := p.outstanding < 0
		p.mu.Unlock()
		if bad {
			return errProtocol
		}
		tell(p.room)
		return nil
	case kindEnd:
		if len(payload) == 0 {
			return ErrClosed
		}
		return fmt.Errorf("%w: %.*q", ErrClosed, maxReason, payload)
	case p.gets:
		var list []R
		if err := json.Unmarshal(payload, &list); err != nil {
			return fmt.Errorf("%w: %w", errProtocol, err)
		}
		for i := range list {
			if x, ok := any(&list[i]).(interface{ check() error }); ok {
				if err := x.check(); err != nil {
					return err
				}
			}
		}
		p.mu.Lock()
		over := p.queued > 0 && p.queued+len(payload) > window
		p.queue = append(p.queue, list...)
		p.queued += len(payload)
		empty := len(p.queue) == 0
		if empty {
			p.queued = 0
		}
		p.mu.Unlock()
		if over || empty {
			return errProtocol
		}
		tell(p.more)
		return nil
	}
	return fmt.Errorf("%w: a frame of kind %d", errProtocol, k)
}

// beat has the peer know that this end lives.
func (p *pipe[S, R]) beat() {
	ticker := time.NewTicker(Silence / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if p.write(kindBeat, nil) != nil {
				return
			}
		case <-p.ended:
			return
		}
	}
}

func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
