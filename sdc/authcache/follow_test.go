package authcache_test

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

// flaky is a store that can go away.
type flaky struct {
	metastore.Store
	down atomic.Bool
	cut  chan struct{} // ends every watch
}

var errDown = errors.Join(metastore.ErrUnavailable, errors.New("pulled the plug"))

func (f *flaky) Position(ctx context.Context) (metastore.Position, error) {
	if f.down.Load() {
		return "", errDown
	}
	return f.Store.Position(ctx)
}

func (f *flaky) Watch(ctx context.Context, after metastore.Position, buckets ...string) iter.Seq2[metastore.Change, error] {
	return func(yield func(metastore.Change, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-f.cut:
				cancel()
			case <-ctx.Done():
			}
		}()
		for c, err := range f.Store.Watch(ctx, after, buckets...) {
			if err != nil && f.down.Load() {
				err = errDown
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

func TestNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := authcache.New(authcache.Config{Store: metastoretest.NewMemory()})
		if err != nil {
			t.Fatal(err)
		}
		_, err1 := c.Authenticate(t.Context(), request("GET", "/demo/public"))
		_, err2 := c.AccountByLogin("demo")
		_, err3 := c.Owner(&authcache.Caller{}, "demo", "/demo")
		_, err4 := c.RoleTags(&sdc.Account{}, []string{"x"})
		_, err5 := c.MintToken(&authcache.Caller{}, &sdc.Account{}, false)
		_, err6 := c.AccountByUUID("x")
		for i, err := range []error{
			c.Ready(), err1, err2, err3, err4, err5, err6, c.ActivateRoles(&authcache.Caller{}, &sdc.Account{}, ""), c.Authorize(t.Context(), authcache.AuthzRequest{}),
		} {
			if codeOf(err) != "ServiceUnavailable" {
				t.Errorf("%d: %v", i, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("WaitReady = %v", err)
		}
		// A store without a directory in it is a mistake that waiting does not mend.
		if err := c.Run(t.Context()); !errors.Is(err, metastore.ErrNoBucket) {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestContactIsLost(t *testing.T) {
	f := &flaky{}
	in(t, func(s metastore.Store) metastore.Store {
		f.Store, f.cut = s, make(chan struct{})
		return f
	}, nil, func(w *world) {
		ready := func() string { return codeOf(w.cache.Ready()) }
		if got := ready(); got != "" {
			t.Fatalf("at first: %s", got)
		}
		f.down.Store(true)
		f.cut <- struct{}{}
		time.Sleep(29 * time.Second)
		if got := ready(); got != "" || w.cache.Metrics().Lost < 28*time.Second {
			t.Errorf("after 29 s: %q, %+v", got, w.cache.Metrics())
		}
		time.Sleep(2 * time.Second)
		if _, err := w.cache.Authenticate(t.Context(), w.signed("demo", "rsa", "GET", "/demo/stor")); codeOf(err) != "ServiceUnavailable" {
			t.Errorf("after 31 s: %v", err)
		}
		// What happens meanwhile is known as soon as contact is back.
		_, err := w.dir.UpdateAccount(t.Context(), w.ids["demo"], func(a *sdc.Account) error { a.Disabled = true; return nil })
		w.must(err)
		f.down.Store(false)
		time.Sleep(10 * time.Second) // at most the longest wait between attempts
		if _, err := w.cache.Authenticate(t.Context(), w.signed("demo", "rsa", "GET", "/demo/stor")); codeOf(err) != "AccountBlocked" {
			t.Errorf("afterwards: %v", err)
		}
		if m := w.cache.Metrics(); m.Lost != 0 || m.Reloads != 2 {
			t.Errorf("afterwards: %+v", m)
		}
	})
}

// forgetful is a store whose log does not reach back.
type forgetful struct {
	metastore.Store
	times atomic.Int32
}

func (f *forgetful) Watch(ctx context.Context, after metastore.Position, buckets ...string) iter.Seq2[metastore.Change, error] {
	if f.times.Add(1) == 1 {
		return func(yield func(metastore.Change, error) bool) { yield(metastore.Change{}, metastore.ErrPositionGone) }
	}
	return f.Store.Watch(ctx, after, buckets...)
}

func TestLogDoesNotReachBack(t *testing.T) {
	f := &forgetful{}
	in(t, func(s metastore.Store) metastore.Store { f.Store = s; return f }, nil, func(w *world) {
		time.Sleep(time.Second)
		_, err := w.dir.UpdateAccount(t.Context(), w.ids["demo"], func(a *sdc.Account) error { a.Disabled = true; return nil })
		w.must(err)
		synctest.Wait()
		if a, err := w.cache.AccountByLogin("demo"); err != nil || !a.Disabled {
			t.Errorf("account is %+v, %v", a, err)
		}
		if m := w.cache.Metrics(); m.Reloads != 2 {
			t.Errorf("metrics are %+v", m)
		}
	})
}

// Records that nobody can read shut out whom they are about, and nobody else.
func TestDamagedRecords(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		put := func(bucket, name, value string) {
			_, err := w.store.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: bucket, Key: metastore.Key{Name: name}, Value: []byte(value)}})
			w.must(err)
		}
		put("ufds_accounts", w.ids["demo"], `{"alias":"x","login":5}`)
		put("ufds_users", w.ids["other/joe"], `{"alias":"y","uuid":"`+w.ids["demo/bob"]+`","login":"bob"}`)
		put("ufds_keys", w.ids["poseidon"]+"/"+keys()["ed25519"].PublicKey().MD5(), `{"alias":"z","owner":"`+w.ids["poseidon"]+`","fingerprint":"`+
			keys()["ed25519"].PublicKey().MD5()+`","openssh":"`+keys()["rsa"].PublicKey().OpenSSH()+`"}`)
		put("ufds_keys", "nonsense", `{"alias":"q"}`)
		put("ufds_policies", "p", `{"alias":"r","uuid":"p","rules":["CAN"]}`)
		synctest.Wait()
		for who, want := range map[string]string{"demo": "AccountDoesNotExist", "other/joe": "UserDoesNotExist", "poseidon": "KeyDoesNotExist", "reader": ""} {
			_, err := w.cache.Authenticate(t.Context(), w.signed(who, "ed25519", "GET", "/"))
			if codeOf(err) != want {
				t.Errorf("%s: %v, want %s", who, err, want)
			}
		}
	})
}

func TestNewRefusesNonsense(t *testing.T) {
	store := metastoretest.NewMemory()
	for name, cfg := range map[string]authcache.Config{
		"no store": {}, "negative skew": {Store: store, MaxSkew: -1}, "short key": {Store: store, Tokens: authcache.TokenConfig{Key: "00", IV: "00"}},
		"key without iv": {Store: store, Tokens: authcache.TokenConfig{Key: "5163205CA0C7F2752FD3A574E30F64DD"}},
		"negative age":   {Store: store, Tokens: authcache.TokenConfig{MaxAge: -1}},
	} {
		if _, err := authcache.New(cfg); err == nil {
			t.Errorf("New with %s succeeded", name)
		}
	}
}
