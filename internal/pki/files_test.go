package pki

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestOpenCAOnce(t *testing.T) {
	dir := t.TempDir()
	prints := make(chan [32]byte)
	for range 8 {
		go func() {
			ca, err := OpenCA(dir)
			if err != nil {
				t.Error(err)
				prints <- [32]byte{}
				return
			}
			prints <- ca.Fingerprint()
		}()
	}
	first := <-prints
	for range 7 {
		if p := <-prints; p != first {
			t.Error("two authorities in one directory")
		}
	}
	info, err := os.Stat(filepath.Join(dir, caFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".tmp-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if err := os.Chmod(filepath.Join(dir, caFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCA(dir); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("key that others can read: %v", err)
	}
}

func TestDamagedFiles(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		a, b := c.mustJoin(Identity{Storage, "1.stor"}), c.mustJoin(Identity{Storage, "2.stor"})
		read := func(cr *Credentials) []byte {
			data, err := os.ReadFile(filepath.Join(cr.dir, credentialsFile))
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		good, other := read(a), read(b)
		split := bytes.Index(good, []byte("-----BEGIN CERT"))
		otherSplit := bytes.Index(other, []byte("-----BEGIN CERT"))
		for name, data := range map[string][]byte{
			"empty":             nil,
			"cut":               good[:len(good)/2],
			"no key":            good[split:],
			"another's key":     append(bytes.Clone(other[:otherSplit]), good[split:]...),
			"foreign PEM block": append([]byte("-----BEGIN X-----\nAAAA\n-----END X-----\n"), good...),
		} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, credentialsFile), data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadCredentials(dir); err == nil {
				t.Errorf("%s: accepted", name)
			} else if strings.Contains(err.Error(), "MIG") {
				t.Errorf("%s: error quotes the key: %v", name, err)
			}
		}
	})
}

func TestOwnCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := OpenCA(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		get := func(ca *CA, id Identity) *x509.Certificate {
			c, err := ca.Credentials(dir, id)
			if err != nil {
				t.Fatal(err)
			}
			return c.cur.Load().leaf
		}
		head := Identity{Head, "head0"}
		first := get(ca, head)
		if !get(ca, head).Equal(first) {
			t.Error("a restart has new credentials")
		}
		time.Sleep(DefaultLifetime * 3 / 4)
		second := get(ca, head)
		if second.Equal(first) {
			t.Error("credentials near their end are kept")
		}
		if get(ca, Identity{Head, "head1"}).Equal(second) {
			t.Error("another's credentials are used")
		}
		other, err := OpenCA(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		third := get(ca, head)
		if get(other, head).Equal(third) {
			t.Error("another authority's credentials are used")
		}
	})
}

func FuzzDecodePEM(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) { decodePEM(data) })
}

func TestLeftoversGo(t *testing.T) {
	dir := t.TempDir()
	old, young := filepath.Join(dir, tempPrefix+"OLD"), filepath.Join(dir, tempPrefix+"YOUNG")
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCA(dir); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil || len(left) != 1 || left[0] != young {
		t.Errorf("left: %v, %v", left, err)
	}
}
