package authcache_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

// A door that lets the user bob of the account demo read and nothing else.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store := metastoretest.NewMemory() // a program takes metastore/pebble or metastore/postgres
	directory, _ := ufds.New(ufds.Config{Store: store})
	_ = directory.Setup(ctx)

	signer, _ := httpsig.NewSigner(ed25519.NewKeyFromSeed(make([]byte, 32)))
	demo, _ := directory.CreateAccount(ctx, sdc.Account{Login: "demo", ApprovedForProvisioning: true})
	bob, _ := directory.CreateUser(ctx, sdc.User{Account: demo.UUID, Login: "bob"})
	_, _ = directory.AddKey(ctx, bob.UUID, "laptop", signer.PublicKey().OpenSSH())
	policy, _ := directory.CreatePolicy(ctx, sdc.Policy{Account: demo.UUID, Name: "read", Rules: []string{"CAN getobject *"}})
	_, _ = directory.CreateRole(ctx, sdc.Role{Account: demo.UUID, Name: "reader", Members: []string{bob.UUID}, DefaultMembers: []string{bob.UUID}, Policies: []string{policy.UUID}})

	cache, _ := authcache.New(authcache.Config{Store: store})
	go func() { _ = cache.Run(ctx) }()
	_ = cache.WaitReady(ctx)

	may := func(r *http.Request, action string) error {
		caller, err := cache.Authenticate(ctx, authcache.View(r))
		if err != nil {
			return err
		}
		owner, err := cache.Owner(caller, "demo", r.URL.Path)
		if err != nil {
			return err
		}
		if err := cache.ActivateRoles(caller, owner, r.Header.Get("Role")); err != nil {
			return err
		}
		return cache.Authorize(ctx, authcache.AuthzRequest{Caller: caller, Owner: owner, Action: action, Resource: r.URL.Path})
	}
	r := httptest.NewRequest("GET", "/demo/stor/report", nil)
	fmt.Println("nobody:", may(r, "getobject"))
	keyID := httpsig.KeyID{Account: "demo", User: "bob", Key: signer.PublicKey().MD5()}
	_ = httpsig.SignRequest(ctx, signer, keyID.String(), r, time.Now())
	fmt.Println("bob reads:", may(r, "getobject"))
	fmt.Println("bob writes:", may(r, "putobject"))
	// Output:
	// nobody: AuthorizationFailed: anonymous is not allowed to access /demo/stor/report
	// bob reads: <nil>
	// bob writes: AuthorizationFailed: demo/bob is not allowed to access /demo/stor/report
}
