package pebble

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

var benchRecords = flag.Int("records", 1_000_000, "records in the store that the benchmarks read and change")

// benchValue is a record of 400 bytes with two indexed fields, as anchors for other engines were taken with.
func benchValue(i int) []byte {
	b := make([]byte, 0, 400)
	b = append(strconv.AppendInt(append(b, `{"owner":"u`...), int64(i%1000), 10), `","type":"object","size":`...)
	return append(append(append(strconv.AppendInt(b, int64(i), 10), `,"pad":"`...), pad...), `"}`...)
}

var pad = strings.Repeat("x", 340)

const benchDirectory = 10_000 // records in a partition

func benchKey(i int) metastore.Key {
	return metastore.Key{Partition: fmt.Sprintf("dir%05d", i/benchDirectory), Name: fmt.Sprintf("object-%010d", i)}
}

// benchDir makes the big store once for all benchmarks of a run.
var benchDir = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "metastore-bench")
	if err != nil {
		return "", err
	}
	benchMade = dir
	s, err := Open(dir, Config{})
	if err != nil {
		return "", err
	}
	defer s.Close()
	if err := s.Define(context.Background(), metastore.Bucket{Name: "objects"}); err != nil {
		return "", err
	}
	for i := 0; i < *benchRecords; {
		var b metastore.Batch
		for range 1000 {
			b = append(b, metastore.Put{Bucket: "objects", Key: benchKey(i), Value: benchValue(i)})
			i++
		}
		if _, err := s.Commit(context.Background(), b); err != nil {
			return "", err
		}
	}
	if err := s.db.Flush(); err != nil {
		return "", err
	}
	for range 100 {
		if time.Sleep(100 * time.Millisecond); s.db.Metrics().Compact.NumInProgress == 0 {
			break
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	flag.Parse()
	if childMain() {
		return
	}
	code := m.Run()
	if benchMade != "" {
		os.RemoveAll(benchMade)
	}
	os.Exit(code)
}

var benchMade string // the big store's directory, to be removed

func openBench(b *testing.B, c Config) *Store {
	b.Helper()
	dir, err := benchDir()
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(dir, c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func writers(b *testing.B, n int, work func(w, i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range n {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > b.N {
					return
				}
				if err := work(w, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkSync is the floor: one writer appending 512 bytes to a file and syncing it.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 512)
	for b.Loop() {
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func BenchmarkInsert(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("writers=", n), func(b *testing.B) {
			s := openBench(b, Config{})
			run := rand.Uint64()
			writers(b, n, func(_, i int) error {
				key := metastore.Key{Partition: fmt.Sprintf("new%05d", i%100), Name: fmt.Sprintf("%x-%d", run, i)}
				_, err := s.Commit(b.Context(), metastore.Batch{metastore.Put{Bucket: "objects", Key: key, Value: benchValue(i), If: metastore.Absent()}})
				return err
			})
		})
	}
}

// BenchmarkCreate is what a new object costs the namespace: the parent checked, the record put, the directory's count raised,
// two indexes kept.
func BenchmarkCreate(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("writers=", n), func(b *testing.B) {
			s := openBench(b, Config{})
			bucket := metastore.Bucket{Name: "indexed", Indexes: []metastore.Index{{Field: "owner", Type: metastore.String}, {Field: "size", Type: metastore.Number, PerPartition: true}}}
			if err := s.Define(b.Context(), bucket); err != nil {
				b.Fatal(err)
			}
			parent := metastore.Key{Partition: "parent", Name: "dir"}
			if _, err := s.Commit(b.Context(), metastore.Batch{metastore.Put{Bucket: "indexed", Key: parent, Value: []byte(`{}`)}}); err != nil {
				b.Fatal(err)
			}
			run := rand.Uint64()
			writers(b, n, func(_, i int) error {
				key := metastore.Key{Partition: fmt.Sprintf("new%05d", i%100), Name: fmt.Sprintf("%x-%d", run, i)}
				_, err := s.Commit(b.Context(), metastore.Batch{
					metastore.Check{Bucket: "indexed", Key: parent, If: metastore.Present()},
					metastore.Put{Bucket: "indexed", Key: key, Value: benchValue(i), If: metastore.Absent()},
					metastore.Add{Bucket: "indexed", Key: metastore.Key{Partition: key.Partition}, Delta: 1},
				})
				return err
			})
		})
	}
}

func BenchmarkSwap(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("writers=", n), func(b *testing.B) {
			s := openBench(b, Config{})
			writers(b, n, func(_, i int) error {
				for {
					key := benchKey(rand.IntN(*benchRecords))
					r, err := s.Get(b.Context(), "objects", key)
					if err != nil {
						return err
					}
					_, err = s.Commit(b.Context(), metastore.Batch{metastore.Put{Bucket: "objects", Key: key, Value: benchValue(i), If: metastore.EtagIs(r.Etag)}})
					if !errors.Is(err, metastore.ErrConflict) {
						return err
					}
				}
			})
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := openBench(b, Config{})
	for b.Loop() {
		if _, err := s.Get(b.Context(), "objects", benchKey(rand.IntN(*benchRecords))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkList reads pages of 1,000 at random places of 1 M.
func BenchmarkList(b *testing.B) {
	for _, cache := range []int64{0, 512 << 20} {
		b.Run(fmt.Sprintf("cache=%dMB", max(16, cache>>20)), func(b *testing.B) {
			s := openBench(b, Config{CacheSize: cache})
			b.ReportAllocs()
			for b.Loop() {
				key := benchKey(rand.IntN(*benchRecords/benchDirectory)*benchDirectory + rand.IntN(benchDirectory-1000))
				n := 0
				for _, err := range s.Find(b.Context(), "objects", metastore.Query{Partition: &key.Partition, From: key.Name, Limit: 1000}) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != 1000 {
					b.Fatalf("listed %d", n)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	openBench(b, Config{}).Close()
	dir, _ := benchDir()
	for b.Loop() {
		s, err := Open(dir, Config{})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
