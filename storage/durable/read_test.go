package durable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

func TestRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		data := storagetest.Data(3, 300<<10)
		loc := c.mustPut(data, 2)
		size := int64(len(data))
		for _, r := range [][2]int64{{0, -1}, {0, 0}, {0, 1}, {size - 1, 1}, {size, 0}, {size, -1}, {65535, 2}, {100, 200000}} {
			want := data[r[0]:]
			if r[1] >= 0 {
				want = want[:r[1]]
			}
			if got, err := c.get(loc, r[0], r[1]); err != nil || !bytes.Equal(got, want) {
				t.Errorf("range %v: %d bytes, %v", r, len(got), err)
			}
		}
		for _, r := range [][2]int64{{-1, 1}, {size + 1, -1}, {size, 1}, {0, size + 1}, {1, 1<<63 - 1}} {
			if _, err := c.get(loc, r[0], r[1]); !errors.Is(err, storage.ErrInvalid) {
				t.Errorf("range %v: %v", r, err)
			}
		}
	})
}

// errAny says that the outcome depends on the order in which copies are asked.
var errAny = errors.New("any outcome")

// readers are the ways in which a caller takes the bytes.
var readers = map[string]func(io.Reader) ([]byte, error){
	"Read":    func(r io.Reader) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{r}) },
	"WriteTo": func(r io.Reader) ([]byte, error) { var b bytes.Buffer; _, err := io.Copy(&b, r); return b.Bytes(), err },
}

func TestReadFailures(t *testing.T) {
	const size = 1 << 20
	// Each case breaks the copies; the same is done with nodes whose readers write to the caller themselves.
	corrupt := func(off int64) func(*hooked, storage.ObjectID) {
		return func(h *hooked, id storage.ObjectID) { h.Corrupt(id, off) }
	}
	hook := func(step string, n int) func(*hooked, storage.ObjectID) {
		return func(h *hooked, _ storage.ObjectID) { h.set(failAt(step, n)) }
	}
	dead := func(h *hooked, _ storage.ObjectID) { h.Kill() }
	absent := func(h *hooked, id storage.ObjectID) { h.MemNode.Delete(context.Background(), id) }
	cut := func(h *hooked, _ storage.ObjectID) { h.KillAfter(300001) }
	slow := func(h *hooked, _ storage.ObjectID) { h.SetDelay(time.Hour) }
	once := func(h *hooked, _ storage.ObjectID) {
		h.set(func(step string, n int) error {
			if step == "read" && n == 2 {
				return errInjected
			}
			return nil
		})
	}
	tests := []struct {
		name   string
		breaks []func(*hooked, storage.ObjectID) // one per copy
		want   error
		damage int
	}{
		{"intact", nil, nil, 0},
		{"first block damaged", []func(*hooked, storage.ObjectID){corrupt(0)}, nil, 1},
		{"middle damaged", []func(*hooked, storage.ObjectID){corrupt(500_000)}, nil, 1},
		{"last byte damaged", []func(*hooked, storage.ObjectID){corrupt(size - 1)}, nil, 1},
		{"damaged in two places", []func(*hooked, storage.ObjectID){corrupt(500_000), corrupt(size - 1)}, nil, 2},
		{"one absent", []func(*hooked, storage.ObjectID){absent}, nil, 1},
		{"one dead", []func(*hooked, storage.ObjectID){dead}, nil, 0},
		{"one dies in the middle", []func(*hooked, storage.ObjectID){cut}, nil, 0},
		{"two die in the middle", []func(*hooked, storage.ObjectID){cut, hook("read", 9)}, nil, 0},
		{"one never answers", []func(*hooked, storage.ObjectID){slow}, nil, 0},
		{"each fails once", []func(*hooked, storage.ObjectID){once, once, once}, nil, 0},
		{"one dead, one damaged, one absent", []func(*hooked, storage.ObjectID){dead, corrupt(1), absent}, ErrUnavailable, 2},
		{"all dead", []func(*hooked, storage.ObjectID){dead, dead, dead}, ErrUnavailable, 0},
		{"all damaged in different places", []func(*hooked, storage.ObjectID){corrupt(size - 1), corrupt(500_000), corrupt(500_001)}, errAny, 3},
		{"all damaged in one place", []func(*hooked, storage.ObjectID){corrupt(500_000), corrupt(500_001), corrupt(500_002)}, ErrLost, 3},
		{"all absent", []func(*hooked, storage.ObjectID){absent, absent, absent}, ErrLost, 3},
	}
	for _, tt := range tests {
		for way, read := range readers {
			t.Run(tt.name+"/"+way, func(t *testing.T) {
				for seed := range 6 {
					synctest.Test(t, func(t *testing.T) {
						c := newCluster(t, 3)
						defer c.close()
						data := storagetest.Data(4, size)
						loc := c.mustPut(data, 3)
						for i, f := range tt.breaks {
							f(c.nodes[loc.Sharks[(i+seed)%3].Node], loc.ID)
						}
						var got []byte
						r, err := c.store.Open(t.Context(), loc, 0, -1)
						if err == nil {
							got, err = read(r)
							r.Close()
						}
						if tt.want != errAny && !errors.Is(err, tt.want) {
							t.Fatalf("read: %v, want %v", err, tt.want)
						}
						if !bytes.Equal(got, data[:len(got)]) || err == nil && len(got) != size {
							t.Errorf("read %d bytes, not those that were put", len(got))
						}
						// Copies are asked in random order, so those behind a good one may go unnoticed.
						if len(c.damaged) > tt.damage || tt.want == ErrLost && len(c.damaged) != tt.damage {
							t.Errorf("%d copies reported, want %d", len(c.damaged), tt.damage)
						}
						for _, d := range c.damaged {
							if d.Location.ID != loc.ID || !errors.Is(d.Err, storage.ErrCorrupt) && !errors.Is(d.Err, storage.ErrNotFound) {
								t.Errorf("report %+v", d)
							}
						}
					})
				}
			})
		}
	}
}

// TestWrongByteOnTheWay has a transport change a byte that the node had verified. In one read, another copy takes over; once bytes have been
// handed out, the transfer must not be complete.
func TestWrongByteOnTheWay(t *testing.T) {
	for way, read := range readers {
		for _, tt := range []struct{ size, copies int }{{500, 1}, {500, 2}, {100_000, 1}, {100_000, 2}} {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, tt.copies)
				defer c.close()
				data := storagetest.Data(5, tt.size)
				loc := c.mustPut(data, tt.copies)
				c.nodes["1.stor"].set(func(step string, n int) error {
					if step == "read" {
						return errLie
					}
					return nil
				})
				for range 6 {
					r, err := c.store.Open(t.Context(), loc, 0, -1)
					if err != nil {
						t.Fatal(err)
					}
					got, err := read(r)
					r.Close()
					if err == nil && !bytes.Equal(got, data) || len(got) == len(data) && err != nil {
						t.Errorf("%s %d bytes of %d copies: %d bytes, %v", way, tt.size, tt.copies, len(got), err)
					}
					if tt.copies == 1 && err == nil {
						t.Errorf("%s %d bytes: a wrong byte is served", way, tt.size)
					}
					if tt.copies == 2 && tt.size == 500 && err != nil {
						t.Errorf("%s: %v although there is another copy", way, err)
					}
				}
			})
		}
	}
}

// TestUnconfirmedRange reads ranges through a transport that says only at the end whether what came is right.
func TestUnconfirmedRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		data := storagetest.Data(5, 200_000)
		loc := c.mustPut(data, 2)
		c.nodes["1.stor"].set(func(step string, n int) error {
			if step == "end" {
				return errInjected
			}
			return nil
		})
		for range 6 {
			if got, err := c.get(loc, 10, 100); err != nil || !bytes.Equal(got, data[10:110]) {
				t.Errorf("short range: %d bytes, %v", len(got), err)
			}
			got, err := c.get(loc, 10, 150_000)
			if err == nil && !bytes.Equal(got, data[10:150_010]) || err != nil && len(got) == 150_000 {
				t.Errorf("long range: %d bytes, %v", len(got), err)
			}
		}
	})
}

func TestOtherContentIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		data := storagetest.Data(6, 1000)
		loc := c.mustPut(data, 2)
		impostor := c.nodes["1.stor"]
		impostor.MemNode = storagetest.NewMemNode(storagetest.MemConfig{})
		if _, err := storagetest.Put(t.Context(), impostor.MemNode, loc.ID, storagetest.Data(7, 1000)); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			c.wantContent(loc, data)
		}
		if len(c.damaged) == 0 || c.damaged[0].Shark.Node != "1.stor" {
			t.Errorf("damage: %v", c.damaged)
		}
	})
}

func TestHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		data := storagetest.Data(8, 200_000)
		loc := c.mustPut(data, 2)
		c.nodes["1.stor"].SetDelay(time.Second)
		for range 10 {
			start := time.Now()
			c.wantContent(loc, data)
			if d := time.Since(start); d > 2*DefaultHedgeAfter {
				t.Errorf("read took %v although one node is fast", d)
			}
		}
		m := c.store.Metrics()
		if m.Hedges == 0 || m.Hedges != m.HedgesWon {
			t.Errorf("hedges %d, won %d", m.Hedges, m.HedgesWon)
		}
		if c.fleet.Standing("1.stor") != Up {
			t.Error("the slow node is blamed")
		}
	})
}

func TestStalledReadGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		data := storagetest.Data(8, 500_000)
		loc := c.mustPut(data, 2)
		for i := range 4 {
			r, err := c.store.Open(t.Context(), loc, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			head := make([]byte, 1000)
			if _, err := io.ReadFull(r, head); err != nil {
				t.Fatal(err)
			}
			// Whichever copy it is, it stops in the middle.
			node := c.nodes[r.(*reader).cur.src.shark.Node]
			node.SetDelay(24 * time.Hour)
			start := time.Now()
			tail, err := readers[[]string{"Read", "WriteTo"}[i%2]](r)
			if err != nil || !bytes.Equal(append(head, tail...), data) {
				t.Errorf("read: %d bytes, %v", len(tail), err)
			}
			if d := time.Since(start); d > DefaultStallTimeout {
				t.Errorf("took %v", d)
			}
			node.SetDelay(0)
			c.fleet.Refresh(t.Context())
		}
	})
}

// TestSlowClient makes sure that a reader's own slowness is not taken for the node's.
func TestSlowClient(t *testing.T) {
	for way, read := range readers {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 1)
			defer c.close()
			loc := c.mustPut(storagetest.Data(9, 3*ChunkSize), 1)
			r, err := c.store.Open(t.Context(), loc, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			var n int64
			if way == "WriteTo" {
				n, err = io.Copy(sleepy{}, r)
			} else {
				var b []byte
				time.Sleep(time.Hour)
				b, err = read(r)
				n = int64(len(b))
			}
			if err != nil || n != loc.Size {
				t.Errorf("%s: %d bytes, %v", way, n, err)
			}
			if m := c.store.Metrics(); m.Failovers != 0 {
				t.Errorf("%s: %d failovers", way, m.Failovers)
			}
		})
	}
}

type sleepy struct{}

func (sleepy) Write(p []byte) (int, error) { time.Sleep(time.Hour); return len(p), nil }

func TestReadHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		loc := c.mustPut(make([]byte, 1<<20), 2)
		ctx, cancel := context.WithCancel(t.Context())
		r, err := c.store.Open(ctx, loc, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		c.each(func(h *hooked) { h.SetDelay(time.Minute) })
		time.AfterFunc(time.Second, cancel)
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
			t.Errorf("read: %v", err)
		}
		if _, err := c.store.Open(ctx, loc, 0, -1); !errors.Is(err, context.Canceled) {
			t.Errorf("open: %v", err)
		}
		c.each(func(h *hooked) {
			if c.fleet.Standing(h.name) != Up {
				t.Error(h.name + " is blamed")
			}
		})
	})
}

// TestWriteToOfNode reads from nodes whose readers hand their buffers on themselves.
func TestWriteToOfNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		defer c.close()
		data := storagetest.Data(10, 400_000)
		loc := c.mustPut(data, 2)
		nodes := map[storage.Shark]storage.Node{}
		for _, s := range loc.Sharks {
			nodes[s] = pusher{c.nodes[s.Node]}
		}
		var err error
		if c.store.nodes, err = OpenStatic(t.Context(), c.fleet.policy, nodes); err != nil {
			t.Fatal(err)
		}
		for i, cut := range []int64{-1, 0, 1, 100_000, 399_999} {
			node := c.nodes[loc.Sharks[i%2].Node]
			node.KillAfter(cut)
			var b bytes.Buffer
			r, err := c.store.Open(t.Context(), loc, 7, 390_000)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(&b, r)
			r.Close()
			if n != 390_000 || err != nil || !bytes.Equal(b.Bytes(), data[7:390_007]) {
				t.Errorf("cut at %d: %d bytes, %v", cut, n, err)
			}
			node.Revive()
		}
		// The destination's error is not the node's.
		r, err := c.store.Open(t.Context(), loc, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		full := errors.New("disk full")
		if n, err := io.Copy(failing{full}, r); n != 0 || !errors.Is(err, full) {
			t.Errorf("copy to a failing writer: %d, %v", n, err)
		}
		r.Close()
	})
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

type pusher struct{ storage.Node }

func (p pusher) Open(ctx context.Context, id storage.ObjectID, off, n int64) (io.ReadCloser, storage.Info, error) {
	rc, info, err := p.Node.Open(ctx, id, off, n)
	return pushReader{rc}, info, err
}

type pushReader struct{ io.ReadCloser }

func (p pushReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{p.ReadCloser})
}

func TestDeleteAndAssemble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		var parts []storage.ObjectID
		var want []byte
		first := c.mustPut(storagetest.Data(0, 1000), 2)
		for i := range 3 {
			data := storagetest.Data(uint64(i), 100_000*i+5)
			u, err := c.store.CreateOn(t.Context(), storagetest.NewID(), int64(len(data)), first.Sharks)
			if err != nil {
				t.Fatal(err)
			}
			u.Write(data)
			if _, err := u.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			parts, want = append(parts, u.id), append(want, data...)
		}
		target := storagetest.NewID()
		if _, err := c.store.Assemble(t.Context(), target, parts, first.Sharks, int64(len(want))+1); !errors.Is(err, storage.ErrChecksum) {
			t.Errorf("wrong size: %v", err)
		}
		if _, err := c.store.Assemble(t.Context(), target, append(parts, storagetest.NewID()), first.Sharks, int64(len(want))); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("absent part: %v", err)
		}
		if _, err := c.store.Assemble(t.Context(), target, parts, nil, int64(len(want))); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("no nodes: %v", err)
		}
		c.nodes[first.Sharks[0].Node].Kill()
		if _, err := c.store.Assemble(t.Context(), target, parts, first.Sharks, int64(len(want))); !errors.Is(err, ErrUnavailable) {
			t.Errorf("dead node: %v", err)
		}
		c.nodes[first.Sharks[0].Node].Revive()
		stored, err := c.store.Assemble(t.Context(), target, parts, first.Sharks, int64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		loc := Location{ID: target, Size: stored.Size, MD5: stored.MD5, Sharks: stored.Sharks}
		c.wantContent(loc, want)

		c.nodes[first.Sharks[1].Node].Kill()
		if err := c.store.Delete(t.Context(), loc); !errors.Is(err, ErrUnavailable) {
			t.Errorf("delete with a dead node: %v", err)
		}
		c.nodes[first.Sharks[1].Node].Revive()
		for range 2 {
			if err := c.store.Delete(t.Context(), loc); err != nil {
				t.Error(err)
			}
		}
		if h := c.holders(target); len(h) != 0 {
			t.Errorf("still on %v", h)
		}
		c.nodes[first.Sharks[1].Node].Kill()
		c.fleet.SetLost(first.Sharks[1].Node, true)
		if err := c.store.Delete(t.Context(), first); err != nil {
			t.Errorf("delete with a lost node: %v", err)
		}
	})
}

func ExampleStore() {
	ctx := context.Background()
	nodes, err := OpenStatic(ctx, picker.Config{}, map[storage.Shark]storage.Node{
		{Datacenter: "home", Node: "1.stor"}: storagetest.NewMemNode(storagetest.MemConfig{}),
		{Datacenter: "home", Node: "2.stor"}: storagetest.NewMemNode(storagetest.MemConfig{}),
	})
	if err != nil {
		panic(err)
	}
	store, err := New(Config{Nodes: nodes})
	if err != nil {
		panic(err)
	}
	defer store.Close()

	upload, err := store.Create(ctx, CreateRequest{ID: storagetest.NewID(), Size: 5, Copies: 2})
	if err != nil {
		panic(err)
	}
	defer upload.Cancel()
	if _, err := io.WriteString(upload, "manta"); err != nil {
		panic(err)
	}
	stored, err := upload.Commit(ctx)
	if err != nil {
		panic(err)
	}

	r, err := store.Open(ctx, Location{ID: upload.ID(), Size: stored.Size, MD5: stored.MD5, Sharks: stored.Sharks}, 1, 3)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	fmt.Println(len(stored.Sharks), "copies;", string(content), err)
	// Output: 2 copies; ant <nil>
}
