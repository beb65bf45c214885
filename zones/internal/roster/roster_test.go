package roster_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/roster"
)

type machine struct {
	ended    chan struct{}
	released atomic.Int32
}

func (m *machine) Ended() <-chan struct{} { return m.ended }
func (m *machine) Release()               { m.released.Add(1) }

const id = "11111111-1111-4111-8111-111111111111"

func TestTurns(t *testing.T) {
	r := roster.New[*machine]()
	want := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	_, err := r.Find("x", id)
	want("nobody", err, zones.ErrNotExist)
	m, err := r.Claim("start", id, true)
	if m != nil || err != nil {
		t.Fatal(m, err)
	}
	_, err = r.Claim("start", id, true)
	want("claimed twice", err, zones.ErrBusy)
	_, err = r.Running("x", id)
	want("claimed", err, zones.ErrBusy)
	one := &machine{ended: make(chan struct{})}
	r.Settle(id, one)
	if m, err := r.Running("x", id); m != one || err != nil {
		t.Error(m, err)
	}
	_, err = r.Claim("start", id, true)
	want("a second start", err, zones.ErrExist)
	close(one.ended)
	_, err = r.Running("x", id)
	want("ended", err, zones.ErrNotRunning)
	if m, err := r.Claim("destroy", id, false); m != one || err != nil {
		t.Error(m, err)
	}
	r.Settle(id, nil)
	_, err = r.Find("x", id)
	want("destroyed", err, zones.ErrNotExist)
}

// What is being started while the roster is closed is released too.
func TestClose(t *testing.T) {
	r := roster.New[*machine]()
	held, late := &machine{}, &machine{}
	if _, err := r.Claim("start", id, true); err != nil {
		t.Fatal(err)
	}
	r.Settle(id, held)
	if _, err := r.Claim("start", "other", true); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r.Settle("other", late)
	if held.released.Load() != 1 || late.released.Load() != 1 {
		t.Errorf("released %d and %d times", held.released.Load(), late.released.Load())
	}
	if _, err := r.Find("x", id); !errors.Is(err, zones.ErrClosed) {
		t.Error(err)
	}
}

func TestOneAtATime(t *testing.T) {
	r := roster.New[*machine]()
	var wg sync.WaitGroup
	var in, won atomic.Int32
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if _, err := r.Claim("start", id, false); err != nil {
					continue
				}
				if in.Add(1) != 1 {
					t.Error("two have it")
				}
				won.Add(1)
				in.Add(-1)
				r.Settle(id, nil)
			}
		})
	}
	wg.Wait()
	if won.Load() == 0 {
		t.Error("nobody had it")
	}
}
