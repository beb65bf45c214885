package authcache_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

// keys of callers, made once.
var keys = sync.OnceValue(func() map[string]httpsig.Signer {
	r, err1 := rsa.GenerateKey(rand.Reader, 2048)
	e, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, err3 := ed25519.GenerateKey(rand.Reader)
	_, x, err4 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		panic(err)
	}
	m := map[string]httpsig.Signer{}
	for name, key := range map[string]any{"rsa": r, "ecdsa": e, "ed25519": d, "stranger": x} {
		s, err := httpsig.NewSigner(key)
		if err != nil {
			panic(err)
		}
		m[name] = s
	}
	return m
})

// A world is a directory with a cache that follows it, in a bubble of time.
type world struct {
	*testing.T
	store metastore.Store
	dir   *ufds.Directory
	cache *authcache.Cache
	ids   map[string]string // uuids by login, login/user and login:role
}

// in runs a test in a world of its own. The store may be wrapped, and the configuration changed.
func in(t *testing.T, wrap func(metastore.Store) metastore.Store, edit func(*authcache.Config), test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var store metastore.Store = metastoretest.NewMemory()
		dir, err := ufds.New(ufds.Config{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		if err := dir.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := &world{T: t, store: store, dir: dir, ids: map[string]string{}}
		w.populate()
		if wrap != nil {
			store = wrap(store)
		}
		cfg := authcache.Config{Store: store}
		if edit != nil {
			edit(&cfg)
		}
		if w.cache, err = authcache.New(cfg); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.cache.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}()
		synctest.Wait()
		test(w)
	})
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) account(login string, groups ...string) {
	w.Helper()
	a, err := w.dir.CreateAccount(w.Context(), sdc.Account{Login: login, ApprovedForProvisioning: true, Groups: groups})
	w.must(err)
	w.ids[login] = a.UUID
	w.key(login, "ed25519")
}

func (w *world) user(account, login string) {
	w.Helper()
	u, err := w.dir.CreateUser(w.Context(), sdc.User{Account: w.ids[account], Login: login})
	w.must(err)
	w.ids[account+"/"+login] = u.UUID
	w.key(account+"/"+login, "ed25519")
}

func (w *world) key(owner, name string) {
	w.Helper()
	_, err := w.dir.AddKey(w.Context(), w.ids[owner], name, keys()[name].PublicKey().OpenSSH())
	w.must(err)
}

// role makes a role with a policy of its own. A member with a star is a default member.
func (w *world) role(account, name, members string, rules ...string) {
	w.Helper()
	r := sdc.Role{Account: w.ids[account], Name: name}
	for _, m := range strings.Fields(members) {
		m, isDefault := strings.CutSuffix(m, "*")
		r.Members = append(r.Members, w.ids[m])
		if isDefault {
			r.DefaultMembers = append(r.DefaultMembers, w.ids[m])
		}
	}
	if rules != nil {
		p, err := w.dir.CreatePolicy(w.Context(), sdc.Policy{Account: w.ids[account], Name: name, Rules: rules})
		w.must(err)
		r.Policies = []string{p.UUID}
	}
	r, err := w.dir.CreateRole(w.Context(), r)
	w.must(err)
	w.ids[account+":"+name] = r.UUID
}

// populate makes the people of the tests.
func (w *world) populate() {
	w.account("demo")
	w.account("other")
	w.account("poseidon", "operators")
	w.account("reader", "readers")
	w.account("oncall", "role-operators", "operators")
	w.account("unapproved")
	w.account("disabled")
	w.account("lateop", "operators")
	w.account("visitors")
	for _, login := range []string{"bob", "eve", "defaulted", "admin", "off"} {
		w.user("demo", login)
	}
	w.user("other", "joe")
	w.user("poseidon", "pat")
	w.user("reader", "rae")
	w.user("visitors", sdc.AnonymousUser)
	w.key("demo", "rsa")
	w.key("demo", "ecdsa")

	w.role("demo", "tagged", "demo/bob demo/defaulted*", "CAN getobject and getdirectory", "CAN putobject WHEN overwrite = false")
	w.role("demo", "writer", "demo/bob demo/eve", "CAN putobject /demo/stor/in/*", "CAN deleteobject")
	w.role("demo", "office", "demo/bob", "CAN getobject * WHEN sourceip = 10.0.0.0/8 AND day in (Saturday, Sunday)")
	w.role("demo", "empty", "demo/bob")
	w.role("demo", "never", "demo/bob", "CAN NOT getobject *")
	w.role("demo", "named", "demo/bob", "bob CAN getobject *")
	w.role("demo", "shared", "other* other/joe* demo/bob", "CAN getobject *")
	w.role("demo", "administrator", "demo/admin* other/joe")
	w.role("other", "shared", "demo/bob", "CAN getobject *")
	w.role("other", "foreign", "demo/bob*", "CAN * *")
	w.role("poseidon", "administrator", "poseidon/pat* other")
	w.role("visitors", "everybody", "visitors/anonymous*", "CAN getobject /visitors/stor/open/*", "CAN getdirectory")
	w.role("visitors", "asked", "visitors/anonymous", "CAN putobject *")

	ctx := w.Context()
	for login, change := range map[string]func(*sdc.Account) error{
		"unapproved": func(a *sdc.Account) error { a.ApprovedForProvisioning = false; return nil },
		"lateop":     func(a *sdc.Account) error { a.ApprovedForProvisioning = false; return nil },
		"disabled":   func(a *sdc.Account) error { a.Disabled = true; a.Groups = []string{"operators"}; return nil },
	} {
		_, err := w.dir.UpdateAccount(ctx, w.ids[login], change)
		w.must(err)
	}
	_, err := w.dir.UpdateUser(ctx, w.ids["demo/off"], func(u *sdc.User) error { u.Disabled = true; return nil })
	w.must(err)
}

// request returns a request with a date.
func request(method, target string) authcache.Request {
	return authcache.Request{Method: method, Target: target, Host: "manta.example.com", Header: http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}}
}

// keyID returns the key id for a key of account or account/user.
func keyID(who, key string) string {
	account, user, _ := strings.Cut(who, "/")
	return httpsig.KeyID{Account: account, User: user, Key: keys()[key].PublicKey().MD5()}.String()
}

// signed returns a request signed by account or account/user.
func (w *world) signed(who, key, method, target string, items ...string) authcache.Request {
	w.Helper()
	return w.sign(request(method, target), keyID(who, key), key, items...)
}

// sign signs a request as it is.
func (w *world) sign(r authcache.Request, keyID, key string, items ...string) authcache.Request {
	w.Helper()
	if items == nil {
		items = []string{"date"}
	}
	_, algorithm, err := keys()[key].Sign(w.Context(), nil)
	w.must(err)
	header := func(signature string) string {
		return `Signature keyId="` + keyID + `",algorithm="` + algorithm + `",headers="` + strings.Join(items, " ") + `",signature="` + signature + `"`
	}
	s, err := httpsig.Parse(header("x"))
	w.must(err)
	text, err := s.AppendText(nil, &httpsig.Request{Method: r.Method, Target: r.Target, Host: r.Host, Header: r.Header})
	w.must(err)
	sig, _, err := keys()[key].Sign(w.Context(), text)
	w.must(err)
	r.Header.Set("Authorization", header(base64String(sig)))
	return r
}

// caller authenticates account, account/user or anonymous for a path.
func (w *world) caller(who, path string) *authcache.Caller {
	w.Helper()
	r := request("GET", path)
	if who != "anonymous" {
		r = w.signed(who, "ed25519", "GET", path)
	}
	c, err := w.cache.Authenticate(w.Context(), r)
	w.must(err)
	return c
}

// codeOf returns the code of an error, with its status where that is not what the code says.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*sdc.Error](err)
	if !ok {
		return err.Error()
	}
	if want, ok := statuses[e.Code]; !ok || want != e.Status {
		return fmt.Sprintf("%s with status %d", e.Code, e.Status)
	}
	return e.Code
}

var statuses = map[string]int{
	"InvalidHeader": 400, "RequestExpired": 400, "AuthorizationRequired": 401, "InvalidAlgorithm": 401,
	"AccountBlocked": 403, "AccountDoesNotExist": 403, "AuthorizationFailed": 403, "AuthorizationSchemeNotAllowed": 403,
	"InvalidAuthenticationToken": 403, "InvalidHttpAuthenticationToken": 403, "InvalidKeyId": 403, "InvalidQueryStringAuthentication": 403,
	"InvalidSignature": 403, "KeyDoesNotExist": 403, "NoMatchingRoleTag": 403, "SecureTransportRequired": 403, "UserDoesNotExist": 403,
	"InvalidRole": 409, "InvalidRoleTag": 409, "ServiceUnavailable": 503,
}
