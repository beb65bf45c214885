package authcache

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage/metastore"
)

func TestMemo(t *testing.T) {
	m := newMemo[int](1000)
	if len(m.slots) != 1024 {
		t.Errorf("%d slots, want 1024", len(m.slots))
	}
	var s scratch
	a := s.hash("ab", "c")
	if b := s.hash("a", "bc"); a == b {
		t.Error("sums do not tell parts apart")
	}
	if _, ok := m.get(&a, 0); ok {
		t.Error("an empty memo remembers")
	}
	m.put(&a, 7, 100)
	if v, ok := m.get(&a, 100); !ok || v != 7 {
		t.Errorf("get = %d, %v", v, ok)
	}
	if _, ok := m.get(&a, 101); ok {
		t.Error("remembered for too long")
	}
}

// However much is put in, a memo stays as large as it is, keeps what ends last and forgets what ends first.
func TestMemoIsBounded(t *testing.T) {
	m := newMemo[int](64)
	key := func(i int) [32]byte {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(i))
		return new(scratch).hash(string(b[:]))
	}
	for i := range 10000 {
		k := key(i)
		m.put(&k, i, int64(i))
	}
	held := 0
	for i := range 10000 {
		k := key(i)
		if v, ok := m.get(&k, 0); ok {
			held++
			if v != i {
				t.Fatalf("get(%d) = %d", i, v)
			}
			if i < 9000 {
				t.Errorf("%d is still held", i)
			}
		}
	}
	if held == 0 || held > 64 {
		t.Errorf("%d entries are held, want at most 64", held)
	}
	off := newMemo[int](-1)
	k := key(1)
	off.put(&k, 1, 100)
	if _, ok := off.get(&k, 0); ok {
		t.Error("a memo that is off remembers")
	}
}

func TestCow(t *testing.T) {
	var a cow[int]
	for i := range 1000 {
		a.set(string(rune('a'+i%26))+string(rune(i)), i)
	}
	b := a.copy()
	b.set("new", 1)
	b.set("a\x00", -1)
	b.delete("b\x01")
	b.delete("not there")
	if a.len() != 1000 || b.len() != 1000 || a.get("new") != 0 || a.get("a\x00") != 0 || a.get("b\x01") != 1 {
		t.Errorf("the original has changed: %d, %d, %d", a.len(), a.get("a\x00"), a.get("b\x01"))
	}
	if b.get("new") != 1 || b.get("a\x00") != -1 || b.get("b\x01") != 0 {
		t.Error("the copy has not changed")
	}
	// Readers of what was published need no lock while the copy of it changes.
	var wg sync.WaitGroup
	published := b.copy()
	wg.Go(func() {
		for range 1000 {
			_ = published.get("new")
		}
	})
	c := published.copy()
	for i := range 1000 {
		c.set("new", i)
		c.delete("c\x02")
	}
	wg.Wait()
}

// Notices of a key may be merged, so that a name is seen at its new holder before the old one is seen to have given it up.
func TestNamesSeenBeforeTheyAreGivenUp(t *testing.T) {
	s := new(snapshot)
	put := func(id, login string) {
		id = id + "-0000-4000-8000-000000000000"
		if err := s.apply(ufds.AccountsBucket, id, &metastore.Record{Value: fmt.Appendf(nil, `{"uuid":%q,"login":%q}`, id, login)}); err != nil {
			t.Fatal(err)
		}
	}
	put("aaaaaaaa", "one")
	put("bbbbbbbb", "one") // its record from after the exchange
	put("aaaaaaaa", "two")
	if a := s.logins.get("one"); a == nil || a.UUID[0] != 'b' {
		t.Errorf("one is %+v", a)
	}
	if a := s.logins.get("two"); a == nil || a.UUID[0] != 'a' {
		t.Errorf("two is %+v", a)
	}
	if err := s.apply(ufds.AccountsBucket, "aaaaaaaa-0000-4000-8000-000000000000", nil); err != nil || s.logins.get("two") != nil || s.logins.get("one") == nil {
		t.Errorf("after one is gone: %v, %v, %v", err, s.logins.get("one"), s.logins.get("two"))
	}
}

// BenchmarkApply is one change among many accounts.
func BenchmarkApply(b *testing.B) {
	s := new(snapshot)
	record := func(i int, disabled bool) *metastore.Record {
		id := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
		return &metastore.Record{Key: metastore.Key{Name: id}, Value: fmt.Appendf(nil, `{"uuid":%q,"login":"login%d","disabled":%v}`, id, i, disabled)}
	}
	for i := range 100000 {
		r := record(i, false)
		if err := s.apply(ufds.AccountsBucket, r.Key.Name, r); err != nil {
			b.Fatal(err)
		}
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		s = s.copy()
		r := record(i%100000, true)
		if err := s.apply(ufds.AccountsBucket, r.Key.Name, r); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func TestPublicPath(t *testing.T) {
	for path, want := range map[string]bool{
		"/demo/public": true, "/demo/public/": true, "/demo/public/a/b": true, "/d.e_m@x-%41/public/x": true,
		"/demo/publicity": false, "/demo/stor/public": false, "/public": false, "//public": false, "/d/public": false, "/1demo/public": false,
		"demo/public": false, "": false, "/": false, "/demo": false, "/demo/Public": false, "/de mo/public": false, "/../public": false,
	} {
		if got := publicPath(path); got != want {
			t.Errorf("publicPath(%q) = %v", path, got)
		}
	}
}

func TestCleanPath(t *testing.T) {
	for target, want := range map[string]string{
		"/demo/stor": "/demo/stor", "/demo//stor///a/": "/demo/stor/a", "/demo/stor?x=//": "/demo/stor", "/": "/", "//": "/", "": "", "/a%2F/": "/a%2F",
	} {
		if got := CleanPath(target); got != want {
			t.Errorf("CleanPath(%q) = %q, want %q", target, got, want)
		}
	}
}

func FuzzToken(f *testing.F) {
	cipher, err := newTokenCipher(TokenConfig{Key: "5163205CA0C7F2752FD3A574E30F64DD", IV: "6B11F0F0B786F96812D5A0799D5B217A"})
	if err != nil {
		f.Fatal(err)
	}
	token, err := cipher.seal(tokenJSON{Time: 1, Version: 2, Principal: &tokenPrincipal{Account: &tokenID{"x"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("")
	f.Add("AAAAAAAAAAAAAAAAAAAAAA==")
	f.Fuzz(func(t *testing.T, s string) {
		if inside, ok := cipher.open(s); ok && s != token && s+"=" != token {
			// Nobody finds another token by chance; what opens must be the same text in another spelling.
			again, err := cipher.seal(inside)
			if err != nil || again != token {
				t.Fatalf("open(%q) = %+v", s, inside)
			}
		}
	})
}
