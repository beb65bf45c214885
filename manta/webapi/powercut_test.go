package webapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
	"github.com/mobulacloud/mobula/storage/objfile"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs/pebblefs"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// TestPowerCut has clients change a store whose records and storage nodes are all on one disk, cuts its power at many points, and looks at what each cut left: every
// change that was acknowledged is there with the right bytes, and every other is there as a whole or not at all. MOBULA_LONG=1 makes it much longer; MOBULA_SEED
// repeats a run, as far as the scheduler lets it.
func TestPowerCut(t *testing.T) {
	long := os.Getenv("MOBULA_LONG") == "1"
	seed, _ := strconv.ParseUint(os.Getenv("MOBULA_SEED"), 10, 64)
	seed = cmp.Or(seed, uint64(time.Now().UnixNano()))
	t.Logf("replay with MOBULA_SEED=%d", seed)
	end, rounds, steps := time.Now().Add(3*time.Second), 4, 40
	if long {
		end, rounds, steps = time.Now().Add(3*time.Minute), 1000, 100
	}
	cuts, completed := 0, 0
	for round := range rounds {
		if t.Failed() || time.Now().After(end) {
			break
		}
		c := &powerCut{t: t, seed: seed + uint64(round), end: end, steps: steps, users: 3 + round%2*fewRequests} // few, then a crowd
		c.run()
		cuts += c.cuts
		completed += int(c.interrupted.Load())
	}
	t.Logf("%d power cuts, %d interrupted puts found", cuts, completed)
	if cuts == 0 {
		t.Error("the power was never cut")
	}
}

const cutNodes = 2

// powerCut is one disk and the clients of the store on it.
type powerCut struct {
	t     *testing.T
	seed  uint64
	end   time.Time
	steps int
	users int
	owner string

	armed       atomic.Bool
	checks      sync.WaitGroup
	slots       chan struct{}
	cuts        int
	cutsMu      sync.Mutex
	interrupted atomic.Int64

	clients []*cutClient
	shared  cutRegister
}

// openParts opens records and nodes on a disk.
func openParts(disk *storagetest.CrashFS) (records *pebble.Store, nodes map[storage.Shark]storage.Node, closeAll func() error, err error) {
	records, err = pebble.Open("records", pebble.Config{FS: pebblefs.New(disk), MemTableSize: 256 << 10})
	if err != nil {
		return nil, nil, nil, err
	}
	nodes = map[storage.Shark]storage.Node{}
	var stores []*objfile.Store
	closeAll = func() error {
		err := records.Close()
		for _, s := range stores {
			err = errors.Join(err, s.Close())
		}
		return err
	}
	for i := range cutNodes {
		name := strconv.Itoa(i + 1)
		if err := disk.Mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, nil, nil, errors.Join(err, closeAll())
		}
		if err := disk.SyncDir("."); err != nil {
			return nil, nil, nil, errors.Join(err, closeAll())
		}
		s, err := objfile.Open("", objfile.Config{
			FS: subFS{disk, name}, SegmentSize: 256 << 10, PackLimit: 2 << 10, DirectFrom: -1, Reserve: -1, ReapInterval: -1, ScrubRate: -1, OrphanAge: -1, IndexCache: 1 << 20,
		})
		if err != nil {
			return nil, nil, nil, errors.Join(err, closeAll())
		}
		stores = append(stores, s)
		nodes[storage.Shark{Datacenter: "dc", Node: name + ".stor.example"}] = s
	}
	return records, nodes, closeAll, nil
}

// bytesOf tells whether an entry's bytes are there, as [namespace.Namespace.Recover] asks.
func bytesOf(s *durable.Store) func(context.Context, *manta.Entry) (bool, error) {
	return func(ctx context.Context, e *manta.Entry) (bool, error) {
		loc, err := location(e)
		if err != nil {
			return false, err
		}
		return s.Exists(ctx, loc)
	}
}

func (c *powerCut) run() {
	t := c.t
	disk := storagetest.NewCrashFS(0)
	c.slots = make(chan struct{}, 2)
	pick := rand.New(rand.NewPCG(c.seed, 1))
	every := 5 + pick.IntN(60)
	disk.OnOp(func(op int, what string) {
		if !c.armed.Load() || op%every != 0 || t.Failed() || time.Now().After(c.end) {
			return
		}
		before := c.look()
		cut := disk.Crash(rand.New(rand.NewPCG(c.seed, uint64(op))))
		after := c.look()
		c.cutsMu.Lock()
		c.cuts++
		c.cutsMu.Unlock()
		c.slots <- struct{}{}
		c.checks.Go(func() {
			defer func() { <-c.slots }()
			if err := c.check(cut, before, after); err != nil {
				t.Errorf("seed %d: power cut before operation %d (%s): %v", c.seed, op, what, err)
			}
		})
	})
	records, nodes, closeAll, err := openParts(disk)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, worldOptions{store: records, fleet: nodes})
	if err := w.ns.Recover(t.Context(), bytesOf(w.storage)); err != nil {
		t.Fatal(err)
	}
	c.owner = w.uuids["alice"]
	w.mkdir("/alice/stor/shared")
	for i := range c.users {
		w.mkdir(fmt.Sprintf("/alice/stor/w%d", i))
		c.clients = append(c.clients, &cutClient{c: c, w: w, dir: fmt.Sprintf("/alice/stor/w%d", i), history: []tree{{}}})
	}
	c.armed.Store(true)
	var work sync.WaitGroup
	for i, client := range c.clients {
		work.Go(func() { client.work(rand.New(rand.NewPCG(c.seed, uint64(i)+10))) })
	}
	work.Wait()
	c.armed.Store(false)
	c.checks.Wait()
	w.web.Close() // no request is under way any more
	if err := closeAll(); err != nil {
		t.Error(err)
	}
}

// tree is what a client knows of its directory: paths below it, and contents; a directory ends in "/".
type tree map[string]string

// cutClient is one client with a directory of its own, where it makes one change after the other.
type cutClient struct {
	c   *powerCut
	w   *world
	dir string

	mu      sync.Mutex
	history []tree // its directory after each change
	acked   int    // the last of them that was acknowledged
	begun   int    // the last that was begun
}

// do makes a change that leads to the given tree.
func (k *cutClient) do(next tree, req call) bool {
	k.mu.Lock()
	k.history = append(k.history, next)
	k.begun++
	k.mu.Unlock()
	req.as = "alice"
	if req.method == "PUT" && req.body == "" {
		req.header = append(req.header, "Content-Length: 0")
	}
	if a := k.w.do(req); a.StatusCode != 204 {
		k.c.t.Errorf("%s %s %q: %d %s", req.method, req.path, req.header, a.StatusCode, a.body)
		return false
	}
	k.mu.Lock()
	k.acked++
	k.mu.Unlock()
	return true
}

func (k *cutClient) work(rng *rand.Rand) {
	now := tree{}
	for n := range k.c.steps {
		next := maps.Clone(now)
		files := slices.DeleteFunc(slices.Sorted(maps.Keys(now)), func(p string) bool { return strings.HasSuffix(p, "/") })
		dirs := slices.DeleteFunc(slices.Sorted(maps.Keys(now)), func(p string) bool { return !strings.HasSuffix(p, "/") })
		dir := append([]string{""}, dirs...)[rng.IntN(len(dirs)+1)]
		var req call
		switch what := rng.IntN(20); {
		case what < 3 && len(dirs) < 4:
			name := fmt.Sprintf("d%d", n)
			next[name+"/"] = ""
			req = call{method: "PUT", path: k.dir + "/" + name, header: []string{"Content-Type: application/json; type=directory"}}
		case what < 5 && len(files) > 0:
			name := files[rng.IntN(len(files))]
			delete(next, name)
			req = call{method: "DELETE", path: k.dir + "/" + name}
		case what < 7 && len(files) > 0:
			source := files[rng.IntN(len(files))]
			name := fmt.Sprintf("%sl%d", dir, rng.IntN(3))
			next[name] = now[source]
			req = call{method: "PUT", path: k.dir + "/" + name, header: []string{"Content-Type: application/json; type=link", "Location: " + k.dir + "/" + source}}
		case what < 9 && len(dirs) > 0:
			name := dirs[rng.IntN(len(dirs))]
			if slices.ContainsFunc(files, func(f string) bool { return strings.HasPrefix(f, name) }) {
				continue
			}
			delete(next, name)
			req = call{method: "DELETE", path: k.dir + "/" + strings.TrimSuffix(name, "/")}
		case what < 12:
			k.c.shared.put(k.w, rng)
			continue
		default: // new, or over another
			name := fmt.Sprintf("%sf%d", dir, rng.IntN(4))
			body := cutBody(rng)
			next[name] = body
			req = call{method: "PUT", path: k.dir + "/" + name, body: body, header: []string{fmt.Sprintf("Durability-Level: %d", 1+rng.IntN(cutNodes))}}
		}
		if !k.do(next, req) {
			return
		}
		now = next
	}
}

func cutBody(rng *rand.Rand) string {
	size := rng.IntN(1500)
	switch rng.IntN(8) {
	case 0:
		size = 0
	case 1:
		size = 2<<10 + rng.IntN(20<<10) // a file of its own
	case 2:
		size = 70<<10 + rng.IntN(80<<10) // that is not held whole
	}
	return string(storagetest.Data(rng.Uint64(), size))
}

// cutRegister is one object that all clients put.
type cutRegister struct {
	mu   sync.Mutex
	time int
	puts []sharedPut
}

type sharedPut struct {
	body        string
	begun, done int // 0: not yet
}

const sharedPath = "/alice/stor/shared/x"

func (r *cutRegister) put(w *world, rng *rand.Rand) {
	r.mu.Lock()
	r.time++
	i := len(r.puts)
	body := fmt.Sprint("put ", i, " ", rng.Uint64())
	r.puts = append(r.puts, sharedPut{body: body, begun: r.time})
	r.mu.Unlock()
	a := w.do(call{as: "alice", method: "PUT", path: sharedPath, body: body})
	if a.StatusCode != 204 {
		return // too much of a crowd: it may or may not have been stored, and so counts as never done
	}
	r.mu.Lock()
	r.time++
	r.puts[i].done = r.time
	r.mu.Unlock()
}

// may reports whether the object may have this content ("" is absent) when the clients stood as told: no other put was begun after this one was done, and done.
func (s cutState) may(body string, puts []sharedPut) bool {
	done := func(p sharedPut) bool { return p.done > 0 && p.done <= s.time }
	if body == "" {
		return !slices.ContainsFunc(puts, done)
	}
	i := slices.IndexFunc(puts, func(p sharedPut) bool { return p.body == body })
	if i < 0 {
		return false
	}
	return !slices.ContainsFunc(puts, func(p sharedPut) bool { return done(p) && puts[i].done > 0 && p.begun > puts[i].done })
}

// cutState is how far the clients were at a moment.
type cutState struct {
	acked, begun []int
	time         int
	puts         []sharedPut
}

func (c *powerCut) look() (s cutState) {
	for _, k := range c.clients {
		k.mu.Lock()
		s.acked, s.begun = append(s.acked, k.acked), append(s.begun, k.begun)
		k.mu.Unlock()
	}
	c.shared.mu.Lock()
	defer c.shared.mu.Unlock()
	s.time, s.puts = c.shared.time, slices.Clone(c.shared.puts)
	return s
}

// check opens what a cut left, between two looks at the clients, twice, and puts something new into it.
func (c *powerCut) check(disk *storagetest.CrashFS, before, after cutState) (err error) {
	ctx := context.WithoutCancel(c.t.Context())
	for again := range 2 {
		err := func() (err error) {
			records, nodes, closeAll, err := openParts(disk)
			if err != nil {
				return fmt.Errorf("open: %w", err)
			}
			defer func() { err = errors.Join(err, closeAll()) }()
			static, err := durable.OpenStatic(ctx, picker.Config{StreamingSize: 1 << 20}, nodes)
			if err != nil {
				return err
			}
			store, err := durable.New(durable.Config{Nodes: static})
			if err != nil {
				return err
			}
			defer store.Close()
			ns, err := namespace.New(namespace.Config{Store: records})
			if err != nil {
				return err
			}
			if err := ns.Define(ctx); err != nil {
				return err
			}
			for _, err := range records.Find(ctx, "manta_put_intents", metastore.Query{Scan: true}) {
				if err != nil {
					return err
				}
				c.interrupted.Add(1)
			}
			if err := ns.Recover(ctx, bytesOf(store)); err != nil {
				return err
			}
			for rec, err := range records.Find(ctx, "manta_put_intents", metastore.Query{Scan: true}) {
				return errors.Join(err, fmt.Errorf("an intent is left: %v", rec.Key))
			}
			return c.compare(ctx, ns, store, before, after, again)
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *powerCut) compare(ctx context.Context, ns *namespace.Namespace, store *durable.Store, before, after cutState, again int) error {
	for i, k := range c.clients {
		got, err := readTree(ctx, ns, store, c.key(k.dir), "")
		if err != nil {
			return err
		}
		delete(got, "after")
		k.mu.Lock()
		allowed := k.history[before.acked[i] : after.begun[i]+1]
		k.mu.Unlock()
		lacking := got[""]
		delete(got, "")
		for name := range strings.FieldsSeq(lacking) {
			if allowed[0][name] == got[name] {
				return fmt.Errorf("%s/%s is acknowledged and lacks a copy", k.dir, name)
			}
		}
		if !slices.ContainsFunc(allowed, func(want tree) bool { return maps.Equal(got, want) }) {
			return fmt.Errorf("%s is none of the %d states that it may be in; against the acknowledged one:\n%s", k.dir, len(allowed), difference(allowed[0], got))
		}
		// It goes on.
		st, err := ns.Look(ctx, c.key(k.dir).Join("after"), true)
		if err != nil {
			return err
		}
		if again == 0 && (st.Entry != nil || st.NoParent != nil) {
			return fmt.Errorf("%s: %v, %v", k.dir, st.Entry, st.NoParent)
		}
		if _, _, err := ns.Put(ctx, st.Key, manta.Entry{ObjectID: "00000000-0000-4000-8000-000000000000", MD5: manta.ZeroMD5}, namespace.Options{Seen: st}); err != nil {
			return fmt.Errorf("put after the cut: %w", err)
		}
	}
	got, err := readTree(ctx, ns, store, c.key("/alice/stor/shared"), "")
	if err != nil {
		return err
	}
	if !before.may(got["x"], after.puts) {
		return fmt.Errorf("%s is %q, which others have replaced", sharedPath, got["x"])
	}
	return nil
}

func (c *powerCut) key(p string) manta.Key {
	parsed, err := manta.ParsePath(p)
	if err != nil {
		panic(err)
	}
	return parsed.Key(c.owner)
}

// readTree reads a directory to its leaves, and every byte in it. Under "" it names the objects that lack a copy: those of a put that was not acknowledged may.
func readTree(ctx context.Context, ns *namespace.Namespace, store *durable.Store, dir manta.Key, prefix string) (tree, error) {
	all := tree{}
	entries := int64(0)
	for listed, err := range ns.List(ctx, dir, namespace.ListOptions{Limit: 1000}) {
		if err != nil {
			return nil, err
		}
		entries++
		name := prefix + listed.Key.Name()
		st, err := ns.Look(ctx, dir.Join(listed.Key.Name()), false)
		if err != nil || st.Entry == nil {
			return nil, fmt.Errorf("%s is listed, but %w", name, cmp.Or(err, namespace.ErrNotFound))
		}
		if st.Entry.IsDirectory() {
			below, err := readTree(ctx, ns, store, st.Key, name+"/")
			if err != nil {
				return nil, err
			}
			all[name+"/"], below[""] = "", all[""]+below[""]
			maps.Copy(all, below)
			continue
		}
		if st.Entry.Size == 0 {
			all[name] = ""
			continue
		}
		loc, err := location(st.Entry)
		if err != nil {
			return nil, err
		}
		for _, shark := range loc.Sharks { // each copy, not just the one that answers first
			one := loc
			one.Sharks = []storage.Shark{shark}
			body, err := store.Open(ctx, one, 0, one.Size)
			if errors.Is(err, storage.ErrNotFound) {
				all[""] += name + " "
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s (%d bytes): %w", name, loc.Size, err)
			}
			b, err := io.ReadAll(body)
			body.Close()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if had, twice := all[name]; twice && had != string(b) {
				return nil, fmt.Errorf("copies of %s differ", name)
			}
			all[name] = string(b)
		}
		if _, ok := all[name]; !ok {
			return nil, fmt.Errorf("%s has no copy", name)
		}
	}
	if n, err := ns.Count(ctx, dir); err != nil || n != entries {
		return nil, fmt.Errorf("%s counts %d entries and lists %d: %w", dir, n, entries, err)
	}
	return all, nil
}

func difference(want, got tree) string {
	short := func(t tree) map[string]string {
		m := map[string]string{}
		for k, v := range t {
			m[k] = fmt.Sprintf("%d bytes, %.12q", len(v), v)
		}
		return m
	}
	return gocmp.Diff(short(want), short(got), cmpopts.EquateEmpty())
}

// subFS is a directory of a disk as a disk.
type subFS struct {
	disk diskfs.FS
	dir  string
}

func (s subFS) Create(name string) (diskfs.File, error) { return s.disk.Create(path.Join(s.dir, name)) }
func (s subFS) CreateTemp(dir string, perm fs.FileMode) (diskfs.Temp, error) {
	f, err := s.disk.CreateTemp(path.Join(s.dir, dir), perm)
	return subTemp{f, s.dir}, err
}
func (s subFS) Open(name string) (diskfs.File, error)     { return s.disk.Open(path.Join(s.dir, name)) }
func (s subFS) Mkdir(name string) error                   { return s.disk.Mkdir(path.Join(s.dir, name)) }
func (s subFS) Remove(name string) error                  { return s.disk.Remove(path.Join(s.dir, name)) }
func (s subFS) Stat(name string) (fs.FileInfo, error)     { return s.disk.Stat(path.Join(s.dir, name)) }
func (s subFS) Names(dir string) iter.Seq2[string, error] { return s.disk.Names(path.Join(s.dir, dir)) }
func (s subFS) SyncDir(name string) error                 { return s.disk.SyncDir(path.Join(s.dir, name)) }
func (s subFS) Space() (total, free int64, err error)     { return s.disk.Space() }
func (s subFS) Lock(name string) (io.Closer, error)       { return s.disk.Lock(path.Join(s.dir, name)) }
func (s subFS) Rename(from, to string) error {
	return s.disk.Rename(path.Join(s.dir, from), path.Join(s.dir, to))
}

type subTemp struct {
	diskfs.Temp
	dir string
}

func (t subTemp) Link(name string) error { return t.Temp.Link(path.Join(t.dir, name)) }
