package manta

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxPath is the greatest length of a decoded path, in bytes, without the login.
const MaxPath = 4096

// Tops are the directories that every account has. They exist without having been made and cannot be removed.
var Tops = []string{"jobs", "public", "reports", "stor", "uploads"}

// ErrPath says that a path cannot name anything: a bad escape, a NUL, bytes that are not UTF-8, an empty or dot
// component, or more than [MaxPath] bytes.
var ErrPath = errors.New("manta: invalid path")

// A Path is a place in the tree as callers write it, /LOGIN/stor/a/b, decoded. The zero value is "/".
type Path struct {
	full string // "" or "/LOGIN/stor/a/b"
	cut  int    // length of "/LOGIN"
}

// ParsePath reads the path part of a URL as it was sent. Runs of slashes count as one and a slash at the end as
// none; each component is percent-decoded, and an encoded slash then separates components like any other.
//
// The original stores "." and ".." as plain names. Here they are refused, because clients and proxies resolve them
// before or after signing, so that two parties would mean different objects by one path.
func ParsePath(raw string) (Path, error) {
	decoded := raw
	if strings.IndexByte(raw, '%') >= 0 {
		var err error
		if decoded, err = unescape(raw); err != nil {
			return Path{}, err
		}
	}
	if decoded == "" || decoded[0] != '/' || !utf8.ValidString(decoded) || strings.IndexByte(decoded, 0) >= 0 {
		return Path{}, fmt.Errorf("%w: %.100q", ErrPath, raw)
	}
	if strings.Contains(decoded, "//") || decoded[len(decoded)-1] == '/' {
		decoded = collapse(decoded)
	}
	if decoded == "" {
		return Path{}, nil
	}
	for part := range strings.SplitSeq(decoded[1:], "/") {
		if part == "." || part == ".." {
			return Path{}, fmt.Errorf("%w: %.100q", ErrPath, raw)
		}
	}
	p := Path{full: decoded, cut: len(decoded)}
	if i := strings.IndexByte(decoded[1:], '/'); i >= 0 {
		p.cut = 1 + i
	}
	if len(p.full)-p.cut > MaxPath || p.cut > MaxPath {
		return Path{}, fmt.Errorf("%w: longer than %d bytes", ErrPath, MaxPath)
	}
	return p, nil
}

// collapse joins runs of slashes and drops those at the end.
func collapse(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for part := range strings.SplitSeq(s, "/") {
		if part != "" {
			b.WriteByte('/')
			b.WriteString(part)
		}
	}
	return b.String()
}

// unescape is net/url's PathUnescape with this package's error.
func unescape(s string) (string, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+2 >= len(s) || hexval(s[i+1]) < 0 || hexval(s[i+2]) < 0 {
			return "", fmt.Errorf("%w: bad escape in %.100q", ErrPath, s)
		}
		out = append(out, byte(hexval(s[i+1])<<4|hexval(s[i+2])))
		i += 2
	}
	return string(out), nil
}

func hexval(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// Login returns the first component: the account that owns the tree.
func (p Path) Login() string {
	if p.full == "" {
		return ""
	}
	return p.full[1:p.cut]
}

// Rest returns what follows the login: "" or "/stor/a/b".
func (p Path) Rest() string { return p.full[p.cut:] }

// String returns the decoded path.
func (p Path) String() string {
	if p.full == "" {
		return "/"
	}
	return p.full
}

// Dir returns the path without its last component.
func (p Path) Dir() Path {
	i := strings.LastIndexByte(p.full, '/')
	if i < p.cut || i <= 0 {
		return Path{}
	}
	return Path{p.full[:i], p.cut}
}

// Join returns the path with a component added. The name must be one that [ParsePath] accepts.
func (p Path) Join(name string) Path { return Path{p.full + "/" + name, p.cut} }

// Top returns the component after the login, such as "stor".
func (p Path) Top() string { return topOf(p.Rest()) }

// Key returns the path as records know it: with the uuid of the owner's account in place of the login, so that a login
// may change.
func (p Path) Key(owner string) Key { return Key("/" + owner + p.Rest()) }

// A Key is the place of an entry in records: /OWNER-UUID/stor/a/b, decoded, without empty or dot components.
type Key string

// Owner returns the uuid of the account whose tree the key is in.
func (k Key) Owner() string {
	owner, _, _ := strings.Cut(string(k[1:]), "/")
	return owner
}

// Rest returns what follows the owner: "" or "/stor/a/b".
func (k Key) Rest() string {
	if i := strings.IndexByte(string(k[1:]), '/'); i >= 0 {
		return string(k[1+i:])
	}
	return ""
}

// Dir returns the key of the directory that holds the entry. A top directory is its own, as in the original, so
// that it stays on the shard of its entries.
func (k Key) Dir() Key {
	i := strings.LastIndexByte(string(k), '/')
	if strings.IndexByte(string(k[1:]), '/') == i-1 {
		return k
	}
	return k[:i]
}

// Name returns the last component.
func (k Key) Name() string { return string(k[strings.LastIndexByte(string(k), '/')+1:]) }

// Join returns the key of an entry in the directory.
func (k Key) Join(name string) Key { return k + "/" + Key(name) }

// Top returns the component after the owner, such as "stor".
func (k Key) Top() string { return topOf(k.Rest()) }

// IsRoot reports whether the key names a directory that exists by itself: an account, one of its [Tops], or the
// stor directory of a job.
func (k Key) IsRoot() bool { return isRoot(k.Rest()) }

// IsRoot reports what [Key.IsRoot] does.
func (p Path) IsRoot() bool { return isRoot(p.Rest()) }

func isRoot(rest string) bool {
	if rest == "" {
		return true
	}
	switch top, rest, below := strings.Cut(rest[1:], "/"); {
	case !below:
		return IsTop(top)
	case top == "jobs":
		_, rest, _ := strings.Cut(rest, "/")
		return rest == "stor"
	}
	return false
}

// IsTop reports whether name is one of the [Tops].
func IsTop(name string) bool {
	switch name {
	case "jobs", "public", "reports", "stor", "uploads":
		return true
	}
	return false
}

func topOf(rest string) string {
	if rest == "" {
		return ""
	}
	top, _, _ := strings.Cut(rest[1:], "/")
	return top
}
