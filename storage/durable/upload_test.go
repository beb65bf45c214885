package durable

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

var sizes = []int{0, 1, 4096, 4097, 64 << 10, 64<<10 + 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 1<<20 + 3, 5 << 20}

func TestPutGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 4)
		defer c.close()
		for _, size := range sizes {
			for _, copies := range []int{1, 2, 3} {
				for _, known := range []bool{true, false} {
					data := storagetest.Data(uint64(size), size)
					announced := int64(-1)
					if known {
						announced = int64(size)
					}
					loc, err := c.put(data, announced, copies)
					if err != nil {
						t.Fatalf("put %d bytes, known %v, %d copies: %v", size, known, copies, err)
					}
					if loc.Size != int64(size) || loc.MD5 != md5.Sum(data) {
						t.Errorf("put %d bytes: stored %+v", size, loc)
					}
					if diff := cmp.Diff(names(loc.Sharks), c.holders(loc.ID)); diff != "" || len(loc.Sharks) != copies {
						t.Errorf("put %d bytes in %d copies: told and true places (-told +true):\n%s", size, copies, diff)
					}
					c.wantContent(loc, data)
				}
			}
		}
	})
}

// TestWriteSizes feeds the body in pieces of many sizes, through both Write and ReadFrom.
func TestWriteSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		data := storagetest.Data(7, 700<<10)
		for _, piece := range []int{1000, ChunkSize - 1, ChunkSize, ChunkSize + 1, len(data)} {
			u, err := c.store.Create(t.Context(), CreateRequest{ID: storagetest.NewID(), Size: -1, Copies: 2})
			if err != nil {
				t.Fatal(err)
			}
			half := len(data) / 2
			for p := range slices.Chunk(data[:half], piece) {
				if n, err := u.Write(p); n != len(p) || err != nil {
					t.Fatalf("Write = %d, %v", n, err)
				}
			}
			if n, err := u.ReadFrom(iotest.HalfReader(bytes.NewReader(data[half:]))); n != int64(len(data)-half) || err != nil {
				t.Fatalf("ReadFrom = %d, %v", n, err)
			}
			if sum, err := u.MD5(); err != nil || sum != md5.Sum(data) {
				t.Fatalf("MD5 = %x, %v", sum, err)
			}
			if _, err := u.Write([]byte("x")); !errors.Is(err, storage.ErrClosed) {
				t.Errorf("Write after MD5: %v", err)
			}
			stored, err := u.Commit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := u.Commit(t.Context()); !errors.Is(err, storage.ErrClosed) {
				t.Errorf("second Commit: %v", err)
			}
			u.Cancel()
			c.wantContent(Location{ID: u.id, Size: stored.Size, MD5: stored.MD5, Sharks: stored.Sharks}, data)
		}
	})
}

// TestFailurePoints lets a node fail at every point of an upload, with and without a spare node, and checks the outcome and the invariant:
// acknowledged means all copies are there, refused means none is.
func TestFailurePoints(t *testing.T) {
	type body struct {
		name  string
		size  int
		known bool
		holds bool // a node can be replaced at any time
	}
	bodies := []body{
		{"held", 10000, true, true},
		{"empty unknown", 0, false, true},
		{"one chunk", 100 << 10, false, true},
		{"two chunks", ChunkSize + 10, true, false},
		{"many chunks", 3 << 20, true, false},
	}
	points := []struct {
		step  string
		n     int
		early bool // before the second chunk has been written
	}{
		{"create", 1, true}, {"write", 1, true}, {"write", 2, true}, {"write", 3, false}, {"write", 7, false},
		{"commit", 1, false}, {"committed", 1, false},
	}
	for _, b := range bodies {
		for _, p := range points {
			for _, victims := range []int{1, 2} {
				for _, nodes := range []int{2, 3, 5} {
					t.Run(fmt.Sprintf("%s/%s %d/%d of %d fail", b.name, p.step, p.n, victims, nodes), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							c := newCluster(t, nodes)
							data := storagetest.Data(1, b.size)
							var hit int
							for _, node := range c.nodes {
								if hit++; hit > victims {
									break
								}
								node.set(failAt(p.step, p.n))
							}
							size := int64(-1)
							if b.known {
								size = int64(b.size)
							}
							loc, err := c.put(data, size, 2)
							c.close()
							reached := 0
							for _, node := range c.nodes {
								if node.hook != nil && node.at("probe") != nil {
									reached++
								}
								node.set(nil)
							}
							good := nodes - reached
							wantOK := reached == 0 || good >= 2 && (b.holds || p.early)
							if (err == nil) != wantOK {
								t.Fatalf("put: %v; %d victims reached", err, reached)
							}
							holders := c.holders(loc.ID)
							if err == nil {
								// A node that kept the copy but lost the answer may still have it: it could not be told to delete.
								for _, name := range names(loc.Sharks) {
									if !slices.Contains(holders, name) {
										t.Errorf("acknowledged copy on %s is not there, only on %v", name, holders)
									}
								}
								if len(loc.Sharks) != 2 || len(holders) != 2 {
									t.Errorf("told %v, there %v", names(loc.Sharks), holders)
								}
								c.wantContent(loc, data)
								return
							}
							if !errors.Is(err, ErrUnavailable) || !errors.Is(err, errInjected) {
								t.Errorf("error %v, want ErrUnavailable for the injected one", err)
							}
							if len(holders) != 0 {
								t.Errorf("refused object is on %v", holders)
							}
						})
					})
				}
			}
		}
	}
}

func TestSlowNodeIsReplacedAtCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		c.nodes["1.stor"].SetDelay(time.Minute)
		for _, size := range []int{100, 1 << 20} {
			start := time.Now()
			data := storagetest.Data(2, size)
			for range 5 {
				loc, err := c.put(data, int64(size), 2)
				if err != nil || slices.Contains(names(loc.Sharks), "1.stor") {
					t.Fatalf("put: %v, %v", loc.Sharks, err)
				}
			}
			if d := time.Since(start); d > 3*DefaultCreateTimeout {
				t.Errorf("5 puts of %d bytes took %v", size, d)
			}
			c.fleet.Refresh(t.Context())
		}
	})
}

func TestStalledNodeFailsUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		u, err := c.store.Create(t.Context(), CreateRequest{ID: storagetest.NewID(), Size: 8 << 20, Copies: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Cancel()
		c.nodes["2.stor"].SetDelay(time.Hour)
		start := time.Now()
		if _, err = u.ReadFrom(bytes.NewReader(make([]byte, 8<<20))); !errors.Is(err, ErrUnavailable) {
			t.Errorf("ReadFrom: %v", err)
		}
		if d := time.Since(start); d > DefaultStallTimeout+DefaultCreateTimeout {
			t.Errorf("noticed after %v", d)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, func(cfg *Config) { cfg.MaxInFlight, cfg.MaxPerUpload = 8*ChunkSize, 4*ChunkSize })
		defer c.close()
		c.nodes["2.stor"].SetDelay(time.Second)
		begin := func() (*Upload, error) {
			return c.store.Create(t.Context(), CreateRequest{ID: storagetest.NewID(), Size: 10 << 20, Copies: 2})
		}
		u, err := begin()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, err := u.ReadFrom(bytes.NewReader(make([]byte, 10<<20)))
			done <- err
		}()
		synctest.Wait()
		if n := c.store.Metrics().BytesInFlight; n != 4*ChunkSize {
			t.Errorf("one upload to a slow node holds %d chunks, want 4", n/ChunkSize)
		}
		u2, err := begin()
		if err != nil {
			t.Fatal(err)
		}
		u3, err := begin()
		if err != nil {
			t.Fatal(err)
		}
		defer u3.Cancel()
		if _, err = begin(); !errors.Is(err, ErrBusy) {
			t.Errorf("fourth upload: %v, want ErrBusy", err)
		}
		if _, err = c.put(nil, 0, 1); !errors.Is(err, ErrBusy) {
			t.Errorf("small upload: %v, want ErrBusy", err)
		}
		u2.Cancel()
		if _, err = c.put([]byte("x"), 1, 1); err != nil {
			t.Errorf("after a cancellation: %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := u.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCreateRefusals(t *testing.T) {
	big := int64(1 << 30)
	tests := []struct {
		name    string
		prepare func(c *cluster)
		req     CreateRequest
		want    error
	}{
		{"no copies", nil, CreateRequest{Size: 1}, storage.ErrInvalid},
		{"negative size", nil, CreateRequest{Size: -2, Copies: 1}, storage.ErrInvalid},
		{"over its own limit", nil, CreateRequest{Size: 2, MaxSize: 1, Copies: 1}, ErrTooLarge},
		{"too many copies", nil, CreateRequest{Size: 1, Copies: 3}, ErrNotEnoughSpace},
		{"too large for any node", nil, CreateRequest{Size: 2 * big, Copies: 1}, ErrNotEnoughSpace},
		{"too large when it streams", nil, CreateRequest{Size: -1, Room: 2 * big, Copies: 1}, ErrNotEnoughSpace},
		{"limit beyond any node's room", nil, CreateRequest{Size: -1, MaxSize: 2 * big, Copies: 1}, nil},
		{"full since the last report", func(c *cluster) { c.each((*hooked).full) }, CreateRequest{Size: 1 << 20, Copies: 1}, ErrNotEnoughSpace},
		{"read-only since the last report", func(c *cluster) { c.each(func(h *hooked) { h.SetReadOnly("test") }) }, CreateRequest{Size: 1 << 20, Copies: 1}, ErrNotEnoughSpace},
		{"one full, one dead", func(c *cluster) { c.nodes["1.stor"].full(); c.nodes["2.stor"].Kill() }, CreateRequest{Size: 1 << 20, Copies: 1}, ErrUnavailable},
		{"all dead, unnoticed", func(c *cluster) { c.each(func(h *hooked) { h.Kill() }) }, CreateRequest{Size: 1 << 20, Copies: 2}, ErrUnavailable},
		{"all dead, noticed", func(c *cluster) { c.each(func(h *hooked) { h.Kill() }); c.fleet.Refresh(c.t.Context()) }, CreateRequest{Size: 1, Copies: 2}, ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 2)
				defer c.close()
				if tt.prepare != nil {
					tt.prepare(c)
				}
				tt.req.ID = storagetest.NewID()
				u, err := c.store.Create(t.Context(), tt.req)
				if !errors.Is(err, tt.want) {
					t.Errorf("Create: %v, want %v", err, tt.want)
				}
				if err == nil {
					u.Cancel()
				}
			})
		})
	}
}

func (c *cluster) each(f func(*hooked)) {
	for _, h := range c.nodes {
		f(h)
	}
}

func (h *hooked) full() { h.SetCapacity(0) }

func TestSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		for _, size := range []int64{10, 1 << 20} {
			for name, tt := range map[string]struct {
				req  CreateRequest
				body int64
				want error
			}{
				"short":                    {CreateRequest{Size: size}, size - 1, ErrSize},
				"long":                     {CreateRequest{Size: size}, size + 1, ErrSize},
				"unknown beyond the limit": {CreateRequest{Size: -1, MaxSize: size}, size + 1, ErrTooLarge},
				"unknown at the limit":     {CreateRequest{Size: -1, MaxSize: size}, size, nil},
			} {
				for _, way := range []string{"Write", "ReadFrom"} {
					tt.req.ID, tt.req.Copies = storagetest.NewID(), 2
					u, err := c.store.Create(t.Context(), tt.req)
					if err != nil {
						t.Fatal(err)
					}
					var n int64
					if way == "Write" {
						var k int
						k, err = u.Write(make([]byte, tt.body))
						n = int64(k)
					} else {
						n, err = u.ReadFrom(bytes.NewReader(make([]byte, tt.body)))
					}
					if n > size {
						t.Errorf("%s %s: took %d bytes", way, name, n)
					}
					if err == nil {
						_, err = u.Commit(t.Context())
					}
					u.Cancel()
					if !errors.Is(err, tt.want) {
						t.Errorf("%s %s: %v, want %v", way, name, err, tt.want)
					}
					if holders := c.holders(u.id); (len(holders) > 0) != (tt.want == nil) {
						t.Errorf("%s %s: copies on %v", way, name, holders)
					}
				}
			}
		}
	})
}

func TestClientGoesAway(t *testing.T) {
	gone := errors.New("client went away")
	for _, size := range []int64{1000, 4 << 20} {
		for _, when := range []string{"create", "middle", "commit"} {
			t.Run(fmt.Sprint(size, when), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCluster(t, 3)
					c.each(func(h *hooked) { h.SetDelay(10 * time.Millisecond) })
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					if when == "create" {
						cancel(gone)
					}
					u, err := c.store.Create(ctx, CreateRequest{ID: storagetest.NewID(), Size: size, Copies: 2})
					if err == nil {
						if when == "middle" {
							u.Write(make([]byte, size/2))
							cancel(gone)
							time.Sleep(time.Second)
						}
						_, err = u.ReadFrom(io.LimitReader(zeros{}, size))
						if err == nil {
							if when == "commit" {
								time.AfterFunc(5*time.Millisecond, func() { cancel(gone) })
							}
							_, err = u.Commit(ctx)
						}
						u.Cancel()
					}
					if !errors.Is(err, gone) && !(when == "middle" && errors.Is(err, ErrSize)) {
						t.Errorf("error %v, want the client's", err)
					}
					c.close()
					if u != nil {
						if h := c.holders(u.id); len(h) != 0 {
							t.Errorf("copies on %v", h)
						}
					}
					for name := range c.nodes {
						if c.fleet.Standing(name) != Up {
							t.Errorf("%s is blamed for it", name)
						}
					}
				})
			})
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestCreateOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 4)
		on := []storage.Shark{{Datacenter: "dc", Node: "2.stor"}, {Datacenter: "dc", Node: "4.stor"}}
		put := func(size int) (Location, error) {
			u, err := c.store.CreateOn(t.Context(), storagetest.NewID(), int64(size), on)
			if err != nil {
				return Location{}, err
			}
			defer u.Cancel()
			if _, err := u.Write(storagetest.Data(1, size)); err != nil {
				return Location{ID: u.id}, err
			}
			stored, err := u.Commit(t.Context())
			return Location{ID: u.id, Size: stored.Size, MD5: stored.MD5, Sharks: stored.Sharks}, err
		}
		for _, size := range []int{100, 1 << 20} {
			loc, err := put(size)
			if err != nil || !slices.Equal(loc.Sharks, on) {
				t.Fatalf("%v, %v", loc, err)
			}
			c.wantContent(loc, storagetest.Data(1, size))
		}
		c.nodes["4.stor"].Kill()
		for _, size := range []int{100, 1 << 20} {
			loc, err := put(size)
			synctest.Wait()
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("with a dead node: %v, %v", loc, err)
			} else if loc.ID != (storage.ObjectID{}) && len(c.holders(loc.ID)) > 0 {
				t.Errorf("copies are left on %v", c.holders(loc.ID))
			}
		}
		c.close()
	})
}

func TestClosedStore(t *testing.T) {
	c := newCluster(t, 1)
	c.close()
	if _, err := c.put(nil, 0, 1); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Create after Close: %v", err)
	}
}

func TestConfig(t *testing.T) {
	nodes := newCluster(t, 1).fleet
	for _, cfg := range []Config{{}, {Nodes: nodes, HeldSize: 1 << 20}, {Nodes: nodes, MaxPerUpload: ChunkSize},
		{Nodes: nodes, MaxInFlight: 2 * ChunkSize, MaxPerUpload: 3 * ChunkSize}, {Nodes: nodes, StallTimeout: -1}} {
		if _, err := New(cfg); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("New(%+v): %v", cfg, err)
		}
	}
}
