//go:build linux

package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
)

type entry struct {
	h    tar.Header
	body string
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.h.Size = int64(len(e.body))
		if e.h.Mode == 0 {
			e.h.Mode = 0o644
		}
		if err := w.WriteHeader(&e.h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, e.body)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t testing.TB) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, dir
}

func file(name, body string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg}, body}
}
func link(name, to string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}, ""}
}
func hard(name, to string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}, ""}
}
func dir(name string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}

func TestHostileArchivesAreRefused(t *testing.T) {
	testenv.NeedRoot(t)
	outside := filepath.Join(t.TempDir(), "secret")
	os.WriteFile(outside, []byte("host"), 0o644)
	dev := func(k byte) entry { return entry{tar.Header{Name: "dev/sda", Typeflag: k, Devmajor: 8}, ""} }
	xattr := func(k string) entry {
		e := file("x", "")
		e.h.PAXRecords = map[string]string{xattrPrefix + k: "y"}
		return e
	}
	owner := file("x", "")
	owner.h.Uid = 70000
	tests := map[string][]entry{
		"absolute name":          {file("/etc/passwd", "x")},
		"climbing name":          {file("a/../../etc/passwd", "x")},
		"relative link out":      {link("a", "../../../etc")},
		"deep relative link out": {dir("d"), link("d/a", "../../etc")},
		"hard link out":          {hard("a", "../secret")},
		"absolute hard link":     {hard("a", outside)},
		"hard link to directory": {dir("d"), hard("a", "d")},
		"hard link to nothing":   {hard("a", "b")},
		"character device":       {dev(tar.TypeChar)},
		"block device":           {dev(tar.TypeBlock)},
		"kernel attribute":       {xattr("trusted.overlay.redirect")},
		"user overlay attribute": {xattr("user.overlay.opaque")},
		"owner out of range":     {owner},
		"too many bytes":         {file("a", strings.Repeat("x", 2000))},
		"too many entries":       {file("1", ""), file("2", ""), file("3", ""), file("4", ""), file("5", ""), file("6", "")},
		"link loop":              {link("a", "b"), link("b", "a"), file("a/x", "")},
		"top is a file":          {file(".", "")},
		"file in the way":        {file("a", ""), file("a/b", "")},
		"deep":                   {file(strings.Repeat("a/", 600)+"b", "")},
	}
	for name, entries := range tests {
		t.Run(name, func(t *testing.T) {
			root, _ := open(t)
			_, err := Extract(t.Context(), bytes.NewReader(pack(t, entries...)), root, Policy{MaxBytes: 1000, MaxEntries: 5})
			if !errors.Is(err, ErrRefused) {
				t.Errorf("Extract = %v, want ErrRefused", err)
			}
			if b, _ := os.ReadFile(outside); string(b) != "host" {
				t.Fatalf("a file outside now holds %q", b)
			}
		})
	}
}

// A link that points out of the tree as the host sees it is an ordinary absolute link inside a machine. What is written
// through it lands inside.
func TestAbsoluteLinksCountFromTheTop(t *testing.T) {
	testenv.NeedRoot(t)
	outside := t.TempDir()
	root, in := open(t)
	b := pack(t, link("var", outside), file("var/x", "hello"), dir("run"), link("r", "/run"), file("r/y", "z"))
	if _, err := Extract(t.Context(), bytes.NewReader(b), root, Policy{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "x")); err == nil {
		t.Error("the archive wrote outside its tree")
	}
	for name, want := range map[string]string{outside + "/x": "hello", "run/y": "z"} {
		if got, err := os.ReadFile(filepath.Join(in, name)); string(got) != want {
			t.Errorf("%s = %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestWhiteouts(t *testing.T) {
	testenv.NeedRoot(t)
	root, in := open(t)
	for _, layer := range [][]byte{
		pack(t, dir("a"), file("a/1", "1"), file("a/2", "2"), dir("b"), file("b/1", "1"), dir("b/c"), file("b/c/1", "x"), file("f", "f")),
		pack(t, file("a/.wh.1", ""), file("b/2", "2"), dir("b/c"), file("b/c/2", "y"), file("b/.wh..wh..opq", ""), dir("f"), file("f/g", "g")),
	} {
		if _, err := Extract(t.Context(), bytes.NewReader(layer), root, Policy{Whiteouts: true}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	filepath.WalkDir(in, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(in, p)
			got = append(got, rel)
		}
		return err
	})
	if want := "a/2 b/2 b/c/2 f/g"; strings.Join(got, " ") != want {
		t.Errorf("tree = %q, want %q", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	testenv.NeedRoot(t)
	root, in := open(t)
	suid := entry{tar.Header{Name: "./bin/su", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 3, Gid: 4, Format: tar.FormatPAX,
		PAXRecords: map[string]string{xattrPrefix + "user.k": "v\x00w"}}, "body"}
	src := pack(t, entry{tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, ""}, dir("./bin/"), suid, hard("./bin/su2", "./bin/su"),
		link("./l", "/bin/su"), entry{tar.Header{Name: "./p", Typeflag: tar.TypeFifo, Mode: 0o600}, ""}, file("./zero", strings.Repeat("\x00", 1<<20)))
	if _, err := Extract(t.Context(), bytes.NewReader(src), root, Policy{}); err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	if err := Write(t.Context(), &first, root); err != nil {
		t.Fatal(err)
	}
	again, _ := open(t)
	if _, err := Extract(t.Context(), bytes.NewReader(first.Bytes()), again, Policy{}); err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), &second, again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(maskTimes(t, first.Bytes()), maskTimes(t, second.Bytes())) {
		t.Error("packing, unpacking and packing again does not give the same archive")
	}
	fi, err := os.Stat(filepath.Join(in, "bin/su"))
	if err != nil || fi.Mode()&os.ModeSetuid == 0 {
		t.Errorf("set-uid lost: %v, %v", fi.Mode(), err)
	}
}

// maskTimes keeps what must be equal: a fifo's time is that of its making.
func maskTimes(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return out.Bytes()
		}
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(h.Name + h.Linkname + h.PAXRecords[xattrPrefix+"user.k"] + string(h.Typeflag) + "\n")
		out.WriteByte(byte(h.Mode >> 3))
		io.Copy(&out, r)
	}
}

func TestCancelled(t *testing.T) {
	root, _ := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Extract(ctx, bytes.NewReader(pack(t, file("a", "b"))), root, Policy{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Extract = %v, want context.Canceled", err)
	}
}

func FuzzExtract(f *testing.F) {
	f.Add(pack(f, dir("a"), file("a/b", "c"), link("l", "a"), hard("h", "a/b")))
	f.Add(pack(f, link("a", "/"), file("a/x", "y")))
	f.Add(pack(f, file("a/.wh..wh..opq", ""), file(".wh.b", "")))
	f.Add(pack(f, file("../x", "y")))
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		canary := filepath.Join(top, "canary")
		in := filepath.Join(top, "in")
		os.Mkdir(in, 0o755)
		os.WriteFile(canary, []byte("alive"), 0o644)
		root, err := os.OpenRoot(in)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		Extract(t.Context(), bytes.NewReader(b), root, Policy{MaxBytes: 1 << 20, MaxEntries: 100, Whiteouts: true})
		if names, _ := os.ReadDir(top); len(names) != 2 {
			t.Fatalf("something appeared beside the tree: %v", names)
		}
		if got, _ := os.ReadFile(canary); string(got) != "alive" {
			t.Fatal("a file beside the tree was changed")
		}
	})
}
