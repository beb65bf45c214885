//go:build linux

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/overlay"
)

func newStore(t testing.TB, sources ...Source) (*Store, dataset.Pool) {
	t.Helper()
	testenv.NeedRoot(t)
	p, err := overlay.Open(t.Context(), overlay.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	s, err := Open(t.Context(), Config{Dir: t.TempDir(), Pool: p, Sources: sources})
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

func tarOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for n, body := range files {
		h := &tar.Header{Name: n, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}
		if body == "DEVICE" {
			h.Typeflag, h.Size, body = tar.TypeChar, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, body)
	}
	w.Close()
	return b.Bytes()
}

func compress(t testing.TB, how string, b []byte) []byte {
	t.Helper()
	if how == "bzip2" {
		testenv.NeedTool(t, "bzip2", "bzip2")
		c := exec.Command("bzip2", "-c")
		c.Stdin = bytes.NewReader(b)
		out, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var out bytes.Buffer
	w, err := compressor(&out, how)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func manifestOf(file []byte, how string) Manifest {
	sum := sha1.Sum(file)
	return Manifest{
		V: 2, UUID: NewUUID(), Owner: zones.NilUUID, Name: "test", Version: "1.0", Type: "zone-dataset", OS: "linux", State: "active",
		Files: []File{{SHA1: hex.EncodeToString(sum[:]), Size: int64(len(file)), Compression: how}},
	}
}

func readIn(t testing.TB, s *Store, img Image, file string) string {
	t.Helper()
	var out string
	err := s.tree(t.Context(), img.Ref(), func(r *os.Root) error {
		b, err := r.ReadFile(file)
		out = string(b)
		return err
	})
	if err != nil {
		return err.Error()
	}
	return out
}

func noRemains(t testing.TB, p dataset.Pool) {
	t.Helper()
	l, err := p.List(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range l {
		if strings.HasPrefix(d.Name, importPrefix) {
			t.Errorf("dataset %s is left", d.Name)
		}
	}
}

func TestInstallEveryCompression(t *testing.T) {
	s, p := newStore(t)
	for _, how := range Compressions {
		file := compress(t, how, tarOf(t, map[string]string{"etc/motd": "hello"}))
		m := manifestOf(file, how)
		img, err := s.Install(t.Context(), m, bytes.NewReader(file))
		if err != nil {
			t.Errorf("%s: %v", how, err)
			continue
		}
		if got := readIn(t, s, img, "etc/motd"); got != "hello" {
			t.Errorf("%s: motd = %q", how, got)
		}
		if err := s.Verify(t.Context(), m.UUID); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		if _, err := s.Install(t.Context(), m, bytes.NewReader(file)); !errors.Is(err, ErrExist) {
			t.Errorf("%s: second install = %v, want ErrExist", how, err)
		}
	}
	noRemains(t, p)
	l, err := s.List(t.Context())
	if err != nil || len(l) != len(Compressions) {
		t.Errorf("%d images, %v", len(l), err)
	}
}

func TestWrongFilesAreRefusedAndLeaveNothing(t *testing.T) {
	s, p := newStore(t)
	s.cfg.MaxBytes = 1 << 20
	good := compress(t, "gzip", tarOf(t, map[string]string{"a": "1"}))
	bomb := compress(t, "gzip", tarOf(t, map[string]string{"a": strings.Repeat("\x00", 8<<20)}))
	junk := compress(t, "gzip", append(tarOf(t, nil), bytes.Repeat([]byte{0}, 64<<20)...))
	tests := []struct {
		name   string
		file   []byte
		change func(*Manifest)
		want   error
	}{
		{"wrong sha1", good, func(m *Manifest) { m.Files[0].SHA1 = strings.Repeat("0", 40) }, ErrChecksum},
		{"wrong digest", good, func(m *Manifest) { m.Files[0].Digest = "sha256:" + strings.Repeat("0", 64) }, ErrChecksum},
		{"wrong inner digest", good, func(m *Manifest) { m.Files[0].UncompressedDigest = "sha256:" + strings.Repeat("0", 64) }, ErrChecksum},
		{"too short", good, func(m *Manifest) { m.Files[0].Size++ }, ErrChecksum},
		{"too long", good, func(m *Manifest) { m.Files[0].Size-- }, ErrChecksum},
		{"damaged", append(bytes.Clone(good[:20]), good[25:]...), func(m *Manifest) { m.Files = manifestOf(good, "gzip").Files }, ErrChecksum},
		{"other compression", good, func(m *Manifest) { m.Files[0].Compression = "xz" }, ErrRefused},
		{"bomb", bomb, nil, ErrRefused},
		{"bomb behind the end", junk, nil, ErrChecksum},
		{"device", compress(t, "gzip", tarOf(t, map[string]string{"dev/sda": "DEVICE"})), nil, ErrRefused},
		{"climbing", compress(t, "gzip", tarOf(t, map[string]string{"../x": "y"})), nil, ErrRefused},
		{"no origin", good, func(m *Manifest) { m.Origin = NewUUID() }, ErrOrigin},
		{"bad manifest", good, func(m *Manifest) { m.Name = "" }, ErrManifest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := manifestOf(tt.file, "gzip")
			if tt.change != nil {
				tt.change(&m)
			}
			_, err := s.Install(t.Context(), m, bytes.NewReader(tt.file))
			if !errors.Is(err, tt.want) {
				t.Errorf("Install = %v, want %v", err, tt.want)
			}
			noRemains(t, p)
			if _, err := s.Get(t.Context(), m.UUID); !errors.Is(err, ErrNotExist) {
				t.Errorf("Get = %v, want ErrNotExist", err)
			}
		})
	}
}

func TestDiskImages(t *testing.T) {
	s, _ := newStore(t)
	disk := func(b []byte) Manifest {
		m := manifestOf(b, "none")
		m.Type, m.NICDriver, m.DiskDriver, m.CPUType, m.ImageSize = "zvol", "virtio", "virtio", "qemu64", 1
		return m
	}
	raw := append(bytes.Repeat([]byte{0}, 512<<10), "the end"...)
	img, err := s.Install(t.Context(), disk(raw), bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if img.Disk != "raw" || readIn(t, s, img, "disk.raw") != string(raw) {
		t.Errorf("disk = %q", img.Disk)
	}
	q := make([]byte, 1024)
	copy(q, "QFI\xfb")
	binary.BigEndian.PutUint32(q[4:], 3)
	binary.BigEndian.PutUint64(q[24:], 1<<20)
	if img, err = s.Install(t.Context(), disk(q), bytes.NewReader(q)); err != nil || img.Disk != "qcow2" {
		t.Errorf("qcow2: %q, %v", img.Disk, err)
	}
	for name, change := range map[string]func([]byte){
		"backing file":  func(b []byte) { binary.BigEndian.PutUint64(b[8:], 200); copy(b[200:], "/etc/shadow") },
		"external data": func(b []byte) { binary.BigEndian.PutUint64(b[72:], 4) },
		"version":       func(b []byte) { binary.BigEndian.PutUint32(b[4:], 9) },
		"larger":        func(b []byte) { binary.BigEndian.PutUint64(b[24:], 1<<40) },
	} {
		b := bytes.Clone(q)
		change(b)
		if _, err := s.Install(t.Context(), disk(b), bytes.NewReader(b)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
}

// put writes an image into a directory, as Dir reads it.
func put(t testing.TB, dir string, m Manifest, file []byte) {
	t.Helper()
	b, _ := json.Marshal(m)
	os.WriteFile(filepath.Join(dir, m.UUID+".imgmanifest"), b, 0o644)
	os.WriteFile(filepath.Join(dir, m.UUID+".file"), file, 0o644)
}

func TestImportWithOrigins(t *testing.T) {
	dir := t.TempDir()
	base := compress(t, "gzip", tarOf(t, map[string]string{"a": "1", "b": "1"}))
	mb := manifestOf(base, "gzip")
	more := compress(t, "gzip", tarOf(t, map[string]string{"a": "2", ".wh.b": "", "c": "3"}))
	mm := manifestOf(more, "gzip")
	mm.Origin = mb.UUID
	put(t, dir, mb, base)
	put(t, dir, mm, more)
	os.WriteFile(filepath.Join(dir, "broken.json"), []byte("{"), 0o644)

	server := httptest.NewServer(imgapi(NewDir(dir)))
	defer server.Close()
	web, err := NewHTTP(HTTPConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, src := range []Source{NewDir(dir), web} {
		s, p := newStore(t, src)
		ctx := t.Context()
		if l, err := s.Available(ctx); err != nil || len(l) != 2 {
			t.Errorf("%s: %d available, %v", src, len(l), err)
		}
		if _, err := s.Import(ctx, NewUUID()); !errors.Is(err, ErrNotExist) {
			t.Errorf("%s: import of what is not there: %v", src, err)
		}
		img, err := s.Import(ctx, mm.UUID)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		if a, c := readIn(t, s, img, "a"), readIn(t, s, img, "c"); a != "2" || c != "3" {
			t.Errorf("%s: a = %q, c = %q", src, a, c)
		}
		if b := readIn(t, s, img, "b"); !strings.Contains(b, "no such file") {
			t.Errorf("%s: b = %q, want it gone", src, b)
		}
		if l, err := s.Ancestry(ctx, mm.UUID); err != nil || len(l) != 2 || l[1].Manifest.UUID != mb.UUID {
			t.Errorf("%s: ancestry = %v, %v", src, l, err)
		}
		if err := s.Delete(ctx, mb.UUID); !errors.Is(err, ErrDependents) {
			t.Errorf("%s: delete of the origin = %v, want ErrDependents", src, err)
		}
		if _, err := p.Clone(ctx, img.Ref(), "zone", dataset.Options{}); err != nil {
			t.Fatal(err)
		}
		if d, err := s.Dependents(ctx, mm.UUID); err != nil || !cmp.Equal(d, []string{"zone"}) {
			t.Errorf("%s: dependents = %v, %v", src, d, err)
		}
		if err := s.Delete(ctx, mm.UUID); !errors.Is(err, ErrDependents) {
			t.Errorf("%s: delete under a zone = %v, want ErrDependents", src, err)
		}
		if err := p.Delete(ctx, "zone"); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{mm.UUID, mb.UUID} {
			if err := s.Delete(ctx, id); err != nil {
				t.Errorf("%s: %v", src, err)
			}
		}
		if l, _ := p.List(ctx); len(l) != 0 {
			t.Errorf("%s: datasets left: %v", src, l)
		}
	}
}

// imgapi serves a directory as the image API does.
func imgapi(d *Dir) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any, err error) {
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			v = map[string]string{"code": "ResourceNotFound"}
		}
		json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /images", func(w http.ResponseWriter, r *http.Request) {
		l, err := d.List(r.Context())
		answer(w, l, err)
	})
	mux.HandleFunc("GET /images/{uuid}", func(w http.ResponseWriter, r *http.Request) {
		m, err := d.Get(r.Context(), r.PathValue("uuid"))
		answer(w, m, err)
	})
	mux.HandleFunc("GET /images/{uuid}/file", func(w http.ResponseWriter, r *http.Request) {
		f, err := d.Open(r.Context(), r.PathValue("uuid"))
		if err != nil {
			answer(w, nil, err)
			return
		}
		defer f.Close()
		io.Copy(w, f)
	})
	return mux
}

func TestCreateFromZone(t *testing.T) {
	s, p := newStore(t)
	ctx := t.Context()
	base := compress(t, "none", tarOf(t, map[string]string{"a": "1", "b": "1", "d/x": "1", "same": "s"}))
	img, err := s.Install(ctx, manifestOf(base, "none"), bytes.NewReader(base))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Clone(ctx, img.Ref(), "zone", dataset.Options{}); err != nil {
		t.Fatal(err)
	}
	err = s.live(ctx, "zone", func(r *os.Root) error {
		return errors.Join(r.WriteFile("a", []byte("changed"), 0o600), r.Remove("b"), r.RemoveAll("d"), r.WriteFile("d", []byte("file"), 0o644),
			r.MkdirAll("new/deep", 0o700), r.WriteFile("new/deep/f", []byte("f"), 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Snapshot(ctx, "zone", "s"); err != nil {
		t.Fatal(err)
	}
	for _, incremental := range []bool{false, true} {
		for _, how := range []string{"none", "gzip", "xz", "zstd"} {
			var file bytes.Buffer
			m, err := s.Create(ctx, &file, dataset.Ref{Dataset: "zone", Snapshot: "s"}, CreateOptions{
				Manifest: Manifest{Name: "made", Version: "1", Type: "zone-dataset", OS: "linux"}, Compression: how, Incremental: incremental,
			})
			if err != nil {
				t.Fatal(err)
			}
			if (m.Origin == img.Manifest.UUID) != incremental {
				t.Errorf("origin = %q", m.Origin)
			}
			made, err := s.Install(ctx, m, &file)
			if err != nil {
				t.Fatalf("incremental %v, %s: %v", incremental, how, err)
			}
			for f, want := range map[string]string{"a": "changed", "d": "file", "new/deep/f": "f", "same": "s"} {
				if got := readIn(t, s, made, f); got != want {
					t.Errorf("incremental %v, %s: %s = %q, want %q", incremental, how, f, got, want)
				}
			}
			if got := readIn(t, s, made, "b"); !strings.Contains(got, "no such file") {
				t.Errorf("incremental %v: b = %q", incremental, got)
			}
		}
	}
}

func TestVerifyFindsAChange(t *testing.T) {
	s, p := newStore(t)
	file := tarOf(t, map[string]string{"a": "1"})
	img, err := s.Install(t.Context(), manifestOf(file, "none"), bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	root, err := p.SnapshotRoot(t.Context(), img.Ref())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root.Lower[0], "a"), []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), img.Manifest.UUID); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Verify = %v, want ErrCorrupt", err)
	}
}

func TestSparse(t *testing.T) {
	s, _ := newStore(t)
	img, err := s.Get(t.Context(), zones.SparseImage)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Get(t.Context(), SparseUUID)
	if err != nil || again.Dataset != img.Dataset {
		t.Errorf("by uuid: %v, %v", again, err)
	}
	usr := false
	for _, m := range img.Mounts {
		if !m.ReadOnly {
			t.Errorf("mount of %s can be written", m.Target)
		}
		usr = usr || m.Target == "/usr" && m.Source == "/usr"
		if m.Target == "/etc/ssl/private" || m.Target == "/etc" {
			t.Errorf("%s of the host is shown", m.Target)
		}
	}
	if !usr {
		t.Error("no /usr")
	}
	err = s.tree(t.Context(), img.Ref(), func(r *os.Root) error {
		for _, n := range []string{"usr", "bin", "etc/passwd", "tmp", "root", "home", "opt", "var/tmp"} {
			if _, err := r.Lstat(n); err != nil {
				t.Error(err)
			}
		}
		fi, err := r.Stat("tmp")
		if err == nil && fi.Mode().Perm() != 0o777 {
			t.Errorf("/tmp = %v", fi.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRepair(t *testing.T) {
	s, p := newStore(t)
	ctx := t.Context()
	file := tarOf(t, map[string]string{"a": "1"})
	m := manifestOf(file, "none")
	if _, err := s.Install(ctx, m, bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	// A live import, a dead one, an image without a record, a record without its dataset.
	live, done, err := s.workname()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	dead := importPrefix + "dead"
	os.WriteFile(filepath.Join(s.cfg.Dir, "work", dead), nil, 0o600)
	orphan := datasetPrefix + NewUUID()
	for _, n := range []string{live, dead, orphan} {
		if _, err := p.Create(ctx, n, dataset.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	gone := Image{Manifest: Manifest{UUID: NewUUID()}}
	if err := s.save(gone); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(ctx, s.cfg); err != nil {
		t.Fatal(err)
	}
	l, err := p.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range l {
		got = append(got, d.Name)
	}
	if d := cmp.Diff([]string{datasetPrefix + m.UUID, live}, got); d != "" {
		t.Errorf("datasets (-want +got):\n%s", d)
	}
	if l, err := s.List(ctx); err != nil || len(l) != 1 {
		t.Errorf("images = %v, %v", l, err)
	}
}

func TestXZDictionaryBound(t *testing.T) {
	b := compress(t, "xz", []byte("hello"))
	if _, err := Decompress(bytes.NewReader(b), "xz"); err != nil {
		t.Fatal(err)
	}
	big := bytes.Clone(b)
	at := bytes.Index(big[12:], []byte{0x21, 1})
	big[12+at+2] = 40
	if _, err := Decompress(bytes.NewReader(big), "xz"); !errors.Is(err, ErrRefused) {
		t.Errorf("dictionary of 4 GiB: %v, want ErrRefused", err)
	}
}

func FuzzInstallFile(f *testing.F) {
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(tarOf(f, map[string]string{"a": "b"}))
	w.Close()
	f.Add(gz.Bytes())
	f.Add(compress(f, "zstd", tarOf(f, map[string]string{"../a": "b"})))
	f.Add(compress(f, "xz", []byte("btrfs-stream\x00\x01\x00\x00\x00")))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decompress(bytes.NewReader(b), "")
		if err != nil {
			return
		}
		defer r.Close()
		io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	})
}
