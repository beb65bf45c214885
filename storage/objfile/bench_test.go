package objfile

import (
	"crypto/md5"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// benchCapacity keeps a benchmark that is told to run for long from filling the disk: it fails instead.
const benchCapacity = 16 << 30

// BenchmarkPut writes objects with several writers at once, every one durable. The MD5 is computed before: it is the caller's.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct{ size, writers int }{{1 << 10, 1}, {1 << 10, 64}, {64 << 10, 16}, {256 << 10, 16}, {1 << 20, 16}, {64 << 20, 1}} {
		b.Run(fmt.Sprintf("size=%dKiB/writers=%d", c.size>>10, c.writers), func(b *testing.B) {
			s := openStore(b, b.TempDir(), Config{ScrubRate: -1, Capacity: benchCapacity})
			data := storagetest.Data(1, c.size)
			sums := storagetest.SumsOf(data)
			var took []time.Duration
			var mu sync.Mutex
			b.SetBytes(int64(c.size))
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for range c.writers {
				wg.Go(func() {
					var mine []time.Duration
					for left.Add(-1) >= 0 {
						start := time.Now()
						if _, err := storagetest.PutWith(b.Context(), s, storagetest.NewID(), data, sums.Size, sums, 1<<20); err != nil {
							b.Error(err)
							return
						}
						mine = append(mine, time.Since(start))
					}
					mu.Lock()
					took = append(took, mine...)
					mu.Unlock()
				})
			}
			wg.Wait()
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
			if len(took) > 0 {
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			}
		})
	}
}

// BenchmarkPutMD5 is one stream with the MD5 computed beside it, as a front end does.
func BenchmarkPutMD5(b *testing.B) {
	s := openStore(b, b.TempDir(), Config{ScrubRate: -1, Capacity: benchCapacity})
	data := storagetest.Data(1, 64<<20)
	sums := storagetest.SumsOf(data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		w, err := s.Create(b.Context(), storagetest.NewID(), storage.CreateOptions{Size: sums.Size})
		if err != nil {
			b.Fatal(err)
		}
		h := md5.New()
		var wg sync.WaitGroup
		wg.Go(func() { h.Write(data) })
		for p := range slices.Chunk(data, 256<<10) {
			if _, err := w.Write(p); err != nil {
				b.Fatal(err)
			}
		}
		wg.Wait()
		if _, err := w.Commit(b.Context(), sums); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGet reads whole objects, from the page cache, every byte verified.
func BenchmarkGet(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("size=%dKiB", size>>10), func(b *testing.B) {
			s := openStore(b, b.TempDir(), Config{ScrubRate: -1, DirectFrom: -1, Capacity: benchCapacity})
			data := storagetest.Data(1, size)
			ids := make([]storage.ObjectID, min(2000, (256<<20)/size))
			var wg sync.WaitGroup
			for g := range 16 {
				wg.Go(func() {
					for i := g; i < len(ids); i += 16 {
						ids[i] = storagetest.NewID()
						if _, err := storagetest.Put(b.Context(), s, ids[i], data); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.SetBytes(int64(size))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r, _, err := s.Open(b.Context(), ids[rand.IntN(len(ids))], 0, -1)
					if err == nil {
						_, err = io.Copy(io.Discard, r)
						r.Close()
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "gets/s")
		})
	}
}
