package objfile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// isTyped tells whether an error is one that the contract knows.
func isTyped(err error) bool {
	for _, e := range []error{storage.ErrNotFound, storage.ErrExist, storage.ErrCorrupt, storage.ErrChecksum, storage.ErrNoSpace, storage.ErrReadOnly, storage.ErrUnavailable} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// TestFaults runs a random history on a disk that fails at random, with crashes and restarts in between, and compares each answer with what the users know.
func TestFaults(t *testing.T) {
	t.Parallel()
	start := seed(t)
	var faults, readOnly, noSpace int
	more := budget()
	for round := range rounds(20, 1000) {
		if round >= 6 && !more() {
			break
		}
		seed := start + uint64(round)
		rng := rand.New(rand.NewPCG(seed, 5))
		disk := storagetest.NewCrashFS(0)
		fs := storagetest.NewFaultFS(disk)
		cfg := crashConfig(nil, time.Hour)
		cfg.FS = fs
		s, err := Open("", cfg)
		if err != nil {
			t.Fatal(err)
		}
		fail := func(step int, format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d, step %d: %s", seed, step, fmt.Sprintf(format, args...))
		}
		objects := map[storage.ObjectID]*modelObject{}
		snapshot := func() map[storage.ObjectID]modelObject {
			m := map[storage.ObjectID]modelObject{}
			for id, o := range objects {
				m[id] = *o
			}
			return m
		}
		pick := func() (storage.ObjectID, *modelObject) {
			for id, o := range objects {
				return id, o
			}
			return storage.ObjectID{}, nil
		}
		setFault := func() {
			err, kinds := storagetest.ErrFault, []string{"writeat", "sync", "syncdir", "createtemp", "create", "link", "preallocate", "rename", "mkdir", "truncate", "remove", "readat", "open", "size", "stat"}
			if rng.IntN(2) == 0 {
				err, kinds = storagetest.ErrFull, []string{"writeat", "createtemp", "create", "link", "preallocate", "mkdir"}
			}
			kind := kinds[rng.IntN(len(kinds))]
			f := storagetest.FailWith(err).Times(1 + rng.IntN(3)).On(kind)
			where := []string{journalDir, objectsDir, quarantineDir, ""}[rng.IntN(4)]
			if where == "" && (err == storagetest.ErrFault || rng.IntN(2) == 0) { // the index has a test of its own
				where = journalDir
			}
			fs.Set(f.Under(where))
		}
		for step := range 60 {
			if rng.IntN(6) == 0 {
				setFault()
			}
			switch k := rng.IntN(12); {
			case k < 5:
				size := rng.IntN(3 << 10)
				if rng.IntN(3) == 0 {
					size = rng.IntN(200 << 10)
				}
				id, data := storagetest.NewID(), storagetest.Data(rng.Uint64(), size)
				_, err := storagetest.PutWith(t.Context(), s, id, data, int64(rng.IntN(2)*(size+1)-1), storagetest.SumsOf(data), 50_000)
				o := &modelObject{data, mayPresent}
				switch {
				case err == nil:
				case errors.Is(err, storage.ErrUnavailable):
					o.may = mayAbsent | mayPresent
				case errors.Is(err, storage.ErrNoSpace), errors.Is(err, storage.ErrReadOnly):
					o.may = mayAbsent
				default:
					fail(step, "put: %v", err)
				}
				if errors.Is(err, storage.ErrNoSpace) {
					noSpace++
				}
				objects[id] = o
			case k < 7:
				if id, o := pick(); o != nil {
					err := s.Delete(t.Context(), id)
					switch {
					case err == nil:
						o.may = mayAbsent
					case errors.Is(err, storage.ErrUnavailable):
						o.may |= mayAbsent
					case !errors.Is(err, storage.ErrReadOnly) && !errors.Is(err, storage.ErrNoSpace):
						fail(step, "delete: %v", err)
					}
				}
			case k < 8:
				if id, o := pick(); o != nil {
					err := s.Undelete(t.Context(), id)
					switch {
					case err == nil:
						o.may = mayPresent
					case errors.Is(err, storage.ErrNotFound):
						o.may = mayAbsent
					case errors.Is(err, storage.ErrUnavailable):
						o.may |= mayPresent
					case !errors.Is(err, storage.ErrReadOnly) && !errors.Is(err, storage.ErrNoSpace):
						fail(step, "undelete: %v", err)
					}
				}
			case k < 10:
				if id, o := pick(); o != nil {
					got, _, err := storagetest.Get(t.Context(), s, id, 0, -1)
					switch {
					case err == nil && (string(got) != string(o.data) || o.may&mayPresent == 0):
						fail(step, "get: %d of %d bytes, may %d", len(got), len(o.data), o.may)
					case errors.Is(err, storage.ErrNotFound) && o.may&mayAbsent == 0:
						fail(step, "an object is lost")
					case errors.Is(err, storage.ErrCorrupt):
						fail(step, "%v", err)
					case err != nil && !isTyped(err):
						fail(step, "get: %v", err)
					}
				}
			case k < 11:
				if _, err := s.Reap(t.Context()); err != nil && !isTyped(err) && !strings.Contains(err.Error(), "injected fault") {
					fail(step, "reap: %v", err)
				}
			default: // a restart, by hook or by crook
				fs.Set(nil)
				if s.readOnlyError() != nil {
					readOnly++
				}
				next := disk
				if rng.IntN(2) == 0 {
					next = disk.Crash(rng)
					disk.Cut()
				}
				if err := s.Close(); err != nil && next == disk {
					fail(step, "Close: %v", err)
				}
				faults += fs.Faults()
				disk, fs = next, storagetest.NewFaultFS(next)
				cfg.FS = fs
				if s, err = Open("", cfg); err != nil {
					fail(step, "Open: %v", err)
				}
				if err := check(t, s, snapshot()); err != nil {
					fail(step, "after a restart: %v", err)
				}
				for id, o := range objects { // now it is known
					if _, err := s.Stat(t.Context(), id); err == nil {
						o.may = mayPresent
					} else {
						o.may = mayAbsent
					}
				}
			}
		}
		fs.Set(nil)
		_ = s.Close()
		if s, err = Open("", cfg); err != nil {
			t.Fatalf("seed %d: Open at the end: %v", seed, err)
		}
		if err := check(t, s, snapshot()); err != nil {
			t.Fatalf("seed %d: at the end: %v", seed, err)
		}
		if err := s.Close(); err != nil {
			t.Fatalf("seed %d: Close at the end: %v", seed, err)
		}
	}
	t.Logf("%d faults, %d times read-only, %d times full", faults, readOnly, noSpace)
	if faults == 0 || readOnly+noSpace == 0 {
		t.Error("the test has not met what it is for")
	}
}

// TestFailedSync: after a sync that failed the node takes nothing more until it is started again, and goes on reading.
func TestFailedSync(t *testing.T) {
	disk := storagetest.NewFaultFS(storagetest.NewCrashFS(0))
	cfg := crashConfig(nil, time.Hour)
	cfg.FS = disk
	s, err := Open("", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	id := storagetest.NewID()
	if _, err := storagetest.Put(t.Context(), s, id, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	disk.Set(storagetest.FailWith(storagetest.ErrFault).Times(1).On("sync"))
	if _, err := storagetest.Put(t.Context(), s, storagetest.NewID(), []byte("x")); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("put whose sync fails: %v, want ErrUnavailable: nobody knows", err)
	}
	for range 2 {
		if _, err := storagetest.Put(t.Context(), s, storagetest.NewID(), []byte("x")); !errors.Is(err, storage.ErrReadOnly) {
			t.Errorf("put after that: %v, want ErrReadOnly", err)
		}
	}
	if err := s.Delete(t.Context(), id); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("delete after that: %v, want ErrReadOnly", err)
	}
	if got, _, err := storagetest.Get(t.Context(), s, id, 0, -1); err != nil || string(got) != "abc" {
		t.Errorf("get after that: %q, %v", got, err)
	}
	if u, err := s.Usage(t.Context()); err != nil || u.ReadOnly == "" {
		t.Errorf("Usage = %+v, %v; want a reason in ReadOnly", u, err)
	}
}

// TestFullDisk: on a disk that is full puts are refused before anything is half made, deletes work, and then there is room again.
func TestFullDisk(t *testing.T) {
	disk := storagetest.NewCrashFS(8 << 20)
	cfg := crashConfig(disk, -1)
	cfg.Reserve = 1 << 20
	s, err := Open("", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	var ids []storage.ObjectID
	data := storagetest.Data(1, 100_000)
	for {
		id := storagetest.NewID()
		_, err := storagetest.Put(t.Context(), s, id, data)
		if errors.Is(err, storage.ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if n := len(ids); n < 50 || n > 75 {
		t.Errorf("%d objects of 100 kB on 7 MiB", n)
	}
	if _, err := storagetest.PutWith(t.Context(), s, storagetest.NewID(), data, -1, storagetest.SumsOf(data), 0); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("put of unknown size on a full disk: %v", err)
	}
	for _, id := range ids {
		if err := s.Delete(t.Context(), id); err != nil {
			t.Fatalf("delete on a full disk: %v", err)
		}
	}
	if _, err := s.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids[:len(ids)-2] {
		if _, err := storagetest.Put(t.Context(), s, id, data); err != nil {
			t.Fatalf("put when there is room again: %v", err)
		}
	}
}
