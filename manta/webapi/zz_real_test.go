package webapi

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
	"github.com/mobulacloud/mobula/storage/objfile"
)

func realWorld(b *testing.B) *world {
	store, err := pebble.Open(b.TempDir(), pebble.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	fleet := map[storage.Shark]storage.Node{}
	for _, n := range []string{"1", "2"} {
		s, err := objfile.Open(b.TempDir(), objfile.Config{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		fleet[storage.Shark{Datacenter: "dc", Node: n}] = s
	}
	return newWorld(b, worldOptions{store: store, fleet: fleet})
}

func BenchmarkRealPut1K(b *testing.B) {
	w := realWorld(b)
	body := bytes.Repeat([]byte("x"), 1024)
	var n atomic.Int64
	h := w.request(call{as: "alice", method: "PUT", path: "/alice/stor/x"}).Header
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	cl := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, _ := http.NewRequest("PUT", fmt.Sprintf("%s/alice/stor/%d", w.web.URL, n.Add(1)%5000), bytes.NewReader(body))
			r.Header = h
			resp, err := cl.Do(r)
			if err != nil || resp.StatusCode != 204 {
				b.Fatal(err, resp)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}
