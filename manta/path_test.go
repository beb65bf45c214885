package manta

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParsePath(t *testing.T) {
	for raw, want := range map[string]string{
		"/":                         "/",
		"/alice":                    "/alice",
		"/alice/":                   "/alice",
		"//alice//stor///a//":       "/alice/stor/a",
		"/alice/stor/a%20b%c3%bc":   "/alice/stor/a bü",
		"/alice/stor/a%2Fb":         "/alice/stor/a/b",
		"/alice/stor/a+b":           "/alice/stor/a+b",
		"/alice/stor/...":           "/alice/stor/...",
		"/a%40b.c/stor":             "/a@b.c/stor",
		"/alice/stor/%25zz":         "/alice/stor/%zz",
		"":                          "",
		"alice":                     "",
		"/alice/stor/%":             "",
		"/alice/stor/%2":            "",
		"/alice/stor/%zz":           "",
		"/alice/stor/%ff":           "",
		"/alice/stor/a%00":          "",
		"/alice/stor/.":             "",
		"/alice/stor/../x":          "",
		"/alice/stor/%2e%2E/x":      "",
		"/alice/public%2f..%2fstor": "",
		"/..":                       "",
	} {
		p, err := ParsePath(raw)
		if want == "" {
			if !errors.Is(err, ErrPath) {
				t.Errorf("ParsePath(%q) = %q, %v, want an error", raw, p, err)
			}
		} else if err != nil || p.String() != want {
			t.Errorf("ParsePath(%q) = %q, %v, want %q", raw, p, err, want)
		}
	}
	if _, err := ParsePath("/alice/" + strings.Repeat("x", MaxPath-1)); err != nil {
		t.Errorf("a path of the greatest length: %v", err)
	}
	if _, err := ParsePath("/alice/" + strings.Repeat("x", MaxPath)); !errors.Is(err, ErrPath) {
		t.Errorf("a path that is too long: %v", err)
	}
}

func TestKey(t *testing.T) {
	for _, test := range []struct {
		key                   Key
		owner, dir, name, top string
		root                  bool
	}{
		{"/u", "u", "/u", "u", "", true},
		{"/u/stor", "u", "/u/stor", "stor", "stor", true},
		{"/u/other", "u", "/u/other", "other", "other", false},
		{"/u/stor/a", "u", "/u/stor", "a", "stor", false},
		{"/u/stor/a/b c", "u", "/u/stor/a", "b c", "stor", false},
		{"/u/jobs/j/stor", "u", "/u/jobs/j", "stor", "jobs", true},
		{"/u/jobs/j/live", "u", "/u/jobs/j", "live", "jobs", false},
	} {
		k := test.key
		if k.Dir() != Key(test.dir) && test.dir != "/u" || k.Owner() != test.owner || k.Name() != test.name || k.Top() != test.top || k.IsRoot() != test.root {
			t.Errorf("%s: owner %s, dir %s, name %s, top %s, root %v", k, k.Owner(), k.Dir(), k.Name(), k.Top(), k.IsRoot())
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/", "/alice/stor/a%20b", "//a//b/", "/a/%2e%2e/b", "/a/%00", "/%", "/a/b%2F%2F..", "/é/%C3%A9", "/a/./b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := ParsePath(raw)
		if err != nil {
			if !errors.Is(err, ErrPath) {
				t.Errorf("ParsePath(%q): %v", raw, err)
			}
			return
		}
		s := p.String()
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) || s[0] != '/' || len(p.Rest()) > MaxPath || s != "/" && (strings.Contains(s, "//") || strings.HasSuffix(s, "/")) {
			t.Errorf("ParsePath(%q) = %q", raw, s)
		}
		for part := range strings.SplitSeq(s, "/") {
			if part == "." || part == ".." {
				t.Errorf("ParsePath(%q) = %q", raw, s)
			}
		}
		// What it means can be written down and read again.
		again, err := ParsePath((&url.URL{Path: s}).EscapedPath())
		if err != nil || again != p {
			t.Errorf("ParsePath(%q) = %q, and again %q, %v", raw, s, again, err)
		}
	})
}
