package ledger

import (
	"hash/maphash"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// Limits bound what a ledger has under way. The zero value means the defaults.
type Limits struct {
	Window  int // open inputs of phase 0, and of later phases before earlier ones are held back; 0 means 1,024
	Retries int // further attempts of a task that the system failed; 0 means 2, negative none
	Commit  int // outcomes in one commit; 0 means 2,000
	Tail    int // inputs of a reduce phase that are kept for reducers that start late; 0 means 1,024
}

// A Ref names an input of a phase.
type Ref struct {
	Phase  int
	Number int64
}

// A Ledger is the books of one job. It belongs to one goroutine.
type Ledger struct {
	limits Limits
	stor   string // what paths of intermediate objects begin with
	phases []*phase
	seed   maphash.Seed

	read      int64 // number of the next input of phase 0 to be read
	ended     bool  // no input of phase 0 comes after those read
	cancelled bool
	rebuilt   bool
	reduces   bool // there is a reduce phase

	stats jobs.Stats // of what is committed, but for InputsRead

	tasks    map[string]*attempt // by id
	waiting  []*result           // for the next commit
	writing  *jobs.Commit        // being written
	written  []*result           // what it is of
	retries  int64               // not committed yet
	ready    [][]*item           // by phase: located, want an agent
	lookups  int                 // inputs handed out by Locate
	feeds    []Feed
	again    bool // attempts came to nothing whose objects may be there still
	objects  objects
	reducers []Reducer
}

// A phase is one step. What of its fields is used depends on its type.
type phase struct {
	jobs.Phase
	index int
	next  int64 // number of the next input that comes; for phase 0 those that were read

	// Of a map phase.
	done intervals       // phase 0: inputs with an outcome
	open map[int64]*item // inputs without one; of phase 0 those read
	look []*item         // to be looked up; those that are no longer open are passed over

	reduce *reduction // of a reduce phase
}

// An item is an input of a map phase.
type item struct {
	Ref
	path    string
	origin  string
	state   state
	input   *task.Input
	retries int    // attempts that the system failed
	losses  int    // attempts whose agent was lost
	avoid   string // agent that had it last
}

type state uint8

const (
	unknown  state = iota // waits to be looked up
	looking               // being looked up
	located               // wants an agent
	running               // has one
	resolved              // has an outcome that is not committed
)

// New returns the ledger of a job of which nothing is known yet: have it [Ledger.Apply] the job's commits, then [Ledger.Begin].
func New(job *jobs.Job, limits Limits) *Ledger {
	def := func(p *int, d int) {
		if *p == 0 {
			*p = d
		}
	}
	def(&limits.Window, 1024)
	def(&limits.Retries, 2)
	def(&limits.Commit, 2000)
	def(&limits.Tail, 1024)
	l := &Ledger{limits: limits, stor: jobs.StorDir(job.Login, job.ID) + "/", seed: maphash.MakeSeed(), tasks: map[string]*attempt{}, ready: make([][]*item, len(job.Phases))}
	l.objects.refs, l.objects.kept = map[uint64]int32{}, map[uint64]struct{}{}
	for i := range job.Phases {
		p := &phase{Phase: job.Phases[i], index: i}
		if n := p.Reducers(); n > 0 {
			p.reduce, l.reduces = newReduction(n), true
		} else {
			p.open = map[int64]*item{}
		}
		l.phases = append(l.phases, p)
	}
	return l
}

// Apply takes what a commit says for done. Its owner applies those that are stored; what [Ledger.Commit] gave out is applied by [Ledger.Committed].
func (l *Ledger) Apply(c *jobs.Commit) {
	for i := range c.Emitted {
		e := &c.Emitted[i]
		p := l.phase(e.Phase)
		if p == nil || e.Phase == 0 {
			continue
		}
		p.next = max(p.next, e.Number+1)
		if l.rebuilt {
			l.refer(e.Path)
		}
		if d := p.reduce; d != nil {
			switch {
			case !l.rebuilt:
				d.tail = append(d.tail, entry{e.Number, e.Path, e.Origin, e.Reducer})
				d.cur = d.end()
				d.trim(l.limits.Tail)
			case l.cancelled:
				d.first, d.cur = p.next, p.next
			default:
				d.tail = append(d.tail, entry{e.Number, e.Path, e.Origin, e.Reducer})
			}
			continue
		}
		it := &item{Ref: Ref{e.Phase, e.Number}, path: e.Path, origin: e.Origin}
		p.open[e.Number] = it
		switch {
		case l.cancelled:
			l.fail(it, "", cancelled)
		case l.rebuilt:
			p.look = append(p.look, it)
		}
	}
	for _, path := range c.Outputs {
		l.keep(path)
	}
	for i := range c.Outcomes {
		l.conclude(&c.Outcomes[i])
	}
	l.stats.Outputs += int64(len(c.Outputs))
	l.stats.Errors += int64(len(c.Errors))
	l.stats.Retries += c.Retries
}

// conclude takes one outcome for done.
func (l *Ledger) conclude(o *jobs.Outcome) {
	p := l.phase(o.Phase)
	if p == nil {
		return
	}
	if o.Task != "" {
		if o.OK {
			l.stats.TasksOK++
		} else {
			l.stats.TasksFailed++
		}
	}
	switch {
	case p.reduce == nil:
		if it := p.open[o.Number]; it != nil {
			if l.rebuilt && o.Phase > 0 {
				l.release(it.path)
			}
			delete(p.open, o.Number)
		}
		if o.Phase == 0 {
			p.done.add(o.Number)
		}
	case o.Input:
		p.reduce.refused[o.Number] = struct{}{}
	case o.Number >= 0 && o.Number < int64(len(p.reduce.reducers)):
		r := p.reduce.reducers[o.Number]
		r.state = reducerDone
		r.result = nil
		if l.rebuilt && o.Phase > 0 {
			r.clean = true
		}
	}
}

// Begin ends the applying of what was stored. From now on the ledger gives out work.
func (l *Ledger) Begin() {
	l.rebuilt = true
	for _, p := range l.phases {
		if p.reduce != nil {
			p.reduce.rewind()
			continue
		}
		if p.index == 0 {
			l.read = p.done.next(0)
			p.next = l.read
			continue
		}
		numbers := make([]*item, 0, len(p.open))
		for _, it := range p.open {
			numbers = append(numbers, it)
		}
		sortItems(numbers)
		p.look = numbers
	}
}

func (l *Ledger) phase(i int) *phase {
	if i < 0 || i >= len(l.phases) {
		return nil
	}
	return l.phases[i]
}

// inputsEnded reports whether no more input comes to a phase.
func (l *Ledger) inputsEnded(p *phase) bool {
	if p.index == 0 {
		return l.ended && (p.reduce == nil || l.read == p.next)
	}
	return l.complete(l.phases[p.index-1])
}

// complete reports whether all inputs of a phase have come and have outcomes that are committed.
func (l *Ledger) complete(p *phase) bool {
	if p.reduce != nil {
		for _, r := range p.reduce.reducers {
			if r.state != reducerDone {
				return false
			}
		}
		// A reducer ends only after all its input was examined. Those of phase 0 are counted to the end.
		return p.index > 0 || l.ended && l.read == p.next
	}
	if p.index == 0 {
		return l.ended && p.done.count == l.read && len(p.open) == 0
	}
	return len(p.open) == 0 && l.inputsEnded(p)
}

// Finished reports whether everything has an outcome that is committed, and all that has to be deleted is.
func (l *Ledger) Finished() bool {
	if len(l.waiting) > 0 || l.writing != nil || l.lookups > 0 || l.objects.busy() || len(l.tasks) > 0 {
		return false
	}
	for _, p := range l.phases {
		if !l.complete(p) || !l.cancelled && p.reduce != nil && p.reduce.cleaning() {
			return false
		}
	}
	return true
}

// Stats returns the job's counters; those of tasks that run are in Tasks alone.
func (l *Ledger) Stats() jobs.Stats {
	s := l.stats
	s.InputsRead = l.phases[0].next
	s.Tasks = s.TasksOK + s.TasksFailed + int64(len(l.tasks))
	s.Retries += l.retries
	return s
}

// Swept reports whether nothing was ever tried in vain, so that there are no objects of attempts that do not count.
func (l *Ledger) Swept() bool { return !l.again && l.stats.Retries == 0 && l.retries == 0 }
