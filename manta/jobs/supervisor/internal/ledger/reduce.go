package ledger

import (
	"slices"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// A reduction is what a reduce phase has instead of open inputs. Its inputs are examined in the order of their numbers: each is looked up, and fed
// to its reducer if that runs. A reducer that has ended waits with its outcome until all of its inputs were looked up, so that what is wrong
// with them is known whether it reads them or not.
type reduction struct {
	reducers []*reducer
	refused  map[int64]struct{}

	// tail has the inputs from the number first on, up to the last that has come; cur is the next to be examined. While a replay is under way cur is below first,
	// and backlog has what was read again.
	first   int64
	tail    []entry
	cur     int64
	replay  replay
	backlog []entry

	looking map[int64]*sought
	repeats []int64 // of looking: to be handed out again
}

type replay uint8

const (
	noReplay     replay = iota
	replayWanted        // inputs are needed that the tail no longer has
	replaying           // they are being read
	replayRead          // all are read, some of them not examined
)

// An entry is an input of a reduce phase.
type entry struct {
	number  int64
	path    string
	origin  string
	reducer int // -1: by number
}

// sought is an entry that is being looked up, for an attempt of its reducer.
type sought struct {
	entry
	attempt string
}

type reducer struct {
	phase, index int
	state        reducerState
	attempt      string
	retries      int
	losses       int
	avoid        string
	joined       bool  // this attempt gets all that is examined
	fed          int64 // inputs below this number were examined for this attempt
	looking      int   // of them being looked up
	ended        bool  // told that no more comes
	result       *result
	clean        bool // committed, and the objects that it read were not released
	cleaning     bool // they are being
}

type reducerState uint8

const (
	reducerIdle reducerState = iota
	reducerActive
	reducerExited // has ended, but not all its inputs were looked up
	reducerResolved
	reducerDone
)

func newReduction(n int) *reduction {
	d := &reduction{refused: map[int64]struct{}{}, looking: map[int64]*sought{}}
	for i := range n {
		d.reducers = append(d.reducers, &reducer{index: i})
	}
	return d
}

func (d *reduction) target(e *entry) *reducer {
	if e.reducer >= len(d.reducers) {
		return nil
	}
	if e.reducer >= 0 {
		return d.reducers[e.reducer]
	}
	return d.reducers[e.number%int64(len(d.reducers))]
}

// live reports whether an attempt of the reducer goes on, or waits for its inputs to be looked up.
func (r *reducer) live() bool { return r.state == reducerActive || r.state == reducerExited }

func (d *reduction) cleaning() bool {
	return slices.ContainsFunc(d.reducers, func(r *reducer) bool { return r.clean || r.cleaning })
}

// end returns the number after the last input that has come.
func (d *reduction) end() int64 { return d.first + int64(len(d.tail)) }

// unread returns how many inputs of the tail were not examined.
func (d *reduction) unread() int { return int(d.end() - max(d.cur, d.first)) }

// wanted is unread, or 0 if nobody waits for them.
func (d *reduction) wanted() int {
	for _, r := range d.reducers {
		if r.live() {
			return d.unread() + len(d.looking)
		}
	}
	return 0
}

// trim forgets inputs that were examined, but for a tail.
func (d *reduction) trim(limit int) {
	most := int64(len(d.tail) - limit)
	// Copying is put off until it is worth it.
	if n := min(most, d.cur-d.first); n > int64(limit) || n > 0 && n == int64(len(d.tail)) {
		d.tail = append([]entry(nil), d.tail[n:]...)
		d.first += n
	}
}

// rewind ends the applying of commits: nobody runs, so nothing is examined.
func (d *reduction) rewind() { d.cur = d.end() }

// join has a new attempt get all inputs from the first on.
func (l *Ledger) join(p *phase, r *reducer) {
	d := p.reduce
	r.joined, r.fed, r.looking, r.ended = false, 0, 0, false
	switch {
	case d.replay != noReplay:
		d.replay = max(d.replay, replayWanted)
	case d.first == 0:
		d.cur, r.joined = 0, true
	case p.index == 0:
		l.read, d.first, d.cur, d.tail = 0, 0, 0, nil
		r.joined = true
	default:
		d.replay = replayWanted
	}
}

// examine adds lookups to a list.
func (l *Ledger) examine(p *phase, list []Lookup, most int) []Lookup {
	d := p.reduce
	for len(d.repeats) > 0 && len(list) < most {
		n := d.repeats[0]
		d.repeats = d.repeats[1:]
		s := d.looking[n]
		list = append(list, Lookup{Ref{p.index, n}, s.path, s.origin})
	}
	if d.replay == replaying || d.replay == replayRead {
		k := 0
		for ; k < len(d.backlog) && len(list) < most; k++ {
			list = l.consider(p, d.backlog[k], list)
		}
		if d.backlog = d.backlog[k:]; len(d.backlog) > 0 || d.replay == replaying {
			return list
		}
		d.replay, d.backlog = noReplay, nil
		d.cur = d.first
		for _, r := range d.reducers {
			if r.live() && !r.joined {
				d.replay = replayWanted
			}
		}
	}
	for ; d.cur < d.end() && len(list) < most; d.cur++ {
		list = l.consider(p, d.tail[d.cur-d.first], list)
	}
	d.trim(l.limits.Tail)
	return list
}

// consider has an input looked up if its reducer needs that.
func (l *Ledger) consider(p *phase, e entry, list []Lookup) []Lookup {
	d := p.reduce
	r := d.target(&e)
	if r == nil || !r.live() || !r.joined || e.number < r.fed {
		return list
	}
	r.fed = e.number + 1
	if _, ok := d.refused[e.number]; ok {
		return list
	}
	r.looking++
	if s := d.looking[e.number]; s != nil {
		s.attempt = r.attempt // it was sought for an attempt that is no more
		return list
	}
	d.looking[e.number] = &sought{e, r.attempt}
	return append(list, Lookup{Ref{p.index, e.number}, e.path, e.origin})
}

// found ends a lookup and returns whose it was; nil when the attempt is no more.
func (d *reduction) found(number int64) (*sought, *reducer) {
	s := d.looking[number]
	if s == nil {
		return nil, nil
	}
	delete(d.looking, number)
	r := d.target(&s.entry)
	if !r.live() || r.attempt != s.attempt {
		return s, nil
	}
	r.looking--
	return s, r
}

func (d *reduction) repeat(number int64) {
	if d.looking[number] != nil {
		d.repeats = append(d.repeats, number)
	}
}

func (l *Ledger) give(p *phase, number int64, in *task.Input) {
	_, r := p.reduce.found(number)
	if r == nil {
		return
	}
	if r.state == reducerActive {
		l.feeds = append(l.feeds, Feed{Task: r.attempt, Inputs: []task.Input{*in}})
	}
}

func (l *Ledger) refuse(p *phase, number int64, f jobs.Failure) {
	s, _ := p.reduce.found(number)
	if s == nil || l.cancelled {
		return
	}
	if _, ok := p.reduce.refused[number]; ok {
		return
	}
	p.reduce.refused[number] = struct{}{}
	f.Phase, f.Input, f.Origin = p.index, s.path, s.origin
	l.waiting = append(l.waiting, &result{
		outcome: jobs.Outcome{Phase: p.index, Number: number, Input: true}, failure: &f, release: s.path,
	})
}

// A Feed is input for a reducer that runs.
type Feed struct {
	Task   string
	Inputs []task.Input
	End    bool
}

// Feeds hands out what reducers are to get, at most so many inputs at a time for each.
func (l *Ledger) Feeds(most int) []Feed {
	if !l.reduces {
		return nil
	}
	var out []Feed
	last := map[string]int{}
	for _, f := range l.feeds {
		if l.tasks[f.Task] == nil {
			continue
		}
		if i, ok := last[f.Task]; ok && len(out[i].Inputs) < most {
			out[i].Inputs = append(out[i].Inputs, f.Inputs...)
			continue
		}
		last[f.Task] = len(out)
		out = append(out, f)
	}
	l.feeds = l.feeds[:0]
	for _, p := range l.phases {
		d := p.reduce
		if d == nil || !l.drained(p) {
			continue
		}
		for _, r := range d.reducers {
			if !r.live() || r.looking > 0 || !r.joined {
				continue
			}
			if r.state == reducerExited {
				r.state = reducerResolved
				l.waiting = append(l.waiting, r.result)
				continue
			}
			if r.ended {
				continue
			}
			r.ended = true
			if i, ok := last[r.attempt]; ok {
				out[i].End = true
			} else {
				out = append(out, Feed{Task: r.attempt, End: true})
			}
		}
	}
	return out
}

// drained reports whether all inputs that a reduce phase will ever have were examined.
func (l *Ledger) drained(p *phase) bool {
	d := p.reduce
	return d.replay == noReplay && d.cur == d.end() && d.end() == p.next && l.inputsEnded(p)
}

// A Reducer is one that has to be run.
type Reducer struct {
	Phase, Index int
	// Ended says that all its input is known.
	Ended bool
	// Avoid is the agent on which it was tried before.
	Avoid string
}

// Idle returns the reducers that do not run. They may be started at any time, but those that wait for input hold what they run on.
func (l *Ledger) Idle() []Reducer {
	l.reducers = l.reducers[:0]
	if !l.reduces || l.cancelled || !l.rebuilt {
		return nil
	}
	for _, p := range l.phases {
		if p.reduce == nil {
			continue
		}
		ended := l.inputsEnded(p)
		if !ended && p.next == 0 {
			continue
		}
		for _, r := range p.reduce.reducers {
			if r.state == reducerIdle {
				l.reducers = append(l.reducers, Reducer{p.index, r.index, ended, r.avoid})
			}
		}
	}
	return l.reducers
}

// Replay returns a phase whose inputs have to be read again from the commits, or -1. The owner calls [Ledger.Replayed] for every commit,
// as [Ledger.Hungry] allows, and then [Ledger.EndReplay].
func (l *Ledger) Replay() int {
	for _, p := range l.phases {
		if d := p.reduce; d != nil && d.replay == replayWanted && !l.cancelled {
			d.replay, d.cur = replaying, 0
			for _, r := range d.reducers {
				r.joined = true
			}
			return p.index
		}
	}
	return -1
}

// Hungry reports whether a replay should go on now.
func (l *Ledger) Hungry(phase int) bool { return len(l.phases[phase].reduce.backlog) < l.limits.Window }

// Replayed hands over a commit that was read again.
func (l *Ledger) Replayed(phase int, c *jobs.Commit) {
	d := l.phases[phase].reduce
	for i := range c.Emitted {
		if e := &c.Emitted[i]; e.Phase == phase && e.Number < d.first {
			d.backlog = append(d.backlog, entry{e.Number, e.Path, e.Origin, e.Reducer})
		}
	}
}

// EndReplay says that every commit was handed over.
func (l *Ledger) EndReplay(phase int) {
	if d := l.phases[phase].reduce; d.replay == replaying {
		d.replay = replayRead
	}
}
