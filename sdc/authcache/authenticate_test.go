package authcache_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/storage/metastore"
)

func base64String(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func with(r authcache.Request, name, value string) authcache.Request {
	r.Header.Set(name, value)
	return r
}

func TestAuthenticate(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		old := func(age time.Duration) string { return time.Now().Add(-age).UTC().Format(http.TimeFormat) }
		rsaKey := keys()["rsa"].PublicKey()
		clear := func(r authcache.Request) authcache.Request { r.ClearText = true; return r }
		auth := func(value string) authcache.Request {
			return with(request("GET", "/demo/stor"), "Authorization", value)
		}
		sig := func(params string) authcache.Request {
			return auth(`Signature ` + params + `,signature="AAAA"`)
		}
		for _, tt := range []struct {
			name    string
			request authcache.Request
			want    string // code and message of the refusal, or login
		}{
			{"account by ed25519", w.signed("demo", "ed25519", "GET", "/demo/stor"), "demo"},
			{"account by rsa", w.signed("demo", "rsa", "GET", "/demo/stor"), "demo"},
			{"account by ecdsa", w.signed("demo", "ecdsa", "PUT", "/demo/stor/x"), "demo"},
			{"user", w.signed("demo/bob", "ed25519", "GET", "/demo/stor"), "demo/bob"},
			{"all items", w.signed("demo", "rsa", "PUT", "/demo/stor/a%20b//?x=1", "date", "host", "(request-target)", "request-line", "(keyid)", "(algorithm)"), "demo"},
			{"SHA-256 fingerprint", w.sign(request("GET", "/demo/stor"), "/demo/keys/"+strings.ReplaceAll(rsaKey.SHA256(), "/", "%2F"), "rsa"), "demo"},
			{"fingerprint with prefix", w.sign(request("GET", "/demo/stor"), "/demo/keys/MD5:"+rsaKey.MD5(), "rsa"), "demo"},
			{"x-date", w.sign(with(with(request("GET", "/demo/stor"), "X-Date", old(0)), "Date", old(400*time.Second)), keyID("demo", "rsa"), "rsa", "x-date"), "demo"},
			{"scheme in capitals", auth("SIGNATURE " + strings.TrimPrefix(w.signed("demo", "rsa", "GET", "/").Header.Get("Authorization"), "Signature ")),
				`InvalidHeader Invalid Signature Authorization header: scheme was not "Signature"`},
			{"operator that is not approved", w.signed("lateop", "ed25519", "GET", "/demo/stor"), "lateop"},
			{"nobody", request("GET", "/demo/stor"), "anonymous"},
			{"nobody without a date", authcache.Request{Method: "GET", Target: "/demo/public/x", Header: http.Header{}}, "anonymous"},

			{"date is old", with(w.signed("demo", "rsa", "GET", "/"), "Date", old(601*time.Second)), "RequestExpired Date header is too old"},
			{"date is old, nobody", with(request("GET", "/demo/public"), "Date", old(601*time.Second)), "RequestExpired Date header is too old"},
			{"date is no date", with(request("GET", "/demo/public"), "Date", "today"), "InvalidHeader Date header is invalid"},
			{"date outside the window", with(w.signed("demo", "rsa", "GET", "/"), "Date", old(301*time.Second)),
				"InvalidHeader Invalid Signature Authorization header: clock skew of 301s was greater than 300s"},
			{"no second word", auth("Signature"), "InvalidHeader Invalid Authorization header"},
			{"noise", auth("Signature noise!"), "InvalidHeader Invalid Signature Authorization header: bad param format"},
			{"header not there", sig(`keyId="/demo/keys/x",algorithm="rsa-sha256",headers="date x-none"`), "InvalidHeader Invalid Signature Authorization header: x-none was not in the request"},
			{"date not signed", sig(`keyId="/demo/keys/x",algorithm="rsa-sha256",headers="(request-target)"`), "InvalidHeader Invalid Signature Authorization header: date was not a signed header"},
			{"unknown algorithm", sig(`keyId="/demo/keys/x",algorithm="rsa-md5"`), "InvalidHeader Invalid Signature Authorization header: rsa-md5 is not supported"},
			{"hmac", sig(`keyId="/demo/keys/x",algorithm="hmac-sha256"`), "InvalidAlgorithm HMAC-SHA256 is not a supported signing algorithm. Supported algorithms are " + httpsig.Algorithms()},
			{"basic", auth("Basic ZGVtbzpkZW1v"), "AuthorizationSchemeNotAllowed basic is not allowed (use 'signature')"},
			{"bearer", auth("Bearer x"), "AuthorizationSchemeNotAllowed bearer is not allowed (use 'signature')"},
			{"key id of CloudAPI", w.sign(request("GET", "/"), "/demo/users/bob/keys/"+rsaKey.MD5(), "rsa"), "InvalidKeyId the KeyId token you provided is invalid"},
			{"key id of no form", sig(`keyId="demo",algorithm="rsa-sha256"`), "InvalidKeyId the KeyId token you provided is invalid"},
			{"unknown account", sig(`keyId="/nobody/keys/aa:bb",algorithm="rsa-sha256"`), "AccountDoesNotExist nobody does not exist"},
			{"login in capitals", w.sign(request("GET", "/"), "/Demo/keys/"+rsaKey.MD5(), "rsa"), "AccountDoesNotExist Demo does not exist"},
			{"unknown user", sig(`keyId="/demo/nobody/keys/aa:bb",algorithm="rsa-sha256"`), "UserDoesNotExist demo/nobody does not exist"},
			{"unknown key", sig(`keyId="/demo/keys/aa:bb",algorithm="rsa-sha256"`), "KeyDoesNotExist /demo/keys/aa:bb does not exist"},
			{"unknown key of a user", sig(`keyId="/demo/bob/keys/aa:bb",algorithm="rsa-sha256"`), "KeyDoesNotExist /demo/bob/keys/aa:bb does not exist"},
			{"account's key for a user", w.signed("demo/bob", "rsa", "GET", "/"), "KeyDoesNotExist /demo/bob/keys/" + rsaKey.MD5() + " does not exist"},
			{"another's key", w.sign(request("GET", "/"), keyID("demo", "rsa"), "stranger"), "InvalidSignature The signature we calculated does not match the one you sent"},
			{"signature of another text", with(w.signed("demo", "rsa", "GET", "/"), "Date", old(time.Second)), "InvalidSignature The signature we calculated does not match the one you sent"},
			{"algorithm of another family", sig(`keyId="/demo/keys/` + rsaKey.MD5() + `",algorithm="ecdsa-sha256"`), "InvalidSignature The signature we calculated does not match the one you sent"},
			{"account not approved", w.signed("unapproved", "ed25519", "GET", "/"), "AccountBlocked unapproved is not an active account"},
			{"account disabled", w.signed("disabled", "ed25519", "GET", "/"), "AccountBlocked disabled is not an active account"},
			{"user disabled", w.signed("demo/off", "ed25519", "GET", "/"), "AccountBlocked demo/off is not an active account"},
			{"sign-on token", with(w.signed("demo", "rsa", "GET", "/"), "X-Auth-Token", "{}"), "InvalidHttpAuthenticationToken malformed auth token"},

			{"clear text", clear(w.signed("demo", "rsa", "GET", "/demo/stor")), "SecureTransportRequired Manta requires a secure transport (SSL/TLS)"},
			{"clear text, malformed", clear(auth("Signature")), "InvalidHeader Invalid Authorization header"},
			{"clear text, public read", clear(request("GET", "/demo/public/x")), "anonymous"},
			{"clear text, public write", clear(request("PUT", "/demo/public/x")), "SecureTransportRequired Manta requires a secure transport (SSL/TLS)"},
			{"clear text, nearly public", clear(request("GET", "/demo/publicity")), "SecureTransportRequired Manta requires a secure transport (SSL/TLS)"},
		} {
			c, err := w.cache.Authenticate(t.Context(), tt.request)
			got := codeOf(err)
			if err != nil {
				_, message, _ := strings.Cut(err.Error(), ": ")
				got += " " + message
			} else {
				got = c.Login()
				if c.Anonymous != (got == "anonymous") {
					t.Errorf("%s: Anonymous = %v", tt.name, c.Anonymous)
				}
			}
			if got != tt.want {
				t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
			}
			// What is in the log must not be a credential.
			if err != nil && strings.Contains(err.Error(), tt.request.Header.Get("Authorization")) && tt.request.Header.Get("Authorization") != "" {
				t.Errorf("%s: the error holds the header: %v", tt.name, err)
			}
		}
	})
}

func TestCallerOfASignature(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		for who, operator := range map[string]bool{"demo": false, "poseidon": true, "poseidon/pat": false, "oncall": false, "lateop": true} {
			c := w.caller(who, "/demo/stor")
			if c.Operator != operator || c.KeyID != keys()["ed25519"].PublicKey().MD5() || c.Presigned || c.Token != nil {
				t.Errorf("%s is %+v", who, c)
			}
			if account, user, ok := strings.Cut(who, "/"); c.Account.Login != account || ok != (c.User != nil) || ok && c.User.Login != user {
				t.Errorf("%s is %+v", who, c)
			}
		}
	})
}

func TestPresigned(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		make := func(who, key string, u httpsig.URL) string {
			u.Host, u.Path = "manta.example.com", "/demo/stor/a%20b"
			if u.Expires.IsZero() {
				u.Expires = time.Now().Add(time.Hour)
			}
			target, err := httpsig.SignURL(t.Context(), keys()[key], keyID(who, key), u)
			w.must(err)
			return target
		}
		ask := func(method, target string) (*authcache.Caller, error) {
			return w.cache.Authenticate(t.Context(), authcache.Request{Method: method, Target: target, Host: "manta.example.com", Header: http.Header{}, ClearText: true})
		}
		good := make("demo", "rsa", httpsig.URL{})
		for _, tt := range []struct{ name, method, target, want string }{
			{"read", "GET", good, ""},
			{"head", "HEAD", good, ""},
			{"write with a read's URL", "PUT", good, "InvalidQueryStringAuthentication"},
			{"another path", "GET", strings.Replace(good, "a%20b", "a%20c", 1), "InvalidSignature"},
			{"more parameters", "GET", good + "&limit=1", "InvalidSignature"},
			{"a role that was not signed", "GET", good + "&role=writer", "InvalidSignature"},
			{"longer", "GET", strings.Replace(good, "expires=", "expires=1", 1), "InvalidSignature"},
			{"write", "PUT", make("demo", "rsa", httpsig.URL{Methods: []string{"PUT"}}), ""},
			{"user", "GET", make("demo/bob", "ed25519", httpsig.URL{Query: url.Values{"Zed": {"1"}}}), ""},
			{"expired", "GET", make("demo", "rsa", httpsig.URL{Expires: time.Now().Add(-2 * time.Second)}), "InvalidQueryStringAuthentication"},
			{"another's key", "GET", strings.Replace(good, url.QueryEscape(keyID("demo", "rsa")), url.QueryEscape(keyID("demo", "ecdsa")), 1), "InvalidSignature"},
			{"unknown account", "GET", strings.Replace(good, "keyId=%2Fdemo", "keyId=%2Fnobody", 1), "AccountDoesNotExist"},
			{"half", "GET", "/demo/stor/x?expires=1", "InvalidQueryStringAuthentication"},
		} {
			if _, err := ask(tt.method, tt.target); codeOf(err) != tt.want {
				t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
			}
		}
		c, err := ask("GET", make("demo/bob", "ed25519", httpsig.URL{Role: []string{"writer", "tagged"}, RoleTag: []string{"tagged"}}))
		w.must(err)
		if !c.Presigned || c.Role != "writer,tagged" || c.RoleTag != "tagged" || c.Login() != "demo/bob" {
			t.Errorf("caller is %+v", c)
		}
		// A URL that is good for longer than a signature is remembered is verified again, not refused.
		time.Sleep(30 * time.Minute)
		if _, err := ask("GET", good); err != nil {
			t.Errorf("later: %v", err)
		}
		time.Sleep(31 * time.Minute)
		if _, err := ask("GET", good); codeOf(err) != "InvalidQueryStringAuthentication" {
			t.Errorf("too late: %v", err)
		}
	})
}

func TestOwner(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		for _, tt := range []struct{ who, login, path, want, becomes string }{
			{"demo", "demo", "/demo/stor", "", "demo"},
			{"demo", "nobody", "/nobody/stor", "AccountDoesNotExist", "demo"},
			{"anonymous", "nobody", "/nobody/public", "AccountDoesNotExist", "anonymous"},
			{"anonymous", "demo", "/demo/stor", "AuthorizationFailed", "anonymous"},
			{"anonymous", "demo", "/demo/public/x", "", "anonymous"},
			{"anonymous", "visitors", "/visitors/stor/open/x", "", "visitors/anonymous"},
			{"anonymous", "visitors", "/visitors/public/x", "", "anonymous"},
			{"demo", "unapproved", "/unapproved/stor", "AccountBlocked", "demo"},
			{"demo", "disabled", "/disabled/public", "AccountBlocked", "demo"},
			{"anonymous", "disabled", "/disabled/public", "AccountBlocked", "anonymous"},
			{"poseidon", "disabled", "/disabled/stor", "", "poseidon"},
			{"poseidon/pat", "disabled", "/disabled/stor", "AccountBlocked", "poseidon/pat"},
			{"demo", "lateop", "/lateop/stor", "", "demo"},
		} {
			c := w.caller(tt.who, tt.path)
			owner, err := w.cache.Owner(c, tt.login, tt.path)
			if codeOf(err) != tt.want || err == nil && owner.Login != tt.login || c.Login() != tt.becomes {
				t.Errorf("%s at %s: %v, %v as %s, want %q as %s", tt.who, tt.path, owner, err, c.Login(), tt.want, tt.becomes)
			}
			if tt.want == "AuthorizationFailed" && !strings.HasSuffix(err.Error(), "anonymous is not allowed to access "+tt.path) {
				t.Errorf("refusal is %v", err)
			}
		}
	})
}

// Whatever changes in the directory holds for the next request.
func TestChangesHoldAtOnce(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		ctx := t.Context()
		repeated := w.signed("demo", "rsa", "GET", "/demo/stor")
		ask := func(r authcache.Request) string {
			synctest.Wait() // the follower has nothing left to do; no time passes
			_, err := w.cache.Authenticate(ctx, r)
			return codeOf(err)
		}
		step := func(name string, err error, want string) {
			t.Helper()
			w.must(err)
			for range 2 {
				if got := ask(repeated); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
		}
		start := time.Now()
		change := func(edit func(*sdc.Account)) error {
			_, err := w.dir.UpdateAccount(ctx, w.ids["demo"], func(a *sdc.Account) error { edit(a); return nil })
			return err
		}
		step("at first", nil, "")
		step("disabled", change(func(a *sdc.Account) { a.Disabled = true }), "AccountBlocked")
		step("enabled", change(func(a *sdc.Account) { a.Disabled = false }), "")
		step("not approved", change(func(a *sdc.Account) { a.ApprovedForProvisioning = false }), "AccountBlocked")
		step("operator", change(func(a *sdc.Account) { a.Groups = []string{"operators"} }), "")
		step("approved", change(func(a *sdc.Account) { a.Groups, a.ApprovedForProvisioning = nil, true }), "")
		step("key removed", w.dir.DeleteKey(ctx, w.ids["demo"], "rsa"), "KeyDoesNotExist")
		_, err := w.dir.AddKey(ctx, w.ids["demo"], "rsa", keys()["rsa"].PublicKey().OpenSSH())
		step("key back", err, "")
		step("renamed", change(func(a *sdc.Account) { a.Login = "demo2" }), "AccountDoesNotExist")
		step("name back", change(func(a *sdc.Account) { a.Login = "demo" }), "")
		if since := time.Since(start); since != 0 {
			t.Errorf("this took %v", since)
		}
		m := w.cache.Metrics()
		if m.Changes < 9 || m.Reloads != 1 || m.Verifications != 1 || m.Remembered == 0 {
			t.Errorf("metrics are %+v", m)
		}
	})
}

// What is remembered of one signature says nothing about another of the same text.
func TestRememberedSignaturesAreNoPass(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		for _, key := range []string{"rsa", "ecdsa", "ed25519"} {
			good := w.signed("demo", key, "GET", "/demo/stor")
			if _, err := w.cache.Authenticate(t.Context(), good); err != nil {
				t.Fatal(err)
			}
			head, sig, _ := strings.Cut(good.Header.Get("Authorization"), `signature="`)
			flipped := []byte(sig)
			flipped[8] ^= 1
			for name, header := range map[string]string{
				"another signature": head + `signature="` + string(flipped),
				"another key":       strings.Replace(good.Header.Get("Authorization"), keyID("demo", key), keyID("demo", map[string]string{"rsa": "ecdsa", "ecdsa": "ed25519", "ed25519": "rsa"}[key]), 1),
				"another hash":      strings.Replace(good.Header.Get("Authorization"), "-sha", "-sha1-sha", 1),
			} {
				bad := with(request("GET", "/demo/stor"), "Authorization", header)
				if _, err := w.cache.Authenticate(t.Context(), bad); codeOf(err) != "InvalidSignature" && codeOf(err) != "InvalidHeader" {
					t.Errorf("%s of %s: %v", name, key, err)
				}
			}
			if _, err := w.cache.Authenticate(t.Context(), good); err != nil {
				t.Errorf("%s, again: %v", key, err)
			}
		}
		if m := w.cache.Metrics(); m.Remembered != 3 {
			t.Errorf("metrics are %+v", m)
		}
	})
}

// A name that moves from one account to another leads to its new holder, in whatever order the changes are seen.
func TestLoginsChangeHands(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		ctx := t.Context()
		rename := func(id, login string) {
			_, err := w.dir.UpdateAccount(ctx, w.ids[id], func(a *sdc.Account) error { a.Login = login; return nil })
			w.must(err)
		}
		rename("demo", "spare")
		rename("other", "demo")
		rename("demo", "other")
		synctest.Wait()
		for login, id := range map[string]string{"demo": "other", "other": "demo"} {
			if a, err := w.cache.AccountByLogin(login); err != nil || a.UUID != w.ids[id] {
				t.Errorf("%s is %v, %v", login, a, err)
			}
			if a, err := w.cache.AccountByUUID(w.ids[id]); err != nil || a.Login != login {
				t.Errorf("%s is %v, %v", id, a, err)
			}
		}
		if a, err := w.cache.AccountByLogin("spare"); err == nil {
			t.Errorf("spare is %v", a)
		}
		w.must(w.dir.DeleteRole(ctx, w.ids["visitors:everybody"]))
		w.must(w.dir.DeleteRole(ctx, w.ids["visitors:asked"]))
		w.must(w.dir.DeleteUser(ctx, w.ids["visitors/anonymous"]))
		for p, err := range w.dir.Policies(ctx, w.ids["visitors"]) {
			w.must(err)
			w.must(w.dir.DeletePolicy(ctx, p.UUID))
		}
		before := w.cache.Metrics()
		w.must(w.dir.DeleteAccount(ctx, w.ids["visitors"]))
		synctest.Wait()
		if after := w.cache.Metrics(); after.Accounts != before.Accounts-1 || after.Keys >= before.Keys {
			t.Errorf("before %+v, after %+v", before, after)
		}
		if _, err := w.cache.AccountByLogin("visitors"); codeOf(err) != "AccountDoesNotExist" {
			t.Errorf("deleted account: %v", err)
		}
	})
}

var _ metastore.Store = (*flaky)(nil)
