package ledger

import (
	"slices"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// WantInputs says which input of phase 0 to read next, and how many at most; 0 when there are enough.
func (l *Ledger) WantInputs() (from int64, n int) {
	p := l.phases[0]
	if p.reduce != nil {
		if l.ended && l.read == p.next {
			return l.read, 0
		}
		return l.read, max(0, l.limits.Window-p.reduce.unread())
	}
	if l.ended {
		return l.read, 0
	}
	return l.read, max(0, l.limits.Window-len(p.open))
}

// Inputs hands over inputs of phase 0 as they are stored, beginning with the number first. Those that were read before are passed over; there
// must be no gap.
func (l *Ledger) Inputs(first int64, paths []string) {
	p := l.phases[0]
	for i, path := range paths {
		n := first + int64(i)
		if n != l.read {
			continue
		}
		l.read++
		p.next = max(p.next, l.read)
		if d := p.reduce; d != nil {
			if l.cancelled {
				d.first, d.cur = l.read, l.read
				continue
			}
			d.tail = append(d.tail, entry{n, path, path, -1})
			continue
		}
		if p.done.has(n) {
			continue
		}
		it := &item{Ref: Ref{0, n}, path: path, origin: path}
		p.open[n] = it
		if l.cancelled {
			l.fail(it, "", cancelled)
			continue
		}
		p.look = append(p.look, it)
	}
	if p.reduce != nil {
		p.reduce.trim(l.limits.Tail)
	}
}

// EndInputs says that total is how many inputs of phase 0 there are. It has no effect before all of them were handed over.
func (l *Ledger) EndInputs(total int64) {
	if l.phases[0].next >= total {
		l.ended = true
	}
}

// InputsRead reports whether all inputs of phase 0 were handed over and no more come.
func (l *Ledger) InputsRead() bool { return l.ended }

// A Lookup is an input to be found and authorised.
type Lookup struct {
	Ref
	Path   string
	Origin string // of phase 0, as it was given
}

// Locate hands out inputs to be looked up, later phases first; each is answered by [Ledger.Located], [Ledger.Refused] or [Ledger.Again].
func (l *Ledger) Locate(most int) []Lookup {
	if l.cancelled || !l.rebuilt {
		return nil
	}
	var list []Lookup
	for i := len(l.phases) - 1; i >= 0 && len(list) < most; i-- {
		p := l.phases[i]
		if l.crowded(i) {
			break
		}
		if p.reduce != nil {
			list = l.examine(p, list, most)
			continue
		}
		k := 0
		for ; k < len(p.look) && len(list) < most; k++ {
			if it := p.look[k]; it.state == unknown && p.open[it.Number] == it {
				it.state = looking
				list = append(list, Lookup{it.Ref, it.path, it.origin})
			}
		}
		if p.look = slices.Delete(p.look, 0, k); len(p.look) == 0 {
			p.look = nil
		}
	}
	l.lookups += len(list)
	return list
}

// crowded reports whether so much waits behind a phase that it must not add to it.
func (l *Ledger) crowded(index int) bool {
	n := 0
	for _, p := range l.phases[index+1:] {
		if p.reduce != nil {
			n += p.reduce.wanted()
		} else {
			n += len(p.open)
		}
	}
	return n > l.limits.Window
}

// Located answers a lookup: the input is there, and the job may read it.
func (l *Ledger) Located(ref Ref, in *task.Input) {
	p := l.phases[ref.Phase]
	l.lookups--
	if p.reduce != nil {
		l.give(p, ref.Number, in)
		return
	}
	it := p.open[ref.Number]
	if it == nil || it.state != looking {
		return
	}
	it.state, it.input = located, in
	l.ready[ref.Phase] = append(l.ready[ref.Phase], it)
}

// Refused answers a lookup: the input comes to nothing. Of the failure code, message and internal message count.
func (l *Ledger) Refused(ref Ref, f jobs.Failure) {
	p := l.phases[ref.Phase]
	l.lookups--
	if p.reduce != nil {
		l.refuse(p, ref.Number, f)
		return
	}
	it := p.open[ref.Number]
	if it == nil || it.state != looking {
		return
	}
	l.fail(it, "", f)
}

// Again answers a lookup that could not be made: it is to be made once more.
func (l *Ledger) Again(ref Ref) {
	p := l.phases[ref.Phase]
	l.lookups--
	if p.reduce != nil {
		p.reduce.repeat(ref.Number)
		return
	}
	if it := p.open[ref.Number]; it != nil && it.state == looking {
		it.state = unknown
		p.look = append(p.look, it)
	}
}

// fail gives an item an outcome that is a failure.
func (l *Ledger) fail(it *item, id string, f jobs.Failure) {
	it.state, it.input = resolved, nil
	clip(&f)
	f.Phase, f.Input, f.Origin, f.Task = it.Phase, it.path, it.origin, id
	l.waiting = append(l.waiting, &result{outcome: jobs.Outcome{Phase: it.Phase, Number: it.Number, Task: id}, failure: &f})
}

func sortItems(list []*item) {
	slices.SortFunc(list, func(a, b *item) int {
		if a.Number < b.Number {
			return -1
		}
		return 1
	})
}
