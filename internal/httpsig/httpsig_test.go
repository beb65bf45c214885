package httpsig

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func kindOf(err error) (Kind, string) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind, e.Message
	}
	return 0, ""
}

func TestParseKeyID(t *testing.T) {
	for in, want := range map[string]KeyID{
		"/demo/keys/aa:bb":           {Account: "demo", Key: "aa:bb"},
		"/demo/bob/keys/aa:bb":       {Account: "demo", User: "bob", Key: "aa:bb"},
		"/demo/users/bob/keys/aa:bb": {Account: "demo", User: "bob", Key: "aa:bb", CloudAPI: true},
		"/demo/users/keys/k":         {Account: "demo", User: "users", Key: "k"},
		"/d%2Fe/keys/SHA256:a%2Fb":   {Account: "d/e", Key: "SHA256:a/b"},
		"":                           {}, "/": {}, "demo/keys/k": {}, "/demo/key/k": {}, "/demo/keys/": {}, "//keys/k": {}, "/demo//keys/k": {},
		"/demo/bob/eve/keys/k": {}, "/demo/users//keys/k": {}, "/demo/keys/k/x": {}, "/demo/keys/%zz": {}, "/a/b/c/d/e/f/g/h": {}, "x/demo/keys/k": {},
		"/demo/keys/" + strings.Repeat("k", 2000): {},
	} {
		got, err := ParseKeyID(in)
		if got != want || (err == nil) != (want != KeyID{}) {
			t.Errorf("ParseKeyID(%q) = %+v, %v, want %+v", in, got, err, want)
		}
		if kind, _ := kindOf(err); err != nil && kind != BadKeyID {
			t.Errorf("ParseKeyID(%q) is an error of kind %d", in, kind)
		}
		if err == nil {
			if again, err := ParseKeyID(got.String()); err != nil || again != got {
				t.Errorf("ParseKeyID(%q) = %+v, %v, want %+v", got.String(), again, err, got)
			}
		}
	}
}

func TestParseDate(t *testing.T) {
	want := time.Date(2026, 11, 23, 9, 5, 34, 0, time.UTC)
	for _, s := range []string{
		"Mon, 23 Nov 2026 09:05:34 GMT", "Mon, 23 Nov 2026 09:05:34 UTC", "Mon, 23 Nov 2026 09:05:34 +0000", "Mon, 23 Nov 2026 10:05:34 +0100",
		"Monday, 23-Nov-26 09:05:34 GMT", "Mon Nov 23 09:05:34 2026", "2026-11-23T09:05:34Z", "2026-11-23T09:05:34.000Z", " Mon, 23 Nov 2026 09:05:34 GMT ",
		"23 Nov 2026 09:05:34 GMT",
	} {
		if got, ok := ParseDate(s); !ok || !got.Equal(want) {
			t.Errorf("ParseDate(%q) = %v, %v, want %v", s, got, ok, want)
		}
	}
	for _, s := range []string{
		"", "yesterday", "Mon, 32 Nov 2026 09:05:34 GMT", "Mon, 31 Nov 2026 09:05:34 GMT", "Mon, 23 Nov 2026 24:05:34 GMT", "Mon, 23 Xyz 2026 09:05:34 GMT",
		"Mon, 23 Nov 2026 09:05:34 PST", "Mon, 2x Nov 2026 09:05:34 GMT", strings.Repeat("1", 100), "1795424734",
	} {
		if got, ok := ParseDate(s); ok {
			t.Errorf("ParseDate(%q) = %v", s, got)
		}
	}
}

func TestCheckAge(t *testing.T) {
	at := func(d time.Duration) string { return vectorTime.Add(d).Format(http.TimeFormat) }
	for _, tt := range []struct {
		name   string
		header http.Header
		auth   string
		want   string // part of the message
		until  time.Duration
	}{
		{"now", http.Header{"Date": {at(0)}}, ``, "", 300 * time.Second},
		{"old", http.Header{"Date": {at(-300 * time.Second)}}, ``, "", 0},
		{"too old", http.Header{"Date": {at(-301 * time.Second)}}, ``, "clock skew of 301s was greater than 300s", 0},
		{"ahead", http.Header{"Date": {at(300 * time.Second)}}, ``, "", 600 * time.Second},
		{"too far ahead", http.Header{"Date": {at(301 * time.Second)}}, ``, "clock skew of 301s was greater than 300s", 0},
		{"x-date wins", http.Header{"Date": {at(-time.Hour)}, "X-Date": {at(0)}}, ``, "", 300 * time.Second},
		{"x-date must be signed", http.Header{"Date": {at(0)}, "X-Date": {at(0)}}, `headers="date",`, "x-date was not a signed header", 0},
		{"x-date is no date", http.Header{"X-Date": {"now"}}, ``, "x-date is not a date", 0},
		{"empty date", http.Header{"Date": {""}}, ``, "date was not in the request", 0},
		{"no date", http.Header{"Host": {"x"}}, `headers="host",`, "date was not in the request", 0},
		{"expires first", http.Header{"Date": {at(0)}}, `expires=1795424390,`, "", 290 * time.Second},
		{"absurd numbers", http.Header{"Date": {at(0)}}, `created=999999999999999999,`, "Created lies in the future", 0},
		{"milliseconds", http.Header{"X-Date": {"2026-11-23T08:50:00.5Z"}}, ``, "clock skew of 599.5s", 0},
	} {
		s, err := Parse(`Signature keyId="/a/keys/k",algorithm="rsa-sha256",` + tt.auth + `signature="s"`)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		until, err := s.Check(&Request{Method: "GET", Target: "/", Host: "h", Header: tt.header}, vectorTime, DefaultSkew)
		_, message := kindOf(err)
		if !strings.Contains(message, tt.want) || tt.want == "" && (err != nil || !until.Equal(vectorTime.Add(tt.until))) {
			t.Errorf("%s: Check = %v, %v, want %v and %q", tt.name, until, err, tt.until, tt.want)
		}
	}
}

func TestTextIsBounded(t *testing.T) {
	r := vectorRequest()
	r.Header["X-Big"] = []string{strings.Repeat("x", 8<<10)}
	for name, items := range map[string]string{
		"many items": strings.Repeat("date ", 100) + "date", "much text": strings.Repeat("x-big ", 20) + "date",
	} {
		s, err := Parse(`Signature keyId="/a/keys/k",algorithm="rsa-sha256",headers="` + items + `",signature="s"`)
		if err == nil {
			_, err = s.AppendText(nil, r)
		}
		if kind, message := kindOf(err); kind != BadHeader || !strings.Contains(message, "too") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTransferEncodingCanBeSigned(t *testing.T) {
	s, err := Parse(`Signature keyId="/a/keys/k",algorithm="rsa-sha256",headers="date transfer-encoding host",signature="s"`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.AppendText(nil, &Request{Method: "PUT", Host: "h", Header: http.Header{"Date": {"d"}}, TransferEncoding: []string{"chunked"}})
	if want := "date: d\ntransfer-encoding: chunked\nhost: h"; err != nil || string(got) != want {
		t.Errorf("AppendText = %q, %v, want %q", got, err, want)
	}
}

func TestCheckAlgorithm(t *testing.T) {
	for _, name := range []string{"rsa-sha256", "RSA-SHA1", "Ecdsa-Sha384", "ed25519-sha512", "dsa-sha1"} {
		if err := CheckAlgorithm(name); err != nil {
			t.Errorf("CheckAlgorithm(%q): %v", name, err)
		}
	}
	for _, name := range []string{"hmac-sha256", "HMAC-SHA1", "ecdsa-sha1", "ed25519-sha256", "dsa-sha512", "rsa-md5", ""} {
		kind, message := kindOf(CheckAlgorithm(name))
		want := strings.ToUpper(name) + " is not a supported signing algorithm. Supported algorithms are RSA-SHA1, RSA-SHA256, RSA-SHA384, RSA-SHA512, " +
			"DSA-SHA1, DSA-SHA256, ECDSA-SHA256, ECDSA-SHA384, ECDSA-SHA512, ED25519-SHA512"
		if kind != BadAlgorithm || message != want {
			t.Errorf("CheckAlgorithm(%q) = %d %q", name, kind, message)
		}
	}
}

func TestParsePublicKeyRefuses(t *testing.T) {
	v := readVectors(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewPublicKey(&small.PublicKey, ""); err != nil {
		t.Errorf("RSA of 1024 bits: %v", err)
	}
	line := v.Keys[0].OpenSSH
	for name, text := range map[string]string{
		"nothing": "", "noise": "hello", "two lines": line + "\n" + line, "options": `command="x" ` + line, "cut short": line[:100],
		"private key": v.Keys[0].Private, "two blocks": v.Keys[0].PKCS8 + "\n" + v.Keys[1].PKCS8, "empty block": "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
		"too long": line + strings.Repeat(" ", 20<<10) + "x", "certificate": "ssh-rsa-cert-v01@openssh.com AAAA", "hardware": "sk-ssh-ed25519@openssh.com AAAA",
	} {
		if p, err := ParsePublicKey(text); err == nil {
			t.Errorf("ParsePublicKey of %s = %v", name, p.MD5())
		} else if strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("ParsePublicKey of %s tells %v", name, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	v := readVectors(t)
	for _, k := range v.Keys {
		p := v.key(t, k.Name)
		text := []byte("date: " + vectorDate)
		for _, s := range k.Signatures {
			sig, err := base64.StdEncoding.DecodeString(s.Signature)
			if err != nil {
				t.Fatal(err)
			}
			sig[len(sig)/2] ^= 1
			for name, bad := range map[string]string{
				"flipped bit": base64.StdEncoding.EncodeToString(sig), "empty": "", "not base64": "!!!", "short": "AAAA", "long": strings.Repeat("A", 10<<10),
			} {
				if p.Verify(s.Algorithm, text, bad) {
					t.Errorf("%s %s: Verify of a %s signature = true", k.Name, s.Algorithm, name)
				}
			}
		}
		for _, name := range accepted {
			if !strings.HasPrefix(name, k.Type+"-") && p.Verify(name, text, k.Signatures[0].Signature) {
				t.Errorf("%s: Verify(%s) = true", k.Name, name)
			}
		}
	}
}

// Every kind of key signs what it verifies, from a file and from an agent.
func TestSignRequest(t *testing.T) {
	v := readVectors(t)
	ring := agent.NewKeyring()
	dial := func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			_ = agent.ServeAgent(ring, server)
		}()
		return client, nil
	}
	for _, k := range v.Keys {
		signers := map[string]Signer{}
		file, err := ParsePrivateKey([]byte(k.Private), nil)
		if err != nil {
			t.Errorf("%s: %v", k.Name, err)
			continue
		}
		signers["file"] = file
		if raw, err := ssh.ParseRawPrivateKey([]byte(k.Private)); err == nil && ring.Add(agent.AddedKey{PrivateKey: raw}) == nil && k.Type != "dsa" {
			for _, fingerprint := range []string{k.MD5, k.SHA256} {
				if signers["agent, "+fingerprint[:6]], err = NewAgentSigner(t.Context(), dial, fingerprint); err != nil {
					t.Fatal(err)
				}
			}
		}
		for name, signer := range signers {
			r, err := http.NewRequest("PUT", "http://"+vectorHost+vectorTarget, nil)
			if err != nil {
				t.Fatal(err)
			}
			keyID := KeyID{Account: "demo", Key: k.MD5}
			for _, items := range [][]string{nil, {"date", "host", "(request-target)", "(algorithm)", "(keyid)"}} {
				if err := SignRequest(t.Context(), signer, keyID.String(), r, vectorTime, items...); err != nil {
					t.Errorf("%s by %s: %v", k.Name, name, err)
					continue
				}
				view := &Request{Method: r.Method, Target: vectorTarget, Host: vectorHost, Header: r.Header}
				s, err := Parse(r.Header.Get("Authorization"))
				if err != nil {
					t.Errorf("%s by %s: %v", k.Name, name, err)
					continue
				}
				text, err := s.AppendText(nil, view)
				if err != nil || !v.key(t, k.Name).Verify(s.Algorithm, text, s.Signature) {
					t.Errorf("%s by %s: %s does not verify: %v", k.Name, name, r.Header.Get("Authorization"), err)
				}
				if _, err := s.Check(view, vectorTime, DefaultSkew); err != nil {
					t.Errorf("%s by %s: %v", k.Name, name, err)
				}
			}
		}
	}
	if _, err := NewAgentSigner(t.Context(), dial, "aa:bb"); !errors.Is(err, ErrKeyNotFound) {
		t.Errorf("NewAgentSigner of an unknown key: %v", err)
	}
}

// An old agent knows nothing of SHA-2. Its signatures say so, and the text names the algorithm that was really used.
func TestAgentWithoutFlags(t *testing.T) {
	v := readVectors(t)
	raw, err := ssh.ParseRawPrivateKey([]byte(v.Keys[0].Private))
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: raw}); err != nil {
		t.Fatal(err)
	}
	signer, err := NewAgentSigner(t.Context(), func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			_ = agent.ServeAgent(struct{ agent.Agent }{ring}, server)
		}()
		return client, nil
	}, v.Keys[0].MD5)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequest("GET", "http://h/", nil)
	err = SignRequest(t.Context(), signer, "/demo/keys/k", r, vectorTime, "date", "(algorithm)")
	s, _ := Parse(r.Header.Get("Authorization"))
	if err != nil || s.Algorithm != "rsa-sha1" {
		t.Fatalf("SignRequest = %v, %+v", err, s)
	}
	if !v.key(t, "rsa2048").Verify("rsa-sha1", []byte("date: "+vectorDate+"\n(algorithm): rsa-sha1"), s.Signature) {
		t.Error("signature does not verify")
	}
}

func TestAgentThatHangs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := NewAgentSigner(ctx, func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		t.Cleanup(func() { server.Close() })
		return client, nil
	}, "aa")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("NewAgentSigner = %v, want deadline exceeded", err)
	}
}

func TestSignURL(t *testing.T) {
	v := readVectors(t)
	signer, err := ParsePrivateKey([]byte(v.Keys[0].Private), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []URL{
		{}, {Methods: []string{"PUT"}}, {Methods: []string{"PUT", "DELETE"}, Query: url.Values{"Zed": {"1"}, "a!": {"x y", "z"}}}, {Role: []string{"r1", "r2"}, RoleTag: []string{"t"}},
	} {
		u.Host, u.Path, u.Expires = vectorHost, "/demo/stor/a%20b", vectorTime.Add(time.Minute)
		target, err := SignURL(t.Context(), signer, "/demo/keys/k", u)
		if err != nil {
			t.Fatal(err)
		}
		method := "GET"
		if u.Methods != nil {
			method = u.Methods[0]
		}
		p, err := ParsePresigned(&Request{Method: method, Target: target, Host: vectorHost}, vectorTime)
		if err != nil || !v.key(t, "rsa2048").Verify(p.Algorithm, []byte(p.Texts[0]), p.Signature) {
			t.Errorf("%s does not verify: %v", target, err)
			continue
		}
		if p.Role != strings.Join(u.Role, ",") || p.RoleTag != strings.Join(u.RoleTag, ",") || !p.Expires.Equal(u.Expires) {
			t.Errorf("%s has %+v", target, p)
		}
	}
	for _, u := range []URL{{}, {Host: "h", Path: "x", Expires: vectorTime}, {Host: "h", Path: "/x"}, {Host: "h", Path: "/x", Expires: vectorTime, Query: url.Values{"role": {"r"}}}} {
		if s, err := SignURL(t.Context(), signer, "/demo/keys/k", u); err == nil {
			t.Errorf("SignURL(%+v) = %s", u, s)
		}
	}
}

func TestParsePresignedRefuses(t *testing.T) {
	const ok = "algorithm=RSA-SHA256&expires=1795424460&keyId=k&signature=s"
	for query, want := range map[string]string{
		ok: "", ok + "&method=GET,HEAD": "", ok + "&method=HEAD%20,%20GET": "", "algorithm=rsa-sha256&expires=1795424400&keyId=k&signature=s": "",
		"expires=1":            `parameters "algorithm, keyId, signature" are required`,
		"expires=1&method=PUT": "GET was not a signed method",
		ok + "&method=HEAD":    "GET was not a signed method",
		ok + "&method=GETX":    "GET was not a signed method",
		"algorithm=RSA-SHA256&expires=1795424399&keyId=k&signature=s":    "request expired",
		"algorithm=RSA-SHA256&expires=soon&keyId=k&signature=s":          "expires is invalid",
		"algorithm=RSA-SHA256&expires=-1&keyId=k&signature=s":            "expires is invalid",
		"algorithm=RSA-SHA256&expires=9999999999999&keyId=k&signature=s": "expires is invalid",
		"algorithm=hmac-sha256&expires=1795424460&keyId=k&signature=s":   "HMAC-SHA256 is not a supported signing algorithm",
		"algorithm=x&expires=1&keyId=k&signature=s":                      "request expired",
		ok + "&" + strings.Repeat("a=1&b=2&", 10):                        "",
		ok + func() (s string) {
			for i := range 300 {
				s += "&p" + string(rune('a'+i%26)) + strings.Repeat("x", i)
			}
			return
		}(): "too many parameters",
	} {
		_, err := ParsePresigned(&Request{Method: "GET", Target: "/demo/stor/x?" + query, Host: "h"}, vectorTime)
		kind, message := kindOf(err)
		if message != want || err != nil && kind != BadPresigned {
			t.Errorf("ParsePresigned(%.80s) = %v, want %q", query, err, want)
		}
	}
}

func TestIsPresigned(t *testing.T) {
	for target, want := range map[string]bool{
		"/x": false, "/x?": false, "/x?limit=1": false, "/x?expires": false, "/x?expires=": false, "/x?expires=1": true, "/x?a=1&keyId=k": true, "/x?%65xpires=1": true,
		"/x?signature=s": true, "/x?algorithm=a": true, "/x?Algorithm=a": false,
	} {
		if got := IsPresigned(&Request{Target: target}); got != want {
			t.Errorf("IsPresigned(%s) = %v", target, got)
		}
	}
	if IsPresigned(&Request{Target: "/x?expires=1", Header: http.Header{"Authorization": {"Signature x"}}}) {
		t.Error("a request with an Authorization header is pre-signed")
	}
}

// The texts of a URL are what the original signs, whatever order and form the parameters came in.
func TestPresignedText(t *testing.T) {
	const rest = "algorithm=RSA-SHA256&expires=1795424460&keyId=k&signature=s"
	for target, want := range map[string][]string{
		"/demo/stor/a%20b/?" + rest:                 {"GET\nh\n/demo/stor/a%20b/\nalgorithm=RSA-SHA256&expires=1795424460&keyId=k"},
		"http://other/demo//x?" + rest:              {"GET\nh\n/demo//x\nalgorithm=RSA-SHA256&expires=1795424460&keyId=k"},
		"/x?b=1+2&" + rest + "&a=%zz&b=3&SIGNATURE": {"GET\nh\n/x\na=%25zz&algorithm=RSA-SHA256&b=1%202%2C3&expires=1795424460&keyId=k"},
		"/x?" + rest + "&Z=1": {
			"GET\nh\n/x\nalgorithm=RSA-SHA256&expires=1795424460&keyId=k&Z=1", "GET\nh\n/x\nZ=1&algorithm=RSA-SHA256&expires=1795424460&keyId=k"},
		"/x?" + rest + "&method=PUT,GET": {"GET,PUT\nh\n/x\nalgorithm=RSA-SHA256&expires=1795424460&keyId=k&method=PUT%2CGET"},
	} {
		p, err := ParsePresigned(&Request{Method: "GET", Target: target, Host: "h"}, vectorTime)
		if err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		if diff := cmp.Diff(want, p.Texts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", target, diff)
		}
	}
}

func TestLocaleCompare(t *testing.T) {
	// The order that Node 20 gives these.
	want := []string{"", "_", "-", "1", "11", "a", "A", "a-b", "ab", "aB", "Ab", "AB", "abc", "B", "key-id", "keyId", "KeyID", "role", "role-tag", "z", "\u00e9"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, localeCompare)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestPrivateKeyStaysOutOfLogs(t *testing.T) {
	v := readVectors(t)
	signer, err := ParsePrivateKey([]byte(v.Keys[0].Private), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := signer.(*fileSigner).LogValue().String(); got != v.Keys[0].MD5 {
		t.Errorf("a signer is logged as %q", got)
	}
	if _, err := ParsePrivateKey([]byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"), nil); err == nil || strings.Contains(err.Error(), "c2Vj") {
		t.Errorf("ParsePrivateKey = %v", err)
	}
}
