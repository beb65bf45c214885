package httpsig

import (
	"net/http"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, p := range readVectors(f).Parses {
		f.Add(p.Authorization)
	}
	r := vectorRequest()
	f.Fuzz(func(t *testing.T, authorization string) {
		s, err := Parse(authorization)
		if err != nil {
			if kind, message := kindOf(err); kind != BadHeader || message == "" {
				t.Fatalf("Parse = %v", err)
			}
			return
		}
		text, err := s.AppendText(nil, r)
		if err == nil && len(text) > maxText {
			t.Fatalf("text of %d bytes", len(text))
		}
		_, _ = s.Check(r, vectorTime, DefaultSkew)
		if s.Signature == "" || s.KeyID == "" || s.Algorithm == "" {
			t.Fatalf("Parse = %+v", s)
		}
		// What was read can be written and read again.
		if again, err := Parse(s.String()); err != nil || again.String() != s.String() {
			t.Fatalf("Parse(%q) = %+v, %v", s.String(), again, err)
		}
	})
}

func FuzzParsePresigned(f *testing.F) {
	for _, u := range readVectors(f).URLs {
		f.Add(u.URL)
	}
	f.Add("/x?expires=1795424460&algorithm=rsa-sha1&keyId=%2&signature=+&b[c]=d&b[c]=e&=&&")
	f.Fuzz(func(t *testing.T, target string) {
		r := &Request{Method: "GET", Target: target, Host: "h", Header: http.Header{}}
		p, err := ParsePresigned(r, vectorTime)
		if err != nil {
			if kind, _ := kindOf(err); kind != BadPresigned {
				t.Fatalf("ParsePresigned = %v", err)
			}
			return
		}
		if !IsPresigned(r) || len(p.Texts) == 0 || len(p.Texts) > 2 || p.Expires.Before(vectorTime) {
			t.Fatalf("ParsePresigned = %+v", p)
		}
		for _, text := range p.Texts {
			if !strings.Contains(text, "\nh\n") {
				t.Fatalf("text is %q", text)
			}
		}
	})
}

func FuzzParseKeyID(f *testing.F) {
	for _, s := range []string{"/demo/keys/aa:bb", "/demo/bob/keys/k", "/demo/users/bob/keys/k", "/%41/keys/%zz", "/a/b/c/d/e/f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseKeyID(s)
		if err != nil {
			return
		}
		if again, err := ParseKeyID(id.String()); err != nil || again != id {
			t.Fatalf("ParseKeyID(%q) = %+v, but %q gives %+v, %v", s, id, id.String(), again, err)
		}
	})
}

func FuzzParseDate(f *testing.F) {
	for _, s := range []string{vectorDate, "Mon, 23 Nov 2026 00:05:34 UTC", "2026-11-23T09:05:34.5Z", "Mon Nov 23 09:05:34 2026", "Mon, 23 Nov 2026 09:05:34 -0700"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, ok := ParseDate(s); ok {
			again, ok := ParseDate(d.Format(http.TimeFormat))
			if d.Year() >= 0 && d.Year() <= 9999 && (!ok || again.Unix() != d.Unix()) {
				t.Fatalf("ParseDate(%q) = %v, read again %v", s, d, again)
			}
		}
	})
}

func FuzzParsePublicKey(f *testing.F) {
	for _, k := range readVectors(f).Keys {
		f.Add(k.OpenSSH)
		f.Add(k.PKCS8)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePublicKey(text)
		if err != nil {
			return
		}
		if again, err := ParsePublicKey(p.OpenSSH()); err != nil || again.MD5() != p.MD5() {
			t.Fatalf("ParsePublicKey(%q) = %v", p.OpenSSH(), err)
		}
		p.Verify(p.Family()+"-sha256", []byte("x"), "AAAA")
	})
}
