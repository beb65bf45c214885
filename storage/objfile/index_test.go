package objfile

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// TestDamagedIndex damages the index in many ways: no wrong byte is served, no object is called damaged or absent for it, and at the latest the
// second start has everything.
func TestDamagedIndex(t *testing.T) {
	t.Parallel()
	start := seed(t)
	more := budget()
	for round := range rounds(40, 1000) {
		if !more() {
			break
		}
		rng := rand.New(rand.NewPCG(start+uint64(round), 2))
		disk := storagetest.NewCrashFS(0)
		cfg := crashConfig(disk, time.Hour)
		s, err := Open("", cfg)
		if err != nil {
			t.Fatal(err)
		}
		want := map[storage.ObjectID]modelObject{}
		for range 40 {
			id, data := storagetest.NewID(), storagetest.Data(rng.Uint64(), rng.IntN(1000))
			if _, err := storagetest.Put(t.Context(), s, id, data); err != nil {
				t.Fatal(err)
			}
			want[id] = modelObject{data, mayPresent}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		files := disk.Files()
		var hit []string
		for name, size := range files {
			if strings.HasPrefix(name, indexDirName) && rng.IntN(2) == 0 {
				for range 1 + rng.IntN(4) {
					if size > 0 {
						if err := disk.Flip(name, rng.Int64N(size), byte(1+rng.IntN(255))); err != nil {
							t.Fatal(err)
						}
					}
				}
				if rng.IntN(4) == 0 {
					if err := disk.Remove(name); err != nil {
						t.Fatal(err)
					}
				}
				hit = append(hit, name)
			}
		}
		for try := 0; ; try++ {
			s, err := Open("", cfg)
			if err != nil {
				t.Fatalf("seed %d: damage in %q: Open: %v", start+uint64(round), hit, err)
			}
			broken := false
			for id, o := range want {
				got, _, err := storagetest.Get(t.Context(), s, id, 0, -1)
				if errors.Is(err, storage.ErrUnavailable) {
					broken = true
				} else if err != nil || string(got) != string(o.data) {
					t.Fatalf("seed %d: damage in %q: %d bytes, %v", start+uint64(round), hit, len(got), err)
				}
			}
			if !broken && s.readOnlyError() == nil {
				err = check(t, s, want)
			} else if try > 1 {
				err = errors.New("still broken after two starts")
			}
			cerr := s.Close()
			if err != nil {
				t.Fatalf("seed %d: damage in %q: %v", start+uint64(round), hit, err)
			}
			if !broken && cerr == nil {
				break
			}
		}
	}
}

// TestIndexDiskFails lets the disk refuse what the index wants to write. The store must neither hang nor lose anything.
func TestIndexDiskFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]storagetest.Fault{
		"no sync":          storagetest.FailWith(storagetest.ErrFault).On("sync"),
		"no write":         storagetest.FailWith(storagetest.ErrFault).On("writeat"),
		"no create":        storagetest.FailWith(storagetest.ErrFault).On("create"),
		"full":             storagetest.FailWith(storagetest.ErrFull).On("writeat", "create"),
		"full for a while": storagetest.FailWith(storagetest.ErrFull).On("writeat", "create").Times(3),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := storagetest.NewCrashFS(0)
			fs := storagetest.NewFaultFS(disk)
			cfg := crashConfig(nil, time.Hour)
			cfg.FS = fs
			s, err := Open("", cfg)
			if err != nil {
				t.Fatal(err)
			}
			want := map[storage.ObjectID]modelObject{}
			put := func() error {
				id, data := storagetest.NewID(), storagetest.Data(uint64(len(want)), 500)
				_, err := storagetest.Put(t.Context(), s, id, data)
				if err == nil {
					want[id] = modelObject{data, mayPresent}
				}
				return err
			}
			for range 20 {
				if err := put(); err != nil {
					t.Fatal(err)
				}
			}
			fs.Set(fault.Under(indexDirName))
			if err := s.index.flush(); err == nil && name != "full for a while" {
				t.Error("the flush succeeded: the test tests nothing")
			}
			for range 20 {
				if err := put(); err != nil && !isTyped(err) {
					t.Errorf("put: %v", err)
				}
			}
			if err := check(t, s, want); err != nil {
				t.Errorf("while the disk fails: %v", err)
			}
			if name == "full for a while" { // it passes by itself
				for put() != nil {
					time.Sleep(retryPause)
				}
			}
			_ = s.Close()
			fs.Set(nil)
			if s, err = Open("", cfg); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := check(t, s, want); err != nil {
				t.Errorf("after a restart: %v", err)
			}
		})
	}
}
