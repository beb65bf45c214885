package durable

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/nodehttp"
	"github.com/mobulacloud/mobula/storage/objfile"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// TestRealNodes puts everything together as a cloud does: engines on disks, behind HTTP, and damage done to their files.
func TestRealNodes(t *testing.T) {
	dirs := map[string]string{}
	servers := map[string]*httptest.Server{}
	set := map[storage.Shark]storage.Node{}
	for i := range 3 {
		name := fmt.Sprint(i, ".stor")
		dirs[name] = t.TempDir()
		engine, err := objfile.Open(dirs[name], objfile.Config{ScrubRate: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { engine.Close() })
		handler, err := nodehttp.NewHandler(nodehttp.HandlerConfig{Node: engine})
		if err != nil {
			t.Fatal(err)
		}
		servers[name] = httptest.NewServer(handler)
		t.Cleanup(servers[name].Close)
		client, err := nodehttp.NewClient(nodehttp.ClientConfig{URL: servers[name].URL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		set[storage.Shark{Datacenter: "dc", Node: name}] = client
	}
	fleet, err := OpenStatic(t.Context(), picker.Config{StreamingSize: 1, MaxPercentUsed: 100}, set)
	if err != nil {
		t.Fatal(err)
	}
	var damaged []Damage
	// Other tests may have the machine, too: only a dead node may count as one.
	store, err := New(Config{Nodes: fleet, CreateTimeout: time.Minute, StallTimeout: time.Minute,
		Damaged: func(d Damage) { damaged = append(damaged, d) }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		store.Close()
		if n := store.Metrics().BytesInFlight; n != 0 {
			t.Errorf("%d bytes in flight at the end", n)
		}
	}()
	c := &cluster{t: t, store: store}

	for _, size := range []int{1, 5000, 64 << 10, 200_000, 3 << 20} {
		for _, announced := range []int64{int64(size), -1} {
			data := storagetest.Data(uint64(size), size)
			loc, err := c.put(data, announced, 2)
			if err != nil {
				t.Fatalf("put %d: %v", size, err)
			}
			c.wantContent(loc, data)
			if got, err := c.get(loc, int64(size/3), int64(size/2)); err != nil || !bytes.Equal(got, data[size/3:size/3+size/2]) {
				t.Errorf("range of %d: %d bytes, %v", size, len(got), err)
			}
		}
	}

	// A bit rots in the file of one copy.
	data := storagetest.Data(99, 2<<20)
	loc := c.mustPut(data, 2)
	victim := loc.Sharks[0].Node
	files, err := filepath.Glob(filepath.Join(dirs[victim], "*", loc.ID.Owner.String(), loc.ID.Object.String()+"*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files of the object: %v, %v", files, err)
	}
	if err := os.Chmod(files[0], 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var one [1]byte
	if _, err := f.ReadAt(one[:], 1<<20); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 4
	if _, err := f.WriteAt(one[:], 1<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for i := 0; i < 40 && len(damaged) == 0; i++ {
		c.wantContent(loc, data)
	}
	if len(damaged) != 1 || damaged[0].Shark.Node != victim {
		t.Fatalf("damage reported: %v", damaged)
	}
	if _, err := store.Repair(t.Context(), loc); err != nil {
		t.Fatal(err)
	}
	if err := store.Verify(t.Context(), loc); err != nil {
		t.Errorf("after the repair: %v", err)
	}

	// A node dies under a read and for good.
	r, err := store.Open(t.Context(), loc, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 100_000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	dead := r.(*reader).cur.src.shark.Node
	servers[dead].CloseClientConnections()
	servers[dead].Listener.Close()
	tail, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(head, tail...), data) {
		t.Errorf("read over a death: %d bytes, %v", len(head)+len(tail), err)
	}
	fleet.SetLost(dead, true)
	moved, err := store.Repair(t.Context(), loc)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range moved.Sharks {
		if s.Node == dead {
			t.Errorf("copies on %v, and %s is dead", moved.Sharks, dead)
		}
	}
	c.wantContent(moved, data)
	if loc, err := c.put(data, int64(len(data)), 2); err != nil {
		t.Errorf("put with a node less: %v", err)
	} else {
		c.wantContent(loc, data)
	}
}
