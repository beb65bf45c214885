package authcache_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

// plain returns a cache over a small directory, in real time: account demo with a user bob who may read what carries the tag reader.
func plain(tb testing.TB) (*ufds.Directory, *authcache.Cache, map[string]string) {
	tb.Helper()
	return plainOn(tb, metastoretest.NewMemory())
}

func plainOn(tb testing.TB, store metastore.Store) (*ufds.Directory, *authcache.Cache, map[string]string) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	dir, err := ufds.New(ufds.Config{Store: store})
	must(err)
	must(dir.Setup(ctx))
	a, err := dir.CreateAccount(ctx, sdc.Account{Login: "demo", ApprovedForProvisioning: true})
	must(err)
	u, err := dir.CreateUser(ctx, sdc.User{Account: a.UUID, Login: "bob"})
	must(err)
	for _, owner := range []string{a.UUID, u.UUID} {
		for _, name := range []string{"rsa", "ecdsa", "ed25519"} {
			_, err := dir.AddKey(ctx, owner, name, keys()[name].PublicKey().OpenSSH())
			must(err)
		}
	}
	p, err := dir.CreatePolicy(ctx, sdc.Policy{Account: a.UUID, Name: "reader", Rules: []string{"CAN putobject /demo/stor/in/*", "CAN getobject and getdirectory WHEN sourceip = 10.0.0.0/8"}})
	must(err)
	r, err := dir.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: "reader", Members: []string{u.UUID}, DefaultMembers: []string{u.UUID}, Policies: []string{p.UUID}})
	must(err)
	cache, err := authcache.New(authcache.Config{Store: store})
	must(err)
	var run sync.WaitGroup
	run.Go(func() { _ = cache.Run(ctx) })
	tb.Cleanup(func() { cancel(); run.Wait() })
	must(cache.WaitReady(ctx))
	return dir, cache, map[string]string{"demo": a.UUID, "bob": u.UUID, "reader": r.UUID, "policy": p.UUID}
}

func signedBy(tb testing.TB, who, key string, at time.Time) authcache.Request {
	tb.Helper()
	r, err := http.NewRequest("GET", "http://manta.example.com/demo/stor/x", nil)
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Date", at.UTC().Format(http.TimeFormat))
	if err := httpsig.SignRequest(tb.Context(), keys()[key], keyID(who, key), r, at); err != nil {
		tb.Fatal(err)
	}
	return authcache.Request{Method: "GET", Target: "/demo/stor/x", Path: "/demo/stor/x", Host: "manta.example.com", Header: r.Header}
}

// Requests go on while everything about their caller changes. What they get is what held before or after a change, never a mixture.
func TestChangesWhileRequestsGoOn(t *testing.T) {
	dir, cache, ids := plain(t)
	ctx := t.Context()
	requests := []authcache.Request{signedBy(t, "demo/bob", "rsa", time.Now()), signedBy(t, "demo/bob", "ed25519", time.Now())}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				caller, err := cache.Authenticate(ctx, requests[i%2])
				if got := codeOf(err); got != "" {
					if got != "AccountBlocked" && got != "KeyDoesNotExist" {
						t.Errorf("Authenticate: %v", err)
					}
					continue
				}
				owner, err := cache.Owner(caller, "demo", "/demo/stor/x")
				if err != nil {
					if codeOf(err) != "AccountBlocked" {
						t.Errorf("Owner: %v", err)
					}
					continue
				}
				if err := cache.ActivateRoles(caller, owner, ""); err != nil {
					t.Errorf("ActivateRoles: %v", err)
				}
				err = cache.Authorize(ctx, authcache.AuthzRequest{Caller: caller, Owner: owner, Action: "getobject", Resource: "/demo/stor/x",
					RoleTags: []string{ids["reader"]}, Conditions: authcache.Conditions{SourceIP: "10.0.0.1"}})
				if got := codeOf(err); got != "" && !strings.Contains("AuthorizationFailed InvalidRole AccountBlocked", got) {
					t.Errorf("Authorize: %v", err)
				}
			}
		})
	}
	for i := range 200 {
		_, err1 := dir.UpdateAccount(ctx, ids["demo"], func(a *sdc.Account) error { a.Disabled = i%2 == 0; return nil })
		_, err2 := dir.UpdateRole(ctx, ids["reader"], func(r *sdc.Role) error {
			if r.Members, r.DefaultMembers = nil, nil; i%2 == 1 {
				r.Members, r.DefaultMembers = []string{ids["bob"]}, []string{ids["bob"]}
			}
			return nil
		})
		_, err3 := dir.UpdatePolicy(ctx, ids["policy"], func(p *sdc.Policy) error {
			p.Rules = []string{fmt.Sprintf("CAN getobject /demo/stor/%d", i)}
			return nil
		})
		err4 := dir.DeleteKey(ctx, ids["bob"], "rsa")
		_, err5 := dir.AddKey(ctx, ids["bob"], "rsa", keys()["rsa"].PublicKey().OpenSSH())
		for _, err := range []error{err1, err2, err3, err4, err5} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	close(done)
	wg.Wait()
}

func BenchmarkAuthenticate(b *testing.B) {
	_, cache, _ := plain(b)
	for _, key := range []string{"rsa", "ecdsa", "ed25519"} {
		b.Run("remembered/"+key, func(b *testing.B) {
			r := signedBy(b, "demo", key, time.Now())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cache.Authenticate(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("remembered/parallel", func(b *testing.B) {
		r := signedBy(b, "demo", "rsa", time.Now())
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := cache.Authenticate(context.Background(), r); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("anonymous", func(b *testing.B) {
		r := authcache.Request{Method: "GET", Target: "/demo/public/x", Path: "/demo/public/x", Header: http.Header{}}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := cache.Authenticate(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAuthenticateFirst verifies a signature every time.
func BenchmarkAuthenticateFirst(b *testing.B) {
	store := metastoretest.NewMemory()
	dir, err := ufds.New(ufds.Config{Store: store})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := dir.Setup(ctx); err != nil {
		b.Fatal(err)
	}
	a, err := dir.CreateAccount(ctx, sdc.Account{Login: "demo", ApprovedForProvisioning: true})
	if err != nil {
		b.Fatal(err)
	}
	cache, err := authcache.New(authcache.Config{Store: store, Remember: -1})
	if err != nil {
		b.Fatal(err)
	}
	var run sync.WaitGroup
	run.Go(func() { _ = cache.Run(ctx) })
	defer run.Wait()
	defer cancel()
	for _, key := range []string{"rsa", "ecdsa", "ed25519"} {
		if _, err := dir.AddKey(ctx, a.UUID, key, keys()[key].PublicKey().OpenSSH()); err != nil {
			b.Fatal(err)
		}
	}
	for _, key := range []string{"rsa", "ecdsa", "ed25519"} {
		r := signedBy(b, "demo", key, time.Now())
		for { // until the cache has seen the key
			if _, err := cache.Authenticate(ctx, r); err == nil {
				break
			}
		}
		b.Run(key, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cache.Authenticate(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAuthorize(b *testing.B) {
	_, cache, ids := plain(b)
	owner, err := cache.AccountByLogin("demo")
	if err != nil {
		b.Fatal(err)
	}
	for _, who := range []string{"demo", "demo/bob"} {
		b.Run(strings.ReplaceAll(who, "/", "_"), func(b *testing.B) {
			caller, err := cache.Authenticate(b.Context(), signedBy(b, who, "rsa", time.Now()))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := cache.ActivateRoles(caller, owner, ""); err != nil {
					b.Fatal(err)
				}
				if err := cache.Authorize(b.Context(), authcache.AuthzRequest{Caller: caller, Owner: owner, Action: "getobject", Resource: "/demo/stor/x",
					RoleTags: []string{ids["reader"]}, Conditions: authcache.Conditions{SourceIP: "10.0.0.1"}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFollow is one change on the embedded store, from before its commit until it holds for requests.
func BenchmarkFollow(b *testing.B) {
	store, err := pebble.Open(b.TempDir(), pebble.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	dir, cache, ids := plainOn(b, store)
	disabled := false
	for b.Loop() {
		disabled = !disabled
		if _, err := dir.UpdateAccount(b.Context(), ids["demo"], func(a *sdc.Account) error { a.Disabled = disabled; return nil }); err != nil {
			b.Fatal(err)
		}
		for {
			if a, err := cache.AccountByLogin("demo"); err == nil && a.Disabled == disabled {
				break
			}
			runtime.Gosched()
		}
	}
}
