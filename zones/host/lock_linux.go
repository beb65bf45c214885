package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/statefile"
)

// keyedLocks gives one goroutine of this process at a time a key.
type keyedLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

func (k *keyedLocks) lock(ctx context.Context, key string) error {
	for {
		k.mu.Lock()
		if k.held == nil {
			k.held = map[string]chan struct{}{}
		}
		busy, ok := k.held[key]
		if !ok {
			k.held[key] = make(chan struct{})
			k.mu.Unlock()
			return nil
		}
		k.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (k *keyedLocks) unlock(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.held[key])
	delete(k.held, key)
}

var errLocked = errors.New("locked")

// lock takes a key for this goroutine against all goroutines and processes. Without wait it fails with errLocked at once.
func (h *Host) lock(ctx context.Context, key string, wait bool) (unlock func(), err error) {
	quick := ctx
	if !wait {
		var cancel context.CancelFunc
		quick, cancel = context.WithCancel(ctx)
		cancel()
	}
	if err := h.turns.lock(quick, key); err != nil {
		if !wait && ctx.Err() == nil {
			return nil, errLocked
		}
		return nil, err
	}
	f, err := flock(ctx, filepath.Join(h.cfg.Dir, "locks", key), wait)
	if err != nil {
		h.turns.unlock(key)
		return nil, err
	}
	return sync.OnceFunc(func() {
		f.Close()
		h.turns.unlock(key)
	}), nil
}

// flock locks the file that is at the path when the lock is held: a zone that was deleted meanwhile took its lock's file with it.
func flock(ctx context.Context, path string, wait bool) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) && wait {
			got := make(chan error, 1)
			go func() {
				for {
					err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
					if err != unix.EINTR {
						got <- err
						return
					}
				}
			}()
			select {
			case err = <-got:
			case <-ctx.Done():
				go func() { // the call cannot be taken back; what it gets is let go at once
					<-got
					f.Close()
				}()
				return nil, ctx.Err()
			}
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, errLocked
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		var held, there unix.Stat_t
		if unix.Fstat(int(f.Fd()), &held) == nil && unix.Stat(path, &there) == nil && held.Ino == there.Ino && held.Dev == there.Dev {
			return f, nil
		}
		f.Close()
	}
}

// zone is a record that this goroutine has to itself.
type zone struct {
	*Host
	record
	id     string
	unlock func()
	// fresh: nobody has begun to bring a zone of this id up since there was none.
	fresh bool
	// unseeded: its first start writes what a new zone's tree gets once.
	unseeded bool
	// early is where the network comes from that attachEarly began; nil if it did not.
	early chan attachment
}

// acquire takes a zone for a verb. What a dead process left under way is settled first. One that is not all there yet gives errReceiving.
func (h *Host) acquire(ctx context.Context, id string) (*zone, error) {
	z, err := h.acquireAny(ctx, id)
	if err == nil && z.Op != nil {
		z.unlock()
		return nil, errReceiving
	}
	return z, err
}

// acquireAny is acquire for verbs that take a zone in state receiving too.
func (h *Host) acquireAny(ctx context.Context, id string) (*zone, error) {
	return h.acquireWith(ctx, id, true)
}

func (h *Host) acquireWith(ctx context.Context, id string, wait bool) (*zone, error) {
	if _, err := h.load(id); err != nil {
		return nil, err
	}
	unlock, err := h.lock(ctx, id, wait)
	if err != nil {
		return nil, err
	}
	z := &zone{Host: h, id: id, unlock: unlock}
	_ = h.files.Remove(statefile.Temp(h.recordPath(id)))
	if z.record, err = h.load(id); err != nil {
		if errors.Is(err, zones.ErrNotExist) {
			z.forgetLock()
		}
		unlock()
		return nil, err
	}
	if err := z.repair(ctx); err != nil {
		unlock()
		return nil, err
	}
	return z, nil
}

// forgetLock removes the lock's file, held by us, of a zone that is no more.
func (z *zone) forgetLock() { os.Remove(filepath.Join(z.cfg.Dir, "locks", z.id)) }

// begin writes down what is about to be done.
func (z *zone) begin(o op) error {
	o.Started = time.Now().UTC()
	z.Op = &o
	z.step(o.Verb + ": begin")
	if err := z.Host.save(&z.record); err != nil {
		z.Op = nil
		return err
	}
	z.step(o.Verb + ": begun")
	return nil
}

// advance notes how far the verb has come.
func (z *zone) advance(step string) error {
	z.Op.Step = step
	if err := z.Host.save(&z.record); err != nil {
		return err
	}
	z.step(z.Op.Verb + ": " + step)
	return nil
}

// done writes down the outcome.
func (z *zone) done() error {
	verb := ""
	if z.Op != nil {
		verb = z.Op.Verb
	}
	z.step(verb + ": done")
	z.Op = nil
	z.Modified = time.Now().UTC()
	return z.Host.save(&z.record)
}
