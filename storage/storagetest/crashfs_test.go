package storagetest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, c *CrashFS, name string) []byte {
	t.Helper()
	f, err := c.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

func TestCrashKeepsWhatIsSynced(t *testing.T) {
	c := NewCrashFS(0)
	must(t, c.Mkdir("d"))
	must(t, c.SyncDir("."))
	tmp, err := c.CreateTemp("d", 0o444)
	must(t, err)
	data := Data(1, 5000)
	_, err = tmp.WriteAt(data, 0)
	must(t, err)
	must(t, tmp.Sync())
	must(t, tmp.Link("d/x"))
	must(t, c.SyncDir("d"))
	_, err = tmp.WriteAt(make([]byte, 3000), 1000)
	must(t, err)
	must(t, c.Rename("d/x", "d/y"))

	var lost, kept, torn, x, y int
	for seed := range uint64(400) {
		n := c.Crash(rand.New(rand.NewPCG(seed, 0)))
		bx, by := content(t, n, "d/x"), content(t, n, "d/y")
		if (bx == nil) == (by == nil) {
			t.Fatalf("seed %d: a rename was torn: x has %d bytes, y %d", seed, len(bx), len(by))
		}
		b := bx
		if x++; b == nil {
			b = by
			x--
			y++
		}
		if !bytes.Equal(b[:1000], data[:1000]) || !bytes.Equal(b[4000:], data[4000:]) {
			t.Fatalf("seed %d: synced bytes are lost", seed)
		}
		switch mid := b[1000:4000]; {
		case bytes.Equal(mid, data[1000:4000]):
			lost++
		case bytes.Equal(mid, make([]byte, 3000)):
			kept++
		default:
			torn++
		}
		again := c.Crash(rand.New(rand.NewPCG(seed, 0)))
		if !bytes.Equal(content(t, again, "d/x"), bx) || !bytes.Equal(content(t, again, "d/y"), by) {
			t.Fatalf("seed %d does not replay", seed)
		}
	}
	if lost == 0 || kept == 0 || torn == 0 || x == 0 || y == 0 {
		t.Errorf("400 crashes: write lost %d, kept %d, torn %d; renamed %d, not %d; want some of each", lost, kept, torn, y, x)
	}
}

func TestCrashLosesUnsyncedNames(t *testing.T) {
	c := NewCrashFS(0)
	f, err := c.Create("a")
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 0)
	must(t, err)
	must(t, f.Sync())
	var there, gone int
	for seed := range uint64(100) {
		if content(t, c.Crash(rand.New(rand.NewPCG(seed, 0))), "a") == nil {
			gone++
		} else {
			there++
		}
	}
	if there == 0 || gone == 0 {
		t.Errorf("a name without SyncDir was there %d times and gone %d times", there, gone)
	}
	c.Cut()
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, ErrPowerCut) {
		t.Errorf("write after the cut: %v", err)
	}
}

func TestCrashFSFull(t *testing.T) {
	c := NewCrashFS(1000)
	f, err := c.Create("a")
	must(t, err)
	n, err := f.WriteAt(make([]byte, 1500), 0)
	if n != 1000 || !diskfs.NoSpace(err) {
		t.Errorf("write of 1500 bytes to a disk of 1000 = %d, %v", n, err)
	}
	must(t, c.Remove("a"))
	if _, free, _ := c.Space(); free != 1000 {
		t.Errorf("after Remove %d bytes are free", free)
	}
}

func TestFaultFS(t *testing.T) {
	c := NewFaultFS(NewCrashFS(0))
	c.Set(FailWith(ErrFull).Times(1).On("writeat"))
	f, err := c.Create("a")
	must(t, err)
	if n, err := f.WriteAt([]byte("abcd"), 0); n != 2 || !diskfs.NoSpace(err) {
		t.Errorf("first write = %d, %v; want half and ErrFull", n, err)
	}
	if _, err := f.WriteAt([]byte("abcd"), 0); err != nil {
		t.Errorf("second write: %v", err)
	}
	c.Set(FailWith(ErrFault).On("sync").Under("b"))
	must(t, f.Sync())
	if c.Faults() != 1 {
		t.Errorf("Faults = %d, want 1", c.Faults())
	}
}
