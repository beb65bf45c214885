//go:build linux

package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/statefile/statefiletest"
)

// history is what a record may be: what was last acknowledged, and what was written since and failed, or was being written when the
// power was cut.
type history []*record

func (h *history) write(err error, r *record) error {
	if err == nil {
		*h = nil
	}
	*h = append(*h, r)
	return err
}

// print gives a record as text, without the times at which it was written.
func print(r *record) string {
	if r == nil {
		return "absent"
	}
	c := *r
	c.Version, c.Modified = recordVersion, time.Time{}
	if c.Op != nil {
		o := *c.Op
		o.Started = time.Time{}
		c.Op = &o
	}
	b, _ := json.Marshal(&c)
	return string(b)
}

func copyOf(z *zone) *record {
	r := z.record
	r.Spec = z.Spec.Clone()
	if z.Op != nil {
		o := *z.Op
		r.Op = &o
	}
	return &r
}

// Verbs write their records on a file system that forgets what was not synced, and the power is cut, or a write fails, at any operation.
// After the restart every record is one that was acknowledged and nothing newer, or the one that was under way; none is damaged, and what
// was deleted stays so.
func TestRecordsSurvivePowerCuts(t *testing.T) {
	rounds := uint64(300)
	if testenv.Long() {
		rounds = 20000
	}
	seed := rand.Uint64()
	for round := range rounds {
		if !powerCut(t, rand.New(rand.NewPCG(seed, round))) {
			t.Fatalf("seed %d, round %d", seed, round)
		}
	}
}

func powerCut(t *testing.T, r *rand.Rand) bool {
	fsys := statefiletest.New()
	h := &Host{cfg: Config{Dir: "/h"}, log: slog.New(slog.DiscardHandler), files: fsys, step: func(string) {}}
	if _, err := h.loadHostFile(); err != nil {
		t.Fatal(err)
	}
	cut := fsys.Ops() + 1 + r.IntN(60)
	faulty := errors.New("input/output error")
	fsys.OnOp(func(op int) error {
		switch {
		case op == cut:
			return statefiletest.ErrPowerCut
		case r.IntN(40) == 0:
			return faulty
		}
		return nil
	})
	past := map[string]*history{}
	for n := 0; ; n++ {
		id := fmt.Sprintf("abababab-0000-4000-8000-00000000000%d", r.IntN(3))
		p := past[id]
		if p == nil {
			p = &history{nil}
			past[id] = p
		}
		if err := oneVerb(h, id, p, r, n); errors.Is(err, statefiletest.ErrPowerCut) {
			break
		}
	}
	fsys = fsys.Restart(r)
	h.files = fsys
	f, err := h.loadHostFile()
	if err != nil || f.ServerUUID == "" {
		t.Errorf("host file = %+v, %v", f, err)
	}
	ids, err := h.uuids()
	if err != nil {
		t.Error(err)
	}
	for id, p := range past {
		got, err := h.load(id)
		there := &got
		if errors.Is(err, zones.ErrNotExist) {
			there, err = nil, nil
		}
		if err != nil {
			t.Errorf("record is damaged: %v", err)
			continue
		}
		if !slices.ContainsFunc(*p, func(r *record) bool { return print(r) == print(there) }) {
			t.Errorf("record is %s, but may be", print(there))
			for _, r := range *p {
				t.Errorf("  %s", print(r))
			}
		}
		if slices.Contains(ids, id) != (there != nil) {
			t.Errorf("uuids = %v, but the record of %s: %v", ids, id, there != nil)
		}
	}
	return !t.Failed()
}

// oneVerb goes on with a zone as verbs do: begin, advance, done, forget. A verb that fails is left, and the next one begins with what is there.
func oneVerb(h *Host, id string, p *history, r *rand.Rand, n int) error {
	z := &zone{Host: h, id: id}
	var err error
	if z.record, err = h.load(id); errors.Is(err, zones.ErrNotExist) {
		s, _ := zones.ParseSpec(specJSON(fmt.Sprintf(`"uuid":%q,"alias":"n%d"`, id, n)))
		z.record = record{Spec: s, IDs: zones.IDRange{First: uint32(n+1) << 16, Size: 1 << 16}}
	} else if err != nil {
		return err
	}
	step := func(f func() error, change func()) error {
		want := copyOf(z)
		old := z.record
		z.record = *want
		change()
		want = copyOf(z)
		z.record = old
		return p.write(f(), want)
	}
	o := op{Verb: "update", Next: z.Spec.Clone()}
	if err := step(func() error { return z.begin(o) }, func() { z.Op = &o }); err != nil {
		return err
	}
	if r.IntN(3) == 0 {
		if err := p.write(h.forget(id), nil); err != nil {
			return err
		}
		return nil
	}
	if err := step(func() error { return z.advance("swap") }, func() { z.Op.Step = "swap" }); err != nil {
		return err
	}
	z.Spec.Alias = fmt.Sprint("n", n)
	return step(z.done, func() { z.Op = nil })
}
