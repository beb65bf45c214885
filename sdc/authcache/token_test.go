package authcache_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
)

// Tokens made by Node's crypto and zlib with these keys at the start of 2000, when the bubble's time begins.
var (
	tokenKeys    = authcache.TokenConfig{Salt: "C93A670ACC05C166", Key: "5163205CA0C7F2752FD3A574E30F64DD", IV: "6B11F0F0B786F96812D5A0799D5B217A"}
	tokenAccount = "11111111-1111-4111-8111-111111111111"
	tokenUser    = "22222222-2222-4222-8222-222222222222"
	tokenRole    = "33333333-3333-4333-8333-333333333333"
)

const (
	token2Account = "8rR/8asHlsPGKLSb6IM9yxIBAwHoz1s7nkje8MwKJUyEOwBxoc8m+cLcqZvB6pl7phBBkMBtP6Vm85D+b6LZheuTZuY2ouAUm2K0dbYVUe/VfcbCbFpZECwG3A2miV2WXClXE+0jIV0qqNsKvNmeOVGcNZuFdJnjVFE4WiIUh28="
	token2User    = "rVYpOzudyY0D48R1ONBxudQfSQXk9gzcvGLWi1mtOwa7yikoHcRtjC2K/2tc732/IuobXGSQXSHKfPo94p4b4x+nkhBA+LWERvpdLxNye1/QdDbtPEa6ZAD8HPG9q6sVyhneFrO9UYNc+aw0PnUjeUN92wE1i+fyvMhdAlns5lK1d5HpOJibR0ZmHsAiFuq9CJX1LX5TOnhzZvIW/K1V3oaHkD/9UMa7tTi9g99xCfcjRt6GXhddQ4bhGtxfNDfu"
	token2Bare    = "K1bdWyOzDeqWA0uZ+s+zhwB59wDtqctmSh9Khtz7k6u62KurQCYgb2d3KIkCvGbDKtD7hywyvpMiV42uW/TdedmVqQuAacM0UlkQicnBF8klGEc9ZoscrL06/xXSYAm7jMM7HfhkSCgc3UClr92Pbw=="
	token1        = "vJRF25sawYwah6L+qWZ2UGgZJmEDnXhXu4zo5g/SM6h3sYh45TCnNLmqzF4dbuI7WTXhh4mkBH6whr9aK7N2/+MCpLV6s7wJBYCbRiqo4VAEi3krcuVFaBl0x+3vzcIg"
)

func inTokens(t *testing.T, test func(*world)) {
	in(t, nil, func(c *authcache.Config) { c.Tokens = tokenKeys }, func(w *world) {
		_, err := w.dir.CreateAccount(t.Context(), sdc.Account{UUID: tokenAccount, Login: "tokens", ApprovedForProvisioning: true})
		w.must(err)
		_, err = w.dir.CreateUser(t.Context(), sdc.User{UUID: tokenUser, Account: tokenAccount, Login: "tess"})
		w.must(err)
		_, err = w.dir.CreateRole(t.Context(), sdc.Role{UUID: tokenRole, Account: tokenAccount, Name: "x", Members: []string{tokenUser}})
		w.must(err)
		synctest.Wait()
		test(w)
	})
}

func (w *world) bearer(token string) (*authcache.Caller, error) {
	r := request("GET", "/tokens/stor")
	r.Header.Set("Authorization", "Token "+token)
	return w.cache.Authenticate(w.Context(), r)
}

func TestTokensOfTheOriginal(t *testing.T) {
	inTokens(t, func(w *world) {
		for name, tt := range map[string]struct {
			token, who string
			want       authcache.Token
		}{
			"account":       {token2Account, "tokens", authcache.Token{Version: 2, Account: tokenAccount}},
			"user":          {token2User, "tokens/tess", authcache.Token{Version: 2, Account: tokenAccount, User: tokenUser, Roles: []string{tokenRole, "x"}, FromJob: true}},
			"no conditions": {token2Bare, "tokens/tess", authcache.Token{Version: 2, Account: tokenAccount, User: tokenUser}},
			"version 1":     {token1, "tokens", authcache.Token{Version: 1, Account: tokenAccount}},
		} {
			for range 2 { // read, then remembered
				c, err := w.bearer(tt.token)
				if err != nil || c.Login() != tt.who {
					t.Errorf("%s: %+v, %v, want %s", name, c, err, tt.who)
					continue
				}
				tt.want.Issued = time.Now()
				if diff := cmp.Diff(tt.want, *c.Token, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "hasRoles" }, cmp.Ignore())); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
				if c.Operator { // version 1 names groups; what counts are those of today
					t.Errorf("%s is an operator", name)
				}
			}
		}
		time.Sleep(7 * 24 * time.Hour)
		if _, err := w.bearer(token2Account); err != nil {
			t.Errorf("after seven days: %v", err)
		}
		time.Sleep(time.Second)
		for _, token := range []string{token2Account, token2User, token1} {
			if _, err := w.bearer(token); codeOf(err) != "InvalidAuthenticationToken" {
				t.Errorf("after more than seven days: %v", err)
			}
		}
	})
}

func TestMintToken(t *testing.T) {
	inTokens(t, func(w *world) {
		demo, err := w.cache.AccountByLogin("demo")
		w.must(err)
		for _, tt := range []struct {
			who, roles string
			fromJob    bool
			action     string
			want       string
		}{
			{"demo", "", false, "putobject", ""},
			{"demo/bob", "writer", false, "putobject", ""},
			{"demo/bob", "writer,foreign,shared", true, "putobject", ""},
			{"demo/bob", "", false, "putobject", "AuthorizationFailed"},
			{"poseidon", "", false, "deleteobject", ""},
			{"oncall", "_operator", false, "getobject", "AuthorizationFailed"}, // asked for with each request, not kept
			{"reader", "", false, "getobject", ""},
		} {
			c := w.caller(tt.who, "/demo/stor")
			w.must(w.cache.ActivateRoles(c, demo, tt.roles))
			token, err := w.cache.MintToken(c, demo, tt.fromJob)
			w.must(err)
			got, err := w.bearer(token)
			if err != nil || got.Login() != tt.who || got.Token.FromJob != tt.fromJob {
				t.Errorf("token of %s: %+v, %v", tt.who, got, err)
				continue
			}
			// A Role header adds nothing to what the token says.
			w.must(w.cache.ActivateRoles(got, demo, "administrator"))
			if diff := cmp.Diff(c.ActiveRoles, slices.Sorted(slices.Values(got.ActiveRoles))); diff != "" {
				t.Errorf("token of %s as %s, roles (-want +got):\n%s", tt.who, tt.roles, diff)
			}
			err = w.cache.Authorize(t.Context(), authcache.AuthzRequest{Caller: got, Owner: demo, Action: tt.action, Resource: "/demo/stor/in/x"})
			if codeOf(err) != tt.want {
				t.Errorf("token of %s as %s may %s: %v, want %q", tt.who, tt.roles, tt.action, err, tt.want)
			}
		}
		if _, err := w.cache.MintToken(w.caller("anonymous", "/demo/stor"), demo, false); codeOf(err) != "AuthorizationRequired" {
			t.Errorf("token of nobody: %v", err)
		}
	})
}

// What the token's owner has lost since it was made, the token has lost.
func TestTokensFollowTheDirectory(t *testing.T) {
	inTokens(t, func(w *world) {
		ctx := t.Context()
		ask := func(token string) string {
			synctest.Wait()
			_, err := w.bearer(token)
			return codeOf(err)
		}
		if got := ask(token2User); got != "" {
			t.Fatalf("at first: %s", got)
		}
		_, err := w.dir.UpdateUser(ctx, tokenUser, func(u *sdc.User) error { u.Disabled = true; return nil })
		w.must(err)
		if got := ask(token2User); got != "AccountBlocked" {
			t.Errorf("of a disabled user: %q", got)
		}
		w.must(w.dir.DeleteRole(ctx, tokenRole))
		w.must(w.dir.DeleteUser(ctx, tokenUser))
		if got := ask(token2User); got != "UserDoesNotExist" {
			t.Errorf("of a deleted user: %q", got)
		}
		w.must(w.dir.DeleteAccount(ctx, tokenAccount))
		if got := ask(token2Account); got != "AccountDoesNotExist" {
			t.Errorf("of a deleted account: %q", got)
		}
	})
}

func TestTokensThatAreNone(t *testing.T) {
	inTokens(t, func(w *world) {
		flip := func(i int) string {
			b, err := base64.StdEncoding.DecodeString(token2User)
			w.must(err)
			b[i] ^= 1
			return base64.StdEncoding.EncodeToString(b)
		}
		bad := map[string]string{
			"nothing": "", "noise": "!!!", "not a block": "AAAA", "another key": base64.StdEncoding.EncodeToString(make([]byte, 64)), "half": token2User[:128], "too long": strings.Repeat("A", 16<<10),
		}
		for i := range 144 {
			bad[fmt.Sprintf("bit in byte %d", i)] = flip(i)
		}
		for name, inside := range map[string]any{
			"no version":      map[string]any{"t": time.Now().UnixMilli(), "u": tokenAccount},
			"version 3":       map[string]any{"t": time.Now().UnixMilli(), "u": tokenAccount, "v": 3},
			"nobody":          map[string]any{"t": time.Now().UnixMilli(), "v": 2},
			"nobody at all":   map[string]any{"t": time.Now().UnixMilli(), "v": 1},
			"null account":    map[string]any{"t": time.Now().UnixMilli(), "v": 2, "p": map[string]any{"account": nil, "user": map[string]any{"uuid": tokenUser}}},
			"nameless user":   map[string]any{"t": time.Now().UnixMilli(), "v": 2, "p": map[string]any{"account": map[string]any{"uuid": tokenAccount}, "user": map[string]any{"uuid": ""}}},
			"from the future": map[string]any{"t": time.Now().Add(time.Hour).UnixMilli(), "v": 1, "u": tokenAccount},
			"of ages ago":     map[string]any{"t": 0, "v": 1, "u": tokenAccount},
			"a list":          []int{1},
			"a number":        5,
			"a bomb":          map[string]any{"t": time.Now().UnixMilli(), "v": 1, "u": tokenAccount, "x": strings.Repeat("x", 1<<20)},
		} {
			text, err := json.Marshal(inside)
			w.must(err)
			bad[name] = seal(t, tokenKeys, text)
		}
		for name, token := range bad {
			if c, err := w.bearer(token); codeOf(err) != "InvalidAuthenticationToken" || !strings.HasSuffix(err.Error(), ": the authentication token you provided is malformed") {
				t.Errorf("%s: %v, %v", name, c, err)
			}
		}
		text, err := json.Marshal(map[string]any{"t": time.Now().UnixMilli(), "v": 2, "p": map[string]any{
			"account": map[string]any{"uuid": w.ids["poseidon"]}, "user": map[string]any{"uuid": tokenUser}}})
		w.must(err)
		if c, err := w.bearer(seal(t, tokenKeys, text)); codeOf(err) != "UserDoesNotExist" {
			t.Errorf("a user of another account: %v, %v", c, err)
		}
		if c, err := w.bearer(token2User + " trailing words"); err != nil || c.Login() != "tokens/tess" {
			t.Errorf("with words behind it: %v", err)
		}
		r := request("GET", "/tokens/stor")
		r.Header.Set("Authorization", "token "+token2User)
		if _, err := w.cache.Authenticate(t.Context(), r); err != nil {
			t.Errorf("scheme in lower case: %v", err)
		}
		r.ClearText = true
		if _, err := w.cache.Authenticate(t.Context(), r); codeOf(err) != "SecureTransportRequired" {
			t.Errorf("in clear text: %v", err)
		}
	})
}

func TestTokenConfig(t *testing.T) {
	a, b := authcache.NewTokenConfig(), authcache.NewTokenConfig()
	if a.Key == b.Key || a.IV == b.IV || len(a.Key) != 32 || len(a.IV) != 32 || len(a.Salt) != 16 {
		t.Errorf("NewTokenConfig() = %s", a)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("start", "tokens", a)
	if strings.Contains(log.String(), a.Key) {
		t.Errorf("the log says %s", log.String())
	}
	var read authcache.TokenConfig
	if err := json.Unmarshal([]byte(`{"salt":"C93A670ACC05C166","key":"5163205CA0C7F2752FD3A574E30F64DD","iv":"6B11F0F0B786F96812D5A0799D5B217A","maxAge":604800000}`), &read); err != nil {
		t.Fatal(err)
	}
	want := tokenKeys
	want.MaxAge = 7 * 24 * time.Hour
	written, err := json.Marshal(read)
	var again authcache.TokenConfig
	if err != nil || json.Unmarshal(written, &again) != nil || read != want || again != want {
		t.Errorf("read %+v, written %s, %v", read, written, err)
	}
	for _, bad := range []string{`{"keys":"x"}`, `[]`, `{"maxAge":"7d"}`} {
		if err := json.Unmarshal([]byte(bad), &read); err == nil {
			t.Errorf("%s is read as %v", bad, read)
		}
	}
	// Without keys each cache has its own: a token is good where it was made and nowhere else.
	in(t, nil, nil, func(w *world) {
		demo, err := w.cache.AccountByLogin("demo")
		w.must(err)
		token, err := w.cache.MintToken(w.caller("demo", "/demo"), demo, false)
		w.must(err)
		if _, err := w.bearer(token); err != nil {
			t.Errorf("own token: %v", err)
		}
		if _, err := w.bearer(token2Account); codeOf(err) != "InvalidAuthenticationToken" {
			t.Errorf("another's token: %v", err)
		}
	})
}
