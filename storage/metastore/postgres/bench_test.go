package postgres

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/postgres/pgtest"
)

const benchRecords = 100_000

func benchValue(i int) []byte {
	b := make([]byte, 0, 400)
	b = append(strconv.AppendInt(append(b, `{"owner":"u`...), int64(i%1000), 10), `","type":"object","size":`...)
	return append(append(append(strconv.AppendInt(b, int64(i), 10), `,"pad":"`...), pad...), `"}`...)
}

var pad = strings.Repeat("x", 340)

func benchKey(i int) metastore.Key {
	return metastore.Key{Partition: fmt.Sprintf("dir%05d", i/10_000), Name: fmt.Sprintf("object-%010d", i)}
}

func benchStore(b *testing.B) *Store {
	b.Helper()
	s := fresh(b, pgtest.Start(b, pgtest.Config{Durable: true}), Config{Connections: 64})
	if err := s.Define(b.Context(), metastore.Bucket{Name: "objects"}); err != nil {
		b.Fatal(err)
	}
	for i := 0; i < benchRecords; {
		var batch metastore.Batch
		for range 2000 {
			batch = append(batch, metastore.Put{Bucket: "objects", Key: benchKey(i), Value: benchValue(i)})
			i++
		}
		if _, err := s.Commit(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := s.pool.Exec(b.Context(), "ANALYZE"); err != nil {
		b.Fatal(err)
	}
	return s
}

func writers(b *testing.B, n int, work func(i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range n {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > b.N {
					return
				}
				if err := work(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func Benchmark(b *testing.B) {
	s := benchStore(b)
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("Insert/writers=", n), func(b *testing.B) {
			run := rand.Uint64()
			writers(b, n, func(i int) error {
				key := metastore.Key{Partition: fmt.Sprintf("new%05d", i%100), Name: fmt.Sprintf("%x-%d", run, i)}
				_, err := s.Commit(b.Context(), metastore.Batch{metastore.Put{Bucket: "objects", Key: key, Value: benchValue(i), If: metastore.Absent()}})
				return err
			})
		})
		b.Run(fmt.Sprint("Swap/writers=", n), func(b *testing.B) {
			writers(b, n, func(i int) error {
				key := benchKey(rand.IntN(benchRecords))
				r, err := s.Get(b.Context(), "objects", key)
				if err == nil {
					_, err = s.Commit(b.Context(), metastore.Batch{metastore.Put{Bucket: "objects", Key: key, Value: benchValue(i), If: metastore.EtagIs(r.Etag)}})
				}
				if errors.Is(err, metastore.ErrConflict) {
					return nil // somebody was quicker
				}
				return err
			})
		})
	}
	b.Run("Get", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Get(b.Context(), "objects", benchKey(rand.IntN(benchRecords))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("List", func(b *testing.B) {
		for b.Loop() {
			key := benchKey(rand.IntN(benchRecords/10_000)*10_000 + rand.IntN(9000))
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
