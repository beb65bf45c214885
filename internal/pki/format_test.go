package pki

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

var writeSamples = flag.Bool("write-samples", false, "write testdata/format1 anew, which only a change of a format that was never released justifies")

const sampleDir = "testdata/format1"

// The sample was written in a bubble, at the bubble's time: 2000-01-01. Its keys protect nothing.
//
//	steady, spreading, retiring   an authority in each phase of a rotation
//	head, storage                 credentials, the latter of a machine that knows a new authority already
//	joining                       a machine that was cut off while it joined
//	tokens                        one that was used and one that was not; TOKENS has them in full

// TestFormats opens what older programs have written. The samples stay as they are.
func TestFormats(t *testing.T) {
	if *writeSamples {
		synctest.Test(t, writeSample)
	}
	dir := filepath.Join(t.TempDir(), "sample")
	if err := os.CopyFS(dir, os.DirFS(sampleDir)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chmod(name, 0o600) // which the repository does not keep
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { checkSample(t, dir) })
}

func checkSample(t *testing.T, dir string) {
	b, err := os.ReadFile(filepath.Join(dir, "FINGERPRINT"))
	if err != nil {
		t.Fatal(err)
	}
	first := string(b)
	for phase, trusted := range map[Phase]int{Steady: 1, Spreading: 2, Retiring: 2} {
		ca, err := OpenCA(filepath.Join(dir, string(phase)))
		if err != nil {
			t.Fatal(err)
		}
		got := ca.Fingerprint()
		if ca.Phase() != phase || len(ca.Trusted()) != trusted || (hex.EncodeToString(got[:]) == first) != (phase != Retiring) {
			t.Errorf("authority in phase %s is in phase %s, trusts %d, fingerprint %x", phase, ca.Phase(), len(ca.Trusted()), got)
		}
	}
	ca, err := OpenCA(filepath.Join(dir, string(Steady)))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "head", credentialsFile)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Credentials(filepath.Join(dir, "head"), Identity{Head, "head"}); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the head node's credentials were not good enough: %v", err)
	}
	storage, err := LoadCredentials(filepath.Join(dir, "storage"))
	if err != nil || storage.Identity() != (Identity{Storage, "1.stor.example.com"}) || len(storage.cur.Load().trusted) != 2 {
		t.Errorf("the storage node's credentials are %v, %v", storage, err)
	}
	tokens, err := OpenTokenDir(filepath.Join(dir, "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	if b, err = os.ReadFile(filepath.Join(dir, "TOKENS")); err != nil {
		t.Fatal(err)
	}
	used, unused, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	a := &Authority{CA: ca, Tokens: tokens}
	root, err := openDir(filepath.Join(dir, "joining"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	key, err := pendingKey(root)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := newRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]error{used: ErrTokenUsed, unused: nil} {
		token, err := ParseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		if token.ca != ca.Fingerprint() {
			t.Error("the token is for another authority")
		}
		if _, err := a.Join(t.Context(), token.ID(), token.secret[:], csr); !errors.Is(err, want) {
			t.Errorf("Join = %v, want %v", err, want)
		}
	}
}

func writeSample(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.RemoveAll(sampleDir))
	path := func(name string) string { return filepath.Join(sampleDir, name) }
	ca, err := OpenCA(path("steady"))
	must(err)
	must(os.WriteFile(path("FINGERPRINT"), []byte(ca.hex()), 0o666))
	_, err = ca.Credentials(path("head"), Identity{Head, "head"})
	must(err)
	tokens, err := OpenTokenDir(path("tokens"))
	must(err)
	defer tokens.Close()
	a := &Authority{CA: ca, Tokens: tokens}
	used, err := a.CreateToken(t.Context(), Identity{Storage, "1.stor.example.com"}, 0)
	must(err)
	unused, err := a.CreateToken(t.Context(), Identity{Storage, "2.stor.example.com"}, 0)
	must(err)
	must(os.WriteFile(path("TOKENS"), []byte(used.Reveal()+"\n"+unused.Reveal()+"\n"), 0o666))
	for dir, token := range map[string]Token{"storage": used, "joining": {}} {
		root, err := openDir(path(dir))
		must(err)
		defer root.Close()
		key, err := pendingKey(root)
		must(err)
		if token == (Token{}) {
			continue
		}
		csr, err := newRequest(key)
		must(err)
		issued, err := a.Join(t.Context(), token.ID(), token.secret[:], csr)
		must(err)
		c := &Credentials{dir: path(dir)}
		must(c.replace(key, issued.Certificate, issued.Authority, issued.Trusted))
		must(removeFile(root, pendingFile))
	}
	for _, phase := range []Phase{Spreading, Retiring} {
		must(os.CopyFS(path(string(phase)), os.DirFS(path("steady"))))
		must(os.Chmod(filepath.Join(path(string(phase)), caFile), 0o600))
		other, err := OpenCA(path(string(phase)))
		must(err)
		must(other.begin())
		if phase == Spreading {
			storage, err := LoadCredentials(path("storage"))
			must(err)
			must(storage.trust(other.Trusted()))
		} else {
			must(other.activate())
		}
	}
}
