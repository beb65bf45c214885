package ledger

import (
	"strings"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// How often a task may lose its agent. It is far more than what the task's own attempts may cost, since agents are lost for
// reasons that have nothing to do with it; but a task that takes its agent down must not do so for ever. A reducer may be there for as long as its job, and
// will see more.
const (
	maxLosses        = 24
	maxReducerLosses = 500
)

// An attempt is a task that runs.
type attempt struct {
	id      string
	agent   string
	item    *item    // of a map task
	reducer *reducer // of a reducer
	emitted []task.Emit
	size    int // of what was emitted, in a commit
}

// What a task may emit, since it is committed all at once.
const (
	maxEmitted = 96 << 20 // bytes in a commit
	maxPath    = 16 << 10 // bytes
)

// Ready is a map task that wants an agent.
type Ready struct {
	Ref
	Input *task.Input
	// Avoid is the agent on which it was tried before.
	Avoid string
}

// Ready hands out map tasks, later phases first. Each is answered by [Ledger.Start] or [Ledger.Unplaced].
func (l *Ledger) Ready(most int) []Ready {
	var list []Ready
	for i := len(l.ready) - 1; i >= 0 && len(list) < most; i-- {
		q := l.ready[i]
		k := 0
		for ; k < len(q) && len(list) < most; k++ {
			if it := q[k]; it.state == located {
				list = append(list, Ready{it.Ref, it.input, it.avoid})
			}
		}
		if l.ready[i] = q[k:]; len(l.ready[i]) == 0 {
			l.ready[i] = nil
		}
	}
	return list
}

// Start says that a map task was handed to an agent, as the attempt with this id. It reports false if there is no such task to be done any more.
func (l *Ledger) Start(ref Ref, id, agent string) bool {
	it := l.phases[ref.Phase].open[ref.Number]
	if it == nil || it.state != located {
		return false
	}
	it.state, it.input = running, nil
	l.tasks[id] = &attempt{id: id, agent: agent, item: it}
	return true
}

// Wanted reports whether a task that [Ledger.Ready] gave out still wants an agent.
func (l *Ledger) Wanted(ref Ref) bool {
	it := l.phases[ref.Phase].open[ref.Number]
	return it != nil && it.state == located
}

// StartReducer says that a reducer was handed to an agent.
func (l *Ledger) StartReducer(phase, index int, id, agent string) bool {
	p := l.phases[phase]
	r := p.reduce.reducers[index]
	if r.state != reducerIdle || l.cancelled {
		return false
	}
	r.phase = phase
	r.state, r.attempt = reducerActive, id
	l.tasks[id] = &attempt{id: id, agent: agent, reducer: r}
	l.join(p, r)
	return true
}

// Unplaced says that no agent could be found for a map task in time.
func (l *Ledger) Unplaced(ref Ref, f jobs.Failure) {
	if it := l.phases[ref.Phase].open[ref.Number]; it != nil && it.state == located {
		l.fail(it, "", f)
	}
}

// UnplacedReducer says that no agent could be found for a reducer in time.
func (l *Ledger) UnplacedReducer(phase, index int, f jobs.Failure) {
	if r := l.phases[phase].reduce.reducers[index]; r.state == reducerIdle && !l.cancelled {
		l.failReducer(phase, r, "", f)
	}
}

// Emit takes down an output of a task that runs.
func (l *Ledger) Emit(e task.Emit) {
	a := l.tasks[e.Task]
	if a == nil {
		return
	}
	if a.size += encoded(e.Path) + 100; a.item != nil {
		a.size += encoded(a.item.origin)
	}
	if len(e.Path) > maxPath {
		a.size += maxEmitted
	}
	if a.size > maxEmitted {
		a.emitted = nil
		return
	}
	a.emitted = append(a.emitted, e)
}

// encoded bounds the length of a string in JSON.
func encoded(s string) int {
	n := len(s)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x80 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			n += 5
		}
	}
	return n
}

// Done takes down the end of a task. Reports of tasks that are not known any more change nothing.
func (l *Ledger) Done(d *task.Done) {
	a := l.tasks[d.Task]
	if a == nil {
		return
	}
	delete(l.tasks, d.Task)
	switch {
	case d.Failure != nil && d.System && l.retry(a, l.limits.Retries, false):
	case d.Failure != nil:
		l.settle(a, *d.Failure)
	case a.size > maxEmitted:
		l.settle(a, jobs.Failure{Code: jobs.CodeUserTask, Message: "user task emitted more than a job can take down"})
	case a.item != nil:
		it := a.item
		it.state = resolved
		l.waiting = append(l.waiting, &result{
			outcome: jobs.Outcome{Phase: it.Phase, Number: it.Number, Task: a.id, OK: true}, emitted: a.emitted, origin: it.origin, size: a.size,
		})
	default:
		r := a.reducer
		r.state, r.result = reducerExited, &result{
			outcome: jobs.Outcome{Phase: r.phase, Number: int64(r.index), Task: a.id, OK: true}, emitted: a.emitted, size: a.size,
		}
	}
}

// Lost takes down that an attempt is no more, because its agent is not.
func (l *Ledger) Lost(id string) {
	a := l.tasks[id]
	if a == nil {
		return
	}
	delete(l.tasks, id)
	most := maxLosses
	if a.reducer != nil {
		most = maxReducerLosses
	}
	if !l.retry(a, most, true) {
		l.settle(a, jobs.Failure{Code: jobs.CodeInternal, Message: "internal error", Internal: "agent timed out"})
	}
}

// retry has a task done again, unless it was too often.
func (l *Ledger) retry(a *attempt, most int, lost bool) bool {
	if l.cancelled {
		return false
	}
	retries, losses := 0, 0
	if a.item != nil {
		retries, losses = a.item.retries, a.item.losses
	} else {
		retries, losses = a.reducer.retries, a.reducer.losses
	}
	if lost && losses >= most || !lost && retries >= most {
		return false
	}
	if lost {
		losses++
	} else {
		retries++
	}
	l.retries++
	l.again = true
	if it := a.item; it != nil {
		it.state, it.avoid, it.retries, it.losses = unknown, a.agent, retries, losses
		p := l.phases[it.Phase]
		p.look = append(p.look, it)
		return true
	}
	r := a.reducer
	r.state, r.attempt, r.avoid, r.retries, r.losses = reducerIdle, "", a.agent, retries, losses
	return true
}

// settle gives a task the outcome that it failed.
func (l *Ledger) settle(a *attempt, f jobs.Failure) {
	if a.item != nil {
		l.fail(a.item, a.id, f)
		return
	}
	l.failReducer(a.reducer.phase, a.reducer, a.id, f)
}

func (l *Ledger) failReducer(phase int, r *reducer, id string, f jobs.Failure) {
	f.Phase, f.Input, f.Origin, f.Task = phase, "", "", id
	clip(&f)
	res := &result{outcome: jobs.Outcome{Phase: phase, Number: int64(r.index), Task: id}, failure: &f}
	r.phase = phase
	if l.cancelled {
		r.state = reducerResolved
		l.waiting = append(l.waiting, res)
		return
	}
	if r.state == reducerIdle { // it never ran, but its inputs are to be looked up all the same
		r.attempt = ""
		r.state = reducerExited
		r.result = res
		l.join(l.phases[phase], r)
		return
	}
	r.state, r.result = reducerExited, res
}

// Tasks yields the ids of attempts that run, and where.
func (l *Ledger) Tasks(yield func(id, agent string) bool) {
	for id, a := range l.tasks {
		if !yield(id, a.agent) {
			return
		}
	}
}

// Running returns how many attempts run.
func (l *Ledger) Running() int { return len(l.tasks) }

// clip bounds what others say about a failure.
func clip(f *jobs.Failure) {
	for _, s := range []*string{&f.Code, &f.Message, &f.Internal, &f.Server, &f.Machine, &f.Stderr, &f.Core} {
		if len(*s) > 8<<10 {
			*s = strings.ToValidUTF8((*s)[:8<<10], "")
		}
	}
}
