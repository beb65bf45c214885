//go:build linux

package sendstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
)

type attr struct {
	kind int
	data any
}

// stream writes commands as the kernel would.
type stream struct{ bytes.Buffer }

func newStream() *stream {
	s := &stream{}
	s.WriteString(Magic)
	binary.Write(s, binary.LittleEndian, uint32(1))
	return s
}

func (s *stream) cmd(k Kind, attrs ...attr) *stream {
	var body bytes.Buffer
	for _, a := range attrs {
		var d bytes.Buffer
		switch v := a.data.(type) {
		case string:
			d.WriteString(v)
		case int:
			binary.Write(&d, binary.LittleEndian, uint64(v))
		default:
			binary.Write(&d, binary.LittleEndian, v)
		}
		binary.Write(&body, binary.LittleEndian, uint16(a.kind))
		binary.Write(&body, binary.LittleEndian, uint16(d.Len()))
		body.Write(d.Bytes())
	}
	h := make([]byte, 10)
	binary.LittleEndian.PutUint32(h, uint32(body.Len()))
	binary.LittleEndian.PutUint16(h[4:], uint16(k))
	binary.LittleEndian.PutUint32(h[6:], checksum(h, body.Bytes()))
	s.Write(h)
	s.Write(body.Bytes())
	return s
}

var id = [16]byte{1, 2, 3}

func begin() *stream {
	return newStream().cmd(Subvol, attr{attrPath, "x"}, attr{attrUUID, id}, attr{attrCtransid, 7})
}

func named(p string) attr { return attr{attrPath, p} }

func apply(t testing.TB, b []byte) (string, error) {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "in")
	os.Mkdir(dir, 0o755)
	os.WriteFile(filepath.Join(top, "canary"), []byte("alive"), 0o644)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	_, err = Apply(t.Context(), bytes.NewReader(b), root, Options{MaxBytes: 1 << 20, MaxEntries: 100})
	if names, _ := os.ReadDir(top); len(names) != 2 {
		t.Fatalf("something appeared beside the tree: %v", names)
	}
	if got, _ := os.ReadFile(filepath.Join(top, "canary")); string(got) != "alive" {
		t.Fatal("a file beside the tree was changed")
	}
	return dir, err
}

func TestApply(t *testing.T) {
	testenv.NeedRoot(t)
	s := begin().
		cmd(Mkdir, named("o1")).cmd(Rename, named("o1"), attr{attrPathTo, "d"}).
		cmd(Mkfile, named("d/f")).cmd(Write, named("d/f"), attr{attrFileOffset, 3}, attr{attrData, "abc"}).
		cmd(Clone, named("d/f"), attr{attrFileOffset, 6}, attr{attrCloneUUID, id}, attr{attrCloneCtransid, 7},
			attr{attrClonePath, "d/f"}, attr{attrCloneOffset, 3}, attr{attrCloneLen, 3}).
		cmd(Truncate, named("d/f"), attr{attrSize, 8}).
		cmd(Link, named("g"), attr{attrPathLink, "d/f"}).
		cmd(Symlink, named("l"), attr{attrPathLink, "/etc/shadow"}).
		cmd(Chown, named("l"), attr{attrUID, 5}, attr{attrGID, 6}).
		cmd(Chmod, named("d/f"), attr{attrMode, 0o4750}).
		cmd(SetXattr, named("d/f"), attr{attrXattrName, "user.k"}, attr{attrXattrData, "v"}).
		cmd(Utimes, named(""), attr{attrAtime, [12]byte{1}}, attr{attrMtime, [12]byte{2}}, attr{attrCtime, [12]byte{3}}).
		cmd(Mkfile, named("gone")).cmd(Unlink, named("gone")).cmd(Mkdir, named("gone")).cmd(Rmdir, named("gone")).
		cmd(End)
	dir, err := apply(t, append(s.Bytes(), "what follows"...))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "g")); string(got) != "\x00\x00\x00abcab" {
		t.Errorf("content = %q", got)
	}
	fi, _ := os.Stat(filepath.Join(dir, "d/f"))
	if fi.Mode() != 0o750|os.ModeSetuid {
		t.Errorf("mode = %v", fi.Mode())
	}
	if to, _ := os.Readlink(filepath.Join(dir, "l")); to != "/etc/shadow" {
		t.Errorf("link = %q", to)
	}
}

func TestBadStreamsAreRefused(t *testing.T) {
	testenv.NeedRoot(t)
	good := begin().cmd(Mkfile, named("f")).cmd(End).Bytes()
	flipped := bytes.Clone(good)
	flipped[len(flipped)-12] ^= 1
	out := func(k Kind, more ...attr) []byte {
		return begin().cmd(Mkfile, named("f")).cmd(Symlink, named("s"), attr{attrPathLink, "/"}).cmd(k, more...).cmd(End).Bytes()
	}
	tests := map[string][]byte{
		"empty":             nil,
		"not a stream":      []byte("hello, this is not a stream at all"),
		"version 2":         append([]byte(Magic), 2, 0, 0, 0),
		"cut":               good[:len(good)-5],
		"no end":            begin().cmd(Mkfile, named("f")).Bytes(),
		"flipped bit":       flipped,
		"no beginning":      newStream().cmd(Mkfile, named("f")).Bytes(),
		"second beginning":  begin().cmd(Subvol, named("x"), attr{attrUUID, id}).Bytes(),
		"incremental":       newStream().cmd(Snapshot, named("x"), attr{attrUUID, id}, attr{attrCloneUUID, id}).cmd(End).Bytes(),
		"climbing":          out(Mkfile, named("../x")),
		"absolute":          out(Mkfile, named("/tmp/x")),
		"device":            out(Mknod, named("d"), attr{attrMode, 0o60600}, attr{attrRdev, 1}),
		"through a link":    out(Mkfile, named("s/tmp-escape")),
		"write to link":     out(Write, named("s"), attr{attrFileOffset, 0}, attr{attrData, "x"}),
		"rename out":        out(Rename, named("f"), attr{attrPathTo, "../f"}),
		"link from outside": out(Link, named("c"), attr{attrPathLink, "../canary"}),
		"clone elsewhere": out(Clone, named("f"), attr{attrFileOffset, 0}, attr{attrCloneUUID, [16]byte{9}}, attr{attrClonePath, "f"},
			attr{attrCloneOffset, 0}, attr{attrCloneLen, 1}),
		"kernel attribute": out(SetXattr, named("f"), attr{attrXattrName, "trusted.overlay.redirect"}, attr{attrXattrData, "x"}),
		"big owner":        out(Chown, named("f"), attr{attrUID, 1 << 20}, attr{attrGID, 0}),
		"bomb": out(Clone, named("f"), attr{attrFileOffset, 0}, attr{attrCloneUUID, id}, attr{attrClonePath, "f"},
			attr{attrCloneOffset, 0}, attr{attrCloneLen, 1 << 40}),
		"no attribute": out(Chown, named("f")),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := apply(t, b); !errors.Is(err, ErrBad) {
				t.Errorf("Apply = %v, want ErrBad", err)
			}
		})
	}
}

func FuzzApply(f *testing.F) {
	f.Add(begin().cmd(Mkfile, named("f")).cmd(Write, named("f"), attr{attrFileOffset, 0}, attr{attrData, "x"}).cmd(End).Bytes())
	f.Add(begin().cmd(Symlink, named("s"), attr{attrPathLink, ".."}).cmd(Mkfile, named("s/x")).cmd(End).Bytes())
	f.Add(begin().cmd(Mkdir, named("d")).cmd(Rename, named("d"), attr{attrPathTo, "d/d"}).cmd(End).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) { apply(t, fixSums(b)) })
}

// fixSums makes checksums true, so that the fuzzer gets past them.
func fixSums(b []byte) []byte {
	b = bytes.Clone(b)
	for at := len(Magic) + 4; at+10 <= len(b); {
		n := int(binary.LittleEndian.Uint32(b[at:]))
		if n > maxCommand || at+10+n > len(b) {
			break
		}
		clear(b[at+6 : at+10])
		binary.LittleEndian.PutUint32(b[at+6:], checksum(b[at:at+10], b[at+10:at+10+n]))
		at += 10 + n
	}
	return b
}
