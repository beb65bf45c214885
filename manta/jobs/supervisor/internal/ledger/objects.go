package ledger

import (
	"hash/maphash"
	"strings"

	"github.com/mobulacloud/mobula/manta/jobs"
)

// objects are those below the job's directory that are handed from phase to phase. They are deleted when no open input refers to them any more and no
// output of the job does. Paths are known by their hashes; where two have the same, an object may be left over.
type objects struct {
	refs     map[uint64]int32    // open inputs of phases after the first, by path
	kept     map[uint64]struct{} // outputs of the job
	queue    []string
	deleting int
	all      bool // a pass looks for deletions that an earlier supervisor may have missed
	pass     bool // under way
}

func (o *objects) busy() bool { return len(o.queue) > 0 || o.deleting > 0 || o.all || o.pass }

func (l *Ledger) intermediate(path string) bool { return strings.HasPrefix(path, l.stor) }

func (l *Ledger) hash(path string) uint64 { return maphash.String(l.seed, path) }

// refer counts an open input.
func (l *Ledger) refer(path string) {
	if l.intermediate(path) {
		l.objects.refs[l.hash(path)]++
	}
}

// release counts an input that is no longer open, and has its object deleted if it was the last.
func (l *Ledger) release(path string) {
	if !l.intermediate(path) {
		return
	}
	h := l.hash(path)
	if l.objects.refs[h]--; l.objects.refs[h] <= 0 {
		delete(l.objects.refs, h)
		l.remove(h, path)
	}
}

func (l *Ledger) remove(h uint64, path string) {
	if _, kept := l.objects.kept[h]; !kept && !l.cancelled {
		l.objects.queue = append(l.objects.queue, path)
	}
}

// keep takes down an output of the job.
func (l *Ledger) keep(path string) {
	if len(l.phases) > 1 && l.intermediate(path) {
		l.objects.kept[l.hash(path)] = struct{}{}
	}
}

// Deletes hands out paths of objects to be deleted; the owner says [Ledger.Deleted] when it has tried.
func (l *Ledger) Deletes(most int) []string {
	o := &l.objects
	n := min(most, len(o.queue))
	var list []string
	for _, path := range o.queue[:n] {
		h := l.hash(path)
		if _, kept := o.kept[h]; !kept && o.refs[h] <= 0 {
			list = append(list, path)
		}
	}
	if o.queue = o.queue[n:]; len(o.queue) == 0 {
		o.queue = nil
	}
	o.deleting += len(list)
	return list
}

// Deleted says that so many of the paths were dealt with.
func (l *Ledger) Deleted(n int) { l.objects.deleting -= n }

// Queued returns how many objects wait to be deleted.
func (l *Ledger) Queued() int { return len(l.objects.queue) + l.objects.deleting }

// Recounting reports whether, after all commits were applied and before [Ledger.Begin], they have to be handed to [Ledger.Recount] too.
func (l *Ledger) Recounting() bool {
	for _, p := range l.phases[1:] {
		if p.next > 0 {
			return true
		}
	}
	return false
}

// Recount counts the references of a stored commit to objects.
func (l *Ledger) Recount(c *jobs.Commit) {
	l.objects.all = true
	for i := range c.Emitted {
		e := &c.Emitted[i]
		if p := l.phase(e.Phase); p != nil && e.Phase > 0 && l.open(p, e) {
			l.refer(e.Path)
		}
	}
}

// open reports whether an input has yet to be dealt with.
func (l *Ledger) open(p *phase, e *jobs.Emitted) bool {
	if p.reduce == nil {
		return p.open[e.Number] != nil
	}
	r := p.reduce.target(&entry{number: e.Number, reducer: e.Reducer})
	if r == nil {
		return true // sent to a reducer that does not exist: the object stays
	}
	_, refused := p.reduce.refused[e.Number]
	return r.state != reducerDone && !refused
}

// Clean reports whether the job's commits have to be read for objects to delete. The owner then hands all of them to [Ledger.Cleaned], and says [Ledger.EndClean].
func (l *Ledger) Clean() bool {
	o := &l.objects
	if o.pass || l.cancelled {
		return false
	}
	want := o.all
	for _, p := range l.phases {
		if p.reduce == nil {
			continue
		}
		for _, r := range p.reduce.reducers {
			if r.clean {
				r.clean, r.cleaning, want = false, true, true
			}
		}
	}
	o.pass = want
	return want
}

// Cleaned looks at a commit for objects to delete.
func (l *Ledger) Cleaned(c *jobs.Commit) {
	for i := range c.Emitted {
		e := &c.Emitted[i]
		p := l.phase(e.Phase)
		if p == nil || e.Phase == 0 || e.Number >= p.next || !l.intermediate(e.Path) {
			continue // in a commit that is being written
		}
		if p.reduce != nil {
			r := p.reduce.target(&entry{number: e.Number, reducer: e.Reducer})
			if _, refused := p.reduce.refused[e.Number]; r != nil && r.cleaning && !refused {
				l.release(e.Path)
				continue
			}
		}
		if l.objects.all && !l.open(p, e) {
			if h := l.hash(e.Path); l.objects.refs[h] <= 0 {
				l.remove(h, e.Path)
			}
		}
	}
}

// EndClean says that every commit was looked at.
func (l *Ledger) EndClean() {
	l.objects.pass, l.objects.all = false, false
	for _, p := range l.phases {
		if p.reduce != nil {
			for _, r := range p.reduce.reducers {
				r.cleaning = false
			}
		}
	}
}

// cleanTail releases what reducers have read, where all of their input is at hand.
func (l *Ledger) cleanTail(p *phase) {
	d := p.reduce
	if d == nil || p.index == 0 || d.first > 0 || l.objects.pass {
		return
	}
	cleaned := false
	for _, r := range d.reducers {
		cleaned = cleaned || r.clean
	}
	if !cleaned {
		return
	}
	for i := range d.tail {
		e := &d.tail[i]
		if _, refused := d.refused[e.number]; refused {
			continue
		}
		if r := d.target(e); r != nil && r.clean {
			l.release(e.path)
		}
	}
	for _, r := range d.reducers {
		r.clean = false
	}
}
