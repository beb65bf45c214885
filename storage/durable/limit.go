package durable

import (
	"context"
	"io"
	"sync"
	"time"
)

// limiter spaces out bytes so that repair leaves the disks to others. A nil limiter does nothing.
type limiter struct {
	perSecond float64

	mu   sync.Mutex
	next time.Time // when the bytes granted so far will have been used up
}

func newLimiter(bytesPerSecond int64) *limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &limiter{perSecond: float64(bytesPerSecond)}
}

// wait grants n bytes and returns when it is their time.
func (l *limiter) wait(ctx context.Context, n int) error {
	l.mu.Lock()
	now := time.Now()
	if l.next.Before(now) {
		l.next = now
	}
	due := l.next
	l.next = l.next.Add(time.Duration(float64(n) / l.perSecond * float64(time.Second)))
	l.mu.Unlock()
	if !due.After(now) {
		return nil
	}
	t := time.NewTimer(due.Sub(now))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *limiter) reader(ctx context.Context, r io.Reader) io.Reader {
	if l == nil {
		return r
	}
	return limitedReader{ctx, l, r}
}

type limitedReader struct {
	ctx context.Context
	l   *limiter
	r   io.Reader
}

func (r limitedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		if waitErr := r.l.wait(r.ctx, n); waitErr != nil {
			return n, waitErr
		}
	}
	return n, err
}
