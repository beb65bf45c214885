package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// Of a reducer's inputs so many are read ahead, so much of each.
const (
	fetchAhead  = 16
	fetchBuffer = 1 << 20
)

// feed is a reducer's inputs, as they come.
type feed struct {
	mu     sync.Mutex
	inputs []task.Input
	end    bool
	wake   chan struct{}
}

func newFeed() *feed { return &feed{wake: make(chan struct{}, 1)} }

func (f *feed) add(inputs []task.Input, end bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end {
		return
	}
	f.inputs = append(f.inputs, inputs...)
	f.end = end
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// next waits for an input; io.EOF after the last.
func (f *feed) next(ctx context.Context) (task.Input, error) {
	for {
		f.mu.Lock()
		if len(f.inputs) > 0 {
			in := f.inputs[0]
			f.inputs[0] = task.Input{}
			f.inputs = f.inputs[1:]
			f.mu.Unlock()
			return in, nil
		}
		end := f.end
		f.mu.Unlock()
		if end {
			return task.Input{}, io.EOF
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return task.Input{}, context.Cause(ctx)
		}
	}
}

// reduce runs a reducer's program with all of its inputs on a pipe, one after another.
func (w *worker) reduce(t *attempt, e *ending, args, env []string) {
	r, pipe, err := newPipe()
	if err != nil {
		e.exec = err
		return
	}
	defer pipe.Close()
	ctx, stop := context.WithCancelCause(t.run)
	defer stop(nil)
	fed := make(chan error, 1)
	go func() {
		err := w.pump(ctx, t.feed, pipe)
		if err == nil {
			pipe.Close()
		} else if ctx.Err() == nil && !errors.Is(err, syscall.EPIPE) {
			stop(errFetch) // what the program would make of half its input is worth nothing
		}
		fed <- err
	}()
	e.status, e.exec = w.zone.Exec(ctx, args, env, r, e.out, e.err)
	r.Close()
	if e.exec != nil && errors.Is(context.Cause(ctx), errFetch) {
		e.exec = nil
		e.fetch = <-fed
		return
	}
	// A program may end before it has read everything. Then nobody needs the rest.
	stop(errEnough)
	pipe.Close()
	<-fed
}

var (
	errFetch  = errors.New("inputs could not be read")
	errEnough = errors.New("the program has ended")
)

// chunk is one input on its way.
type chunk struct {
	ready chan struct{} // closed when the fields are set
	head  *[fetchBuffer]byte
	n     int
	rest  io.ReadCloser // what the head has not, nil if nothing
	err   error
}

var buffers = sync.Pool{New: func() any { return new([fetchBuffer]byte) }}

// pump writes the inputs to the pipe in order. The next ones are read ahead.
func (w *worker) pump(ctx context.Context, f *feed, pipe io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	line := make(chan *chunk, fetchAhead-1) // with the one being written that makes fetchAhead
	var fetching sync.WaitGroup
	var last error
	fetching.Go(func() {
		defer close(line)
		for {
			in, err := f.next(ctx)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					last = err
				}
				return
			}
			c := &chunk{ready: make(chan struct{})}
			select {
			case line <- c:
			case <-ctx.Done():
				last = context.Cause(ctx)
				return
			}
			fetching.Go(func() {
				defer close(c.ready)
				c.err = w.read(ctx, &in, c)
			})
		}
	})
	var err error
	for c := range line {
		<-c.ready
		if err == nil {
			err = c.err
		}
		if err == nil {
			_, err = pipe.Write(c.head[:c.n])
		}
		if c.rest != nil {
			if err == nil {
				_, err = io.CopyBuffer(onlyWriter{pipe}, c.rest, c.head[:])
			}
			c.rest.Close()
		}
		if c.head != nil {
			buffers.Put(c.head)
		}
		if err != nil {
			cancel()
		}
	}
	cancel()
	fetching.Wait()
	if err == nil {
		err = last
	}
	return err
}

// onlyWriter hides what else a pipe can, so that the caller's buffer is used.
type onlyWriter struct{ io.Writer }

// read reads the beginning of an input, and all of it if it is short.
func (w *worker) read(ctx context.Context, in *task.Input, c *chunk) error {
	w.agent.count.inputs.Add(1)
	w.agent.count.inputBytes.Add(in.Size)
	c.head = buffers.Get().(*[fetchBuffer]byte)
	return retry(ctx, func() error {
		r, err := w.openInput(ctx, in)
		if err != nil {
			return err
		}
		c.n, err = io.ReadFull(r, c.head[:])
		switch {
		case err == nil:
			c.rest = r
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			r.Close()
			if int64(c.n) != in.Size && in.Size < fetchBuffer && ctx.Err() == nil {
				return fmt.Errorf("read %s: %d bytes of %d", in.Path, c.n, in.Size)
			}
			return nil
		}
		r.Close()
		return err
	})
}
