package authcache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

func TestWaitMark_changesBeforeItAreInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := metastoretest.NewMemory()
		directory, err := ufds.New(ufds.Config{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		if err := directory.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		cache, err := authcache.New(authcache.Config{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- cache.Run(ctx) }()
		for _, login := range []string{"alice", "bobby", "carol"} {
			a, err := directory.CreateAccount(t.Context(), sdc.Account{Login: login, ApprovedForProvisioning: true})
			if err != nil {
				t.Fatal(err)
			}
			mark, err := directory.Mark(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := cache.WaitMark(t.Context(), mark); err != nil {
				t.Fatal(err)
			}
			if _, err := cache.AccountByLogin(login); err != nil {
				t.Errorf("account %s after its mark: %v", login, err)
			}
			if err := directory.DeleteAccount(t.Context(), a.UUID); err != nil {
				t.Fatal(err)
			}
		}
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := cache.WaitMark(short, 1000); err == nil {
			t.Error("waiting for a mark that nobody made succeeded")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
