package audit

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// TestRandom lets clients put, link, delete, upload and die, gc collect, and nodes lose copies, between and during audits. No entry may ever
// lack all of its copies, and in the end every copy is named and every entry whole. MOBULA_AUDIT_SEED picks one history.
func TestRandom(t *testing.T) {
	seeds := make([]uint64, 20)
	if testenv.Long() {
		seeds = make([]uint64, 500)
	}
	for i := range seeds {
		seeds[i] = rand.Uint64()
	}
	if s := os.Getenv("MOBULA_AUDIT_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{n}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			run(t, 4, func(t *testing.T, w *world) {
				c := &chaos{world: w, rng: rand.New(rand.NewPCG(seed, 1))}
				c.live(t)
			})
		})
	}
}

type chaos struct {
	*world
	rng     *rand.Rand
	flight  []flight      // stored, and about to be recorded
	targets []*mpu.Upload // joined, not yet committed
}

type flight struct {
	entry manta.Entry
	since time.Time
}

// land records what is in flight for some time. Requests may be slow, but not as slow as the grace period.
func (c *chaos) land(age time.Duration) {
	for len(c.flight) > 0 && time.Since(c.flight[0].since) >= age {
		c.record(c.key(), c.flight[0].entry)
		c.flight = c.flight[1:]
	}
}

func (c *chaos) key() manta.Key { return stor.Join(name(c.rng.IntN(15))) }

// step is something that a client or a node does.
func (c *chaos) step() {
	ctx := c.t.Context()
	c.land(grace / 2)
	switch n := c.rng.IntN(20); {
	case n < 5:
		c.put(c.key(), fmt.Sprint("content ", c.rng.Uint64()))
	case n < 7:
		c.bytes("died here")
	case n < 9:
		c.flight = append(c.flight, flight{c.bytes("in flight"), time.Now()})
	case n < 11 && len(c.flight) > 0:
		c.record(c.key(), c.flight[0].entry)
		c.flight = c.flight[1:]
	case n < 14:
		_, _ = c.ns.Link(ctx, c.key(), c.key(), nil, namespace.Options{}) // it may not be there
	case n < 17:
		_, _ = c.ns.Delete(ctx, c.key(), namespace.Options{})
	case n < 18 && c.targets == nil:
		c.upload()
	case n < 19 && c.targets != nil:
		u := c.targets[0]
		c.targets = nil
		st, err := c.ns.Look(ctx, u.Dir().Join("0"), false)
		c.must(err)
		_, err = c.uploads.Commit(ctx, u, []string{st.Entry.ObjectID}, nil, manta.Entry{})
		c.must(err)
	default:
		c.lose()
	}
}

// upload makes a multipart upload whose commit has died after it joined the parts.
func (c *chaos) upload() {
	ctx := c.t.Context()
	u, err := c.uploads.Create(ctx, mpu.CreateRequest{Owner: owner, Login: "alice", ObjectPath: "/alice/stor/x", ObjectKey: c.key(), Size: -1, Copies: 2})
	c.must(err)
	u, err = c.uploads.Load(ctx, owner, u.ID[:3], u.ID)
	c.must(err)
	// As the door does: on the upload's own nodes.
	e := c.bytes("part")
	up, err := c.store.CreateOn(ctx, id(manta.Entry{ObjectID: e.ObjectID}), e.Size, u.Sharks)
	c.must(err)
	_, err = up.Write([]byte("part"))
	c.must(err)
	stored, err := up.Commit(ctx)
	c.must(err)
	e.Sharks = stored.Sharks
	c.record(u.Dir().Join("0"), e)
	_, err = c.store.Assemble(ctx, id(manta.Entry{ObjectID: u.ObjectID}), []storage.ObjectID{id(e)}, u.Sharks, e.Size)
	c.must(err)
	c.targets = []*mpu.Upload{u}
}

// lose takes one copy of an object that has all of its own.
func (c *chaos) lose() {
	for e, err := range c.ns.Objects(c.t.Context()) {
		c.must(err)
		if c.rng.IntN(5) == 0 && len(e.Sharks) == 2 {
			node := c.nodes[e.Sharks[c.rng.IntN(2)].Node]
			if c.copies(*e) >= 2 {
				c.t.Logf("%s loses %s, of %v", e.Key, id(*e), e.Sharks)
				c.must(node.Delete(c.t.Context(), id(*e)))
			}
			return
		}
	}
}

func (c *chaos) live(t *testing.T) {
	c.cfg.Nodes = direct{c.world}
	c.cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	inRound := 0
	c.records.reading = func(metastore.Key) {
		if inRound < 30 && c.rng.IntN(4) == 0 {
			inRound++
			c.step()
		}
	}
	for range 12 {
		for range c.rng.IntN(15) {
			c.step()
			time.Sleep(time.Duration(c.rng.IntN(120)) * time.Second)
		}
		if c.rng.IntN(3) == 0 {
			c.land(0)
			time.Sleep(2 * grace)
		}
		c.land(grace / 2)
		if c.rng.IntN(2) == 0 {
			c.must(c.garbage.RunOnce(t.Context()))
		}
		inRound = 0
		c.cfg.MaxPercent = 100
		c.audit()
		c.readable()
	}
	// Everybody comes to an end, and two rounds put everything right.
	c.records.reading = nil
	c.land(0)
	time.Sleep(3 * grace)
	for range 3 {
		c.must(c.garbage.RunOnce(t.Context()))
		time.Sleep(2 * grace)
		c.audit()
	}
	c.readable()
	c.whole()
	named := map[string]bool{}
	for e, err := range c.ns.Objects(t.Context()) {
		c.must(err)
		for _, shark := range e.Sharks {
			named[e.ObjectID+shark.Node] = true
		}
	}
	for target, err := range c.uploads.Targets(t.Context()) {
		c.must(err)
		for node := range c.nodes {
			named[target.Object.String()+node] = true
		}
	}
	for name, node := range c.nodes {
		for info, err := range node.List(t.Context(), storage.ObjectID{}) {
			c.must(err)
			if !named[info.ID.Object.String()+name] {
				t.Errorf("%s on %s is named by nothing", info.ID, name)
			}
		}
	}
}

// readable checks that every entry has a copy.
func (c *chaos) readable() {
	for e, err := range c.ns.Objects(c.t.Context()) {
		c.must(err)
		if c.copies(*e) == 0 {
			c.t.Fatalf("%s has no copy left: %+v", e.Key, e)
		}
	}
}
