package durable

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"testing"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// sink is a node that keeps nothing, so that what is measured is this package.
type sink struct{ storage.Node }

func (sink) Create(context.Context, storage.ObjectID, storage.CreateOptions) (storage.Writer, error) {
	return sinkWriter{}, nil
}

func (sink) Usage(context.Context) (storage.Usage, error) {
	return storage.Usage{Capacity: 1 << 40, Available: 1 << 40}, nil
}

func (s sink) Open(_ context.Context, _ storage.ObjectID, off, n int64) (io.ReadCloser, storage.Info, error) {
	return io.NopCloser(bytes.NewReader(benchData[off : off+n])), storage.Info{Size: int64(len(benchData)), CRC32C: benchCRC}, nil
}

type sinkWriter struct{}

func (sinkWriter) Write(p []byte) (int, error) { return len(p), nil }
func (sinkWriter) Commit(_ context.Context, sums storage.Sums) (storage.Info, error) {
	return storage.Info{Size: sums.Size}, nil
}
func (sinkWriter) Cancel() {}

func benchStore(b *testing.B, nodes int) *Store {
	set := map[storage.Shark]storage.Node{}
	for i := range nodes {
		set[storage.Shark{Datacenter: "dc", Node: fmt.Sprint(i)}] = sink{}
	}
	fleet, err := OpenStatic(b.Context(), picker.Config{}, set)
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(Config{Nodes: fleet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20, 64 << 20} {
		for _, copies := range []int{1, 2} {
			b.Run(fmt.Sprintf("size=%d/copies=%d", size, copies), func(b *testing.B) {
				s := benchStore(b, 4)
				body := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					u, err := s.Create(b.Context(), CreateRequest{Size: int64(size), Copies: copies})
					if err != nil {
						b.Fatal(err)
					}
					if _, err := u.ReadFrom(bytes.NewReader(body)); err != nil {
						b.Fatal(err)
					}
					if _, err := u.Commit(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, size := range []int64{1 << 10, 1 << 20} {
		b.Run(fmt.Sprint("size=", size), func(b *testing.B) {
			s := benchStore(b, 2)
			loc := Location{Size: int64(len(benchData)), Sharks: []storage.Shark{{Datacenter: "dc", Node: "0"}, {Datacenter: "dc", Node: "1"}}}
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				r, err := s.Open(b.Context(), loc, 0, size)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); n != size || err != nil {
					b.Fatal(n, err)
				}
				r.Close()
			}
		})
	}
}

var (
	benchData = make([]byte, 1<<20)
	benchCRC  = crc32.Checksum(benchData, castagnoli)
)

// BenchmarkPutOnDisk has many clients put to engines that share one disk.
func BenchmarkPutOnDisk(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		for _, copies := range []int{1, 2} {
			b.Run(fmt.Sprintf("size=%d/copies=%d", size, copies), func(b *testing.B) {
				set := map[storage.Shark]storage.Node{}
				for i := range 2 {
					engine, err := objfile.Open(b.TempDir(), objfile.Config{})
					if err != nil {
						b.Fatal(err)
					}
					defer engine.Close()
					set[storage.Shark{Datacenter: "dc", Node: fmt.Sprint(i)}] = engine
				}
				fleet, err := OpenStatic(b.Context(), picker.Config{MaxPercentUsed: 100}, set)
				if err != nil {
					b.Fatal(err)
				}
				s, err := New(Config{Nodes: fleet})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				body := storagetest.Data(1, size)
				b.SetBytes(int64(size))
				b.SetParallelism(32)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						u, err := s.Create(b.Context(), CreateRequest{ID: storagetest.NewID(), Size: int64(size), Copies: copies})
						if err != nil {
							b.Error(err)
							return
						}
						u.Write(body)
						if _, err := u.Commit(b.Context()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
