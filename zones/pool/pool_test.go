package pool_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/pool"
	"github.com/mobulacloud/mobula/zones/zonestest"
)

// factory makes fake zones, slowly, and counts what was prepared and not released.
type factory struct {
	pool.Machines
	world *zonestest.World

	mu       sync.Mutex
	n        int
	prepared map[string]bool // by root
}

const slow = 20 * time.Millisecond

func newFactory() *factory {
	f := &factory{world: new(zonestest.World), prepared: map[string]bool{}}
	f.Machines = pool.Machines{
		Driver: f.world.Driver(),
		Prepare: func(ctx context.Context, c pool.Class) (zones.Machine, error) {
			time.Sleep(slow)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.n++
			root := fmt.Sprintf("/roots/%s/%d", c.Image, f.n)
			f.prepared[root] = true
			return zones.Machine{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", f.n), Spec: &zones.Spec{Brand: zones.BrandMinimal},
				RunDir: fmt.Sprintf("/run/%d", f.n), Root: zones.Root{Path: root}, IDs: zones.IDRange{First: 100000, Size: 65536}, Limits: c.Limits}, nil
		},
		Release: func(_ context.Context, m zones.Machine) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.prepared, m.Root.Path)
			return nil
		},
	}
	return f
}

// run tests a pool in a bubble and checks that nothing is left at its end.
func run(t *testing.T, cfg pool.Config, test func(t *testing.T, p *pool.Pool, f *factory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFactory()
		cfg.Factory = f
		p, err := pool.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		test(t, p, f)
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if ids := f.world.Running(); len(ids) > 0 || len(f.prepared) > 0 {
			t.Errorf("left behind: machines %v, roots %v", ids, f.prepared)
		}
		if _, err := p.Get(t.Context(), small); !errors.Is(err, zones.ErrClosed) {
			t.Errorf("Get after the end = %v, want ErrClosed", err)
		}
	})
}

var (
	small = pool.Class{Image: "a", Limits: zones.Limits{Memory: 64 << 20}}
	large = pool.Class{Image: "a", Limits: zones.Limits{Memory: 1 << 30}}
)

func get(t testing.TB, p *pool.Pool, c pool.Class) *pool.Lease {
	t.Helper()
	l, err := p.Get(t.Context(), c)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return l
}

func TestWarm(t *testing.T) {
	run(t, pool.Config{Max: 8}, func(t *testing.T, p *pool.Pool, f *factory) {
		p.Want(small, 3)
		time.Sleep(time.Second)
		if st := p.Stats(); st.Warm != 3 || st.Made != 3 {
			t.Fatalf("Stats = %+v, want 3 warm", st)
		}
		begin := time.Now()
		var leases []*pool.Lease
		seen := map[string]bool{}
		for range 3 {
			l := get(t, p, small)
			leases = append(leases, l)
			seen[l.Zone().ID] = true
		}
		if time.Since(begin) != 0 || len(seen) != 3 {
			t.Errorf("3 warm zones took %v, ids %v", time.Since(begin), seen)
		}
		time.Sleep(time.Second)
		if st := p.Stats(); st.Warm != 3 || st.Out != 3 || st.Hits != 3 {
			t.Errorf("Stats = %+v, want a refill of 3", st)
		}
		for _, l := range leases {
			l.Return()
			l.Return()
		}
		time.Sleep(time.Second)
		if st := p.Stats(); st.Warm != 6 || st.Out != 0 || st.Resets != 3 {
			t.Errorf("Stats = %+v, want the returned ones reset", st)
		}
		time.Sleep(2 * time.Minute)
		if st := p.Stats(); st.Warm != 3 || st.Discards != 3 {
			t.Errorf("Stats = %+v, want those beyond 3 gone", st)
		}
	})
}

func TestEachTenantGetsANewRoot(t *testing.T) {
	run(t, pool.Config{Max: 1}, func(t *testing.T, p *pool.Pool, f *factory) {
		roots := map[string]bool{}
		for range 5 {
			l := get(t, p, small)
			if r := l.Zone().Machine.Root.Path; roots[r] {
				t.Errorf("root %s was somebody else's", r)
			} else {
				roots[r] = true
			}
			if m, ok := f.world.Machine(l.Zone().ID); !ok || m.Root.Path != l.Zone().Machine.Root.Path {
				t.Errorf("the machine runs on %q, the lease says %q", m.Root.Path, l.Zone().Machine.Root.Path)
			}
			l.Return()
		}
		if n := f.world.Calls("reset"); n != 4 {
			t.Errorf("%d resets, want 4", n)
		}
	})
}

func TestBoundedAndInTurn(t *testing.T) {
	run(t, pool.Config{Max: 2}, func(t *testing.T, p *pool.Pool, f *factory) {
		a, b := get(t, p, small), get(t, p, small)
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				l, err := p.Get(t.Context(), small)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				time.Sleep(time.Second)
				l.Return()
			})
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		if st := p.Stats(); st.Out != 2 || st.Waiting != 4 || len(f.world.Running()) != 2 {
			t.Errorf("Stats = %+v with %d running, want the bound kept", st, len(f.world.Running()))
		}
		a.Return()
		time.Sleep(100 * time.Millisecond)
		b.Return()
		wg.Wait()
		if fmt.Sprint(order) != "[0 1 2 3]" {
			t.Errorf("served in order %v", order)
		}
	})
}

func TestRoomForAnotherClass(t *testing.T) {
	run(t, pool.Config{Max: 2}, func(t *testing.T, p *pool.Pool, f *factory) {
		p.Want(small, 2)
		time.Sleep(time.Second)
		a := get(t, p, large) // a warm small one goes
		b := get(t, p, large)
		if n := len(f.world.Running()); n != 2 {
			t.Errorf("%d run, want 2", n)
		}
		var c *pool.Lease
		var wg sync.WaitGroup
		wg.Go(func() { c = get(t, p, small) })
		time.Sleep(time.Second)
		a.Return() // not reset but replaced
		wg.Wait()
		if c.Zone().Class != small {
			t.Errorf("got a zone of %+v", c.Zone().Class)
		}
		b.Discard()
		c.Return()
	})
}

func TestCancelledGet(t *testing.T) {
	run(t, pool.Config{Max: 1}, func(t *testing.T, p *pool.Pool, f *factory) {
		a := get(t, p, small)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Get(ctx, small); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get = %v", err)
		}
		if _, err := p.Get(ctx, small); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get = %v", err)
		}
		if st := p.Stats(); st.Waiting != 0 {
			t.Errorf("Stats = %+v", st)
		}
		a.Return()
		get(t, p, small).Return()
	})
}

func TestFactoryFails(t *testing.T) {
	run(t, pool.Config{Max: 2}, func(t *testing.T, p *pool.Pool, f *factory) {
		oops := errors.New("oops")
		f.world.Fail("start", oops)
		if _, err := p.Get(t.Context(), small); !errors.Is(err, oops) {
			t.Errorf("Get = %v, want the factory's error", err)
		}
		l := get(t, p, small) // the next is not put off
		f.world.Fail("reset", oops)
		f.world.Fail("destroy", oops)
		f.world.Fail("destroy", oops)
		l.Return()
		p.Want(small, 2)
		time.Sleep(time.Minute)
		if st := p.Stats(); st.Warm != 2 || st.Failures != 4 || len(f.world.Running()) != 2 {
			t.Errorf("Stats = %+v with %v running, want 2 warm after 4 failures", st, f.world.Running())
		}
		for range 100 {
			f.world.Fail("start", oops)
		}
		get(t, p, small).Discard()
		get(t, p, small).Discard()
		before := f.world.Calls("start")
		time.Sleep(10 * time.Minute)
		if n := f.world.Calls("start") - before; n < 5 || n > 60 {
			t.Errorf("%d attempts in ten minutes", n)
		}
	})
}

func TestReturnAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFactory()
		p, err := pool.New(pool.Config{Factory: f, Max: 1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		l := get(t, p, small)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := len(f.world.Running()); n != 1 {
			t.Errorf("%d run, want the one that is out", n)
		}
		l.Return()
		if ids := f.world.Running(); len(ids) > 0 || len(f.prepared) > 0 {
			t.Errorf("left behind: machines %v, roots %v", ids, f.prepared)
		}
	})
}

// plain is a driver that cannot reset.
type plain struct{ zones.Driver }

func (p plain) Capabilities() zones.Capabilities {
	c := p.Driver.Capabilities()
	c.Reset = false
	return c
}

func TestDriverWithoutReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFactory()
		f.Driver = plain{f.Driver}
		z, err := f.Make(t.Context(), small)
		if err != nil {
			t.Fatal(err)
		}
		y, err := f.Reset(t.Context(), z)
		if err != nil || y.ID == z.ID {
			t.Errorf("Reset = %v, %v, want another zone", y.ID, err)
		}
		if err := f.Discard(t.Context(), y); err != nil || len(f.prepared) > 0 || len(f.world.Running()) > 0 {
			t.Errorf("Discard = %v, left %v %v", err, f.prepared, f.world.Running())
		}
	})
}

func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFactory()
		for range 3 {
			if _, err := f.Make(t.Context(), small); err != nil {
				t.Fatal(err)
			}
		}
		f.Driver = f.world.Driver() // a restart
		if err := f.Sweep(t.Context()); err != nil || len(f.world.Running()) > 0 {
			t.Errorf("Sweep = %v, %v run", err, f.world.Running())
		}
	})
}

func TestNew(t *testing.T) {
	for _, cfg := range []pool.Config{{}, {Max: 1}, {Factory: newFactory()}} {
		if _, err := pool.New(cfg); !errors.Is(err, zones.ErrInvalid) {
			t.Errorf("New(%+v) = %v, want ErrInvalid", cfg, err)
		}
	}
}

// BenchmarkGet is the hand-out of a warm zone, by the pool alone.
func BenchmarkGet(b *testing.B) {
	p, err := pool.New(pool.Config{Factory: instant{}, Max: 64, Workers: 8})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	p.Want(small, 32)
	for b.Loop() {
		l, err := p.Get(ctx, small)
		if err != nil {
			b.Fatal(err)
		}
		l.Return()
	}
	stop()
	<-done
}

type instant struct{}

func (instant) Make(_ context.Context, c pool.Class) (pool.Zone, error) {
	return pool.Zone{Class: c}, nil
}
func (instant) Reset(_ context.Context, z pool.Zone) (pool.Zone, error) { return z, nil }
func (instant) Discard(context.Context, pool.Zone) error                { return nil }
