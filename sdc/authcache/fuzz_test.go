package authcache_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
)

// Whatever a stranger sends, the answer is a refusal that a door can show, or nobody.
func FuzzAuthenticate(f *testing.F) {
	_, cache, _ := plain(f)
	f.Add("GET", "/demo/stor", `Signature keyId="/demo/keys/aa",algorithm="rsa-sha256",signature="AAAA"`, "")
	f.Add("PUT", "/demo//stor/?expires=1&keyId=%2Fdemo&algorithm=RSA-SHA1&signature=x", "", "demo, *")
	f.Add("GET", "/demo/public/%zz", "Token AAAA", "_operator")
	f.Add("OPTIONS", "*", "Basic x", "\x00")
	f.Add("", "", " ", "")
	f.Fuzz(func(t *testing.T, method, target, authorization, role string) {
		r := authcache.Request{Method: method, Target: target, Host: "h", Header: http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}}
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		caller, err := cache.Authenticate(t.Context(), r)
		if err == nil {
			if !caller.Anonymous || caller.Account != nil || caller.Operator {
				t.Fatalf("caller is %+v", caller)
			}
			owner, oerr := cache.Owner(caller, "demo", authcache.CleanPath(target))
			if err = oerr; err == nil {
				if err = cache.ActivateRoles(caller, owner, role); err == nil {
					err = cache.Authorize(t.Context(), authcache.AuthzRequest{Caller: caller, Owner: owner, Action: "putobject", Resource: authcache.CleanPath(target)})
				}
			}
		}
		if e, ok := errors.AsType[*sdc.Error](err); !ok || e.Status < 400 || e.Status > 499 || e.Code == "" || e.Message == "" {
			t.Fatalf("answer is %v", err)
		}
	})
}
