package nodehttp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-0", "bytes=5-", "bytes=-5", "bytes=1-0", "bytes=--1", "bytes=9223372036854775807-9223372036854775807", "bytes=+1-2", "bytes=", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, ok := parseRange(s)
		if !ok {
			return
		}
		if first < -1 || last < -1 || first == -1 && last < 0 || first >= 0 && last >= 0 && first > last {
			t.Errorf("parseRange(%q) = %d, %d", s, first, last)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add("1", "AAAAAAAAAAAAAAAAAAAAAA==", "00000000", "1", "corrupt", `{"code":"x","message":"y"}`)
	f.Add("-1", "", "zz", "", "", "{")
	f.Fuzz(func(t *testing.T, size, md5, crc, created, code, body string) {
		h := http.Header{headerSize: {size}, headerComputedMD5: {md5}, headerCRC: {crc}, headerCreated: {created}, headerVerified: {created}, headerError: {code}}
		if info, err := readInfo(h, storage.ObjectID{}); err == nil && info.Size < 0 {
			t.Errorf("size %d", info.Size)
		}
		resp := &http.Response{StatusCode: 500, Header: h, Body: io.NopCloser(strings.NewReader(body))}
		if err := answerError(resp); err == nil {
			t.Error("no error")
		}
	})
}

// TestOneConnection: whoever reads and writes to the end keeps the connection.
func TestOneConnection(t *testing.T) {
	n := storagetest.NewMemNode(storagetest.MemConfig{})
	var conns atomic.Int64
	addr := serve(t, HandlerConfig{Node: n}, nil)
	c := client(t, ClientConfig{URL: "http://" + addr, Dial: func(ctx context.Context, network, a string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, a)
		conns.Add(1)
		return conn, err
	}})
	data := storagetest.Data(1, 1<<20)
	for i := range 20 {
		size := []int{100, 1 << 20}[i%2]
		id := storagetest.NewID()
		if _, err := storagetest.Put(t.Context(), c, id, data[:size]); err != nil {
			t.Fatalf("put %d of %d bytes: %v", i, size, err)
		}
		if got, _, err := storagetest.Get(t.Context(), c, id, 0, -1); err != nil || !bytes.Equal(got, data[:size]) {
			t.Fatalf("get %d: %v", i, err)
		}
	}
	if k := conns.Load(); k != 1 {
		t.Errorf("40 requests in a row took %d connections, want 1", k)
	}
}

// TestClosedIdleConnection: a connection that the node has closed while it was idle is no reason to fail.
func TestClosedIdleConnection(t *testing.T) {
	n := storagetest.NewMemNode(storagetest.MemConfig{})
	c := client(t, ClientConfig{URL: "http://" + serve(t, HandlerConfig{Node: n}, &Server{IdleTimeout: time.Millisecond})})
	data := storagetest.Data(1, 1<<20)
	for i := range 100 {
		if _, err := storagetest.Put(t.Context(), c, storagetest.NewID(), data[:[]int{100, 1 << 20}[i%2]]); err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
		for start := time.Now(); time.Since(start) < 900*time.Microsecond+time.Duration(i)*4*time.Microsecond; { // around the moment of closing
			runtime.Gosched()
		}
	}
}

func BenchmarkPut(b *testing.B) {
	for _, c := range []struct{ size, writers int }{{1 << 10, 1}, {1 << 10, 64}, {64 << 10, 16}, {1 << 20, 16}, {64 << 20, 1}} {
		b.Run(fmt.Sprintf("size=%dKiB/writers=%d", c.size>>10, c.writers), func(b *testing.B) {
			n := discard{storagetest.NewMemNode(storagetest.MemConfig{})}
			cl := client(b, ClientConfig{URL: "http://" + serve(b, HandlerConfig{Node: n}, nil)})
			data := storagetest.Data(1, c.size)
			sums := storagetest.SumsOf(data)
			b.SetBytes(int64(c.size))
			var left atomic.Int64
			left.Store(int64(b.N))
			var mu sync.Mutex
			var took []time.Duration
			b.ResetTimer()
			var wg sync.WaitGroup
			for range c.writers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						start := time.Now()
						if _, err := storagetest.PutWith(b.Context(), cl, storagetest.NewID(), data, sums.Size, sums, 256<<10); err != nil {
							b.Error(err)
							return
						}
						mu.Lock()
						took = append(took, time.Since(start))
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("size=%dKiB", size>>10), func(b *testing.B) {
			n := storagetest.NewMemNode(storagetest.MemConfig{})
			cl := client(b, ClientConfig{URL: "http://" + serve(b, HandlerConfig{Node: n}, nil)})
			id := storagetest.NewID()
			if _, err := storagetest.Put(b.Context(), n, id, storagetest.Data(1, size)); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.SetParallelism(8)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, 256<<10)
				for pb.Next() {
					r, _, err := cl.Open(b.Context(), id, 0, -1)
					for err == nil {
						_, err = r.Read(buf)
					}
					r.Close()
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "gets/s")
		})
	}
}

// discard is a node that takes all and keeps nothing, so that a benchmark shows the way to it.
type discard struct{ storage.Node }

func (discard) Create(_ context.Context, id storage.ObjectID, _ storage.CreateOptions) (storage.Writer, error) {
	return discardWriter{id}, nil
}

type discardWriter struct{ id storage.ObjectID }

func (discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w discardWriter) Commit(_ context.Context, s storage.Sums) (storage.Info, error) {
	return storage.Info{ID: w.id, Size: s.Size, MD5: s.MD5, CRC32C: s.CRC32C, Created: time.Now(), Verified: time.Now()}, nil
}
func (discardWriter) Cancel() {}
