package supervisor

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/supervisor/internal/ledger"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// A queue is map tasks whose objects have their copies in the same places.
type queue struct {
	copies  []string
	tasks   []ledger.Ready
	without time.Time // since when there has been no agent for them
}

func newQueues(phases int) []map[string]*queue {
	list := make([]map[string]*queue, phases)
	for i := range list {
		list[i] = map[string]*queue{}
	}
	return list
}

var noAgent = jobs.Failure{Code: jobs.CodeServiceUnavailable, Message: "no servers available to run task"}

// retryDelay is how long a task that the system failed waits for another attempt.
const retryDelay = 100 * time.Millisecond

// mostFeed is how many inputs one order to a reducer has.
const mostFeed = 64

// place hands tasks to agents.
func (j *job) place(ctx context.Context) {
	for _, r := range j.l.Ready(1 << 20) {
		key := strings.Join(r.Input.Copies, " ")
		q := j.queues[r.Phase][key]
		if q == nil {
			q = &queue{copies: r.Input.Copies}
			j.queues[r.Phase][key] = q
		}
		q.tasks = append(q.tasks, r)
		j.queued++
	}
	for _, queues := range slices.Backward(j.queues) { // later phases first
		for key, q := range queues {
			j.drain(q)
			if len(q.tasks) == 0 {
				delete(queues, key)
			}
		}
	}
	j.startReducers()
}

// drain starts as many tasks of a queue as there is room for.
func (j *job) drain(q *queue) {
	links := j.s.fleet.candidates(q.copies)
	if len(links) == 0 {
		if q.without.IsZero() {
			q.without = time.Now()
		}
		due := q.without.Add(j.s.cfg.AgentTimeout)
		if time.Now().Before(due) {
			j.wakeAt(due)
			return
		}
		for _, r := range q.tasks {
			j.l.Unplaced(r.Ref, noAgent)
		}
		j.queued -= len(q.tasks)
		q.tasks = nil
		j.wake()
		return
	}
	q.without = time.Time{}
	k := 0
	for ; k < len(q.tasks); k++ {
		r := &q.tasks[k]
		if !j.l.Wanted(r.Ref) {
			continue
		}
		l := j.choose(links, r.Avoid, true)
		if l == nil {
			break
		}
		id := uuid.NewString()
		if !l.start(j, &task.Start{Job: j.id, Phase: r.Phase, Task: id, Input: r.Input}) {
			break // it is just being lost
		}
		j.l.Start(r.Ref, id, l.name)
		j.started(id, &placed{link: l, at: time.Now()})
	}
	j.queued -= k
	q.tasks = slices.Delete(q.tasks, 0, k)
}

func (j *job) started(id string, p *placed) {
	j.tasks[id] = p
	j.at[p.link]++
	j.s.met.started.Add(1)
	if p.waiting {
		p.link.waiting.Add(1)
	}
}

// choose returns the least busy of the links, which for map tasks has room for more of this job. One that is to be avoided is taken if there is no other.
func (j *job) choose(links []*link, avoid string, windowed bool) *link {
	var best *link
	var bestLoad float64
	for pass := range 2 {
		for _, l := range links {
			if (l.name == avoid) != (pass == 1) {
				continue
			}
			if windowed && j.at[l] >= j.window(l) {
				continue
			}
			if load := float64(l.load.Load()) / float64(l.zones.Load()); best == nil || load < bestLoad {
				best, bestLoad = l, load
			}
		}
		if best != nil || avoid == "" {
			return best
		}
	}
	return nil
}

func (j *job) window(l *link) int {
	if j.s.cfg.Window > 0 {
		return j.s.cfg.Window
	}
	return max(64, 4*int(l.zones.Load()))
}

// startReducers starts those whose input has ended, and others where they do not take the zones from those who make their input.
func (j *job) startReducers() {
	list := j.l.Idle()
	if len(list) == 0 {
		return
	}
	all := j.s.fleet.candidates(nil)
	for _, r := range slices.Clone(list) {
		key := [2]int{r.Phase, r.Index}
		links := all
		if !r.Ended {
			links = nil
			for _, l := range all {
				if l.waiting.Load() < l.zones.Load()/4 {
					links = append(links, l)
				}
			}
		}
		l := j.choose(links, r.Avoid, false)
		id := uuid.NewString()
		if l != nil && l.start(j, &task.Start{Job: j.id, Phase: r.Phase, Task: id, Reducer: r.Index}) {
			delete(j.reducers, key)
			j.l.StartReducer(r.Phase, r.Index, id, l.name)
			j.started(id, &placed{link: l, at: time.Now(), waiting: !r.Ended})
			continue
		}
		if len(all) > 0 {
			delete(j.reducers, key)
			continue
		}
		since, ok := j.reducers[key]
		if !ok {
			since = time.Now()
			j.reducers[key] = since
		}
		if due := since.Add(j.s.cfg.AgentTimeout); time.Now().Before(due) {
			j.wakeAt(due)
			continue
		}
		delete(j.reducers, key)
		j.l.UnplacedReducer(r.Phase, r.Index, noAgent)
		j.wake()
	}
	// What has just joined may have to be looked up.
	j.locate()
}

// feed hands input to reducers, as fast as their agents take it.
func (j *job) feed() {
	for l := range j.at {
		if !l.room(j) {
			return
		}
	}
	for _, f := range j.l.Feeds(mostFeed) {
		p := j.tasks[f.Task]
		if p == nil {
			continue
		}
		if f.End && p.waiting {
			p.waiting = false
			p.link.waiting.Add(-1)
		}
		p.link.feed(&task.Feed{Task: f.Task, Inputs: f.Inputs, End: f.End})
	}
}

// reports takes what an agent tells.
func (j *job) reports(list []task.Report) {
	for i := range list {
		r := &list[i]
		if r.Emit != nil {
			j.l.Emit(*r.Emit)
			continue
		}
		if p := j.forget(r.Done.Task); p != nil {
			j.s.met.taskTime.add(time.Since(p.at))
			if f := r.Done.Failure; f != nil && r.Done.System {
				j.log.InfoContext(j.ctx, "task failed by the system", "task", r.Done.Task, "agent", p.link.name, "code", f.Code, "message", f.Message, "internal", f.Internal)
				// Whatever ails the agent is given a moment, so that a task's attempts are not over in as many milliseconds.
				done := r.Done
				time.AfterFunc(retryDelay, func() { j.post(func() { j.l.Done(done) }) })
				continue
			}
		}
		j.l.Done(r.Done)
	}
}

// lost takes that attempts are no more.
func (j *job) lost(ids []string) {
	j.log.InfoContext(j.ctx, "tasks lost with their agent", "tasks", len(ids))
	for _, id := range ids {
		if j.forget(id) != nil {
			j.s.met.lost.Add(1)
			j.l.Lost(id)
		}
	}
}

// forget ends an attempt's place.
func (j *job) forget(id string) *placed {
	p := j.tasks[id]
	if p == nil {
		return nil
	}
	delete(j.tasks, id)
	if j.at[p.link]--; j.at[p.link] <= 0 {
		delete(j.at, p.link)
	}
	if p.waiting {
		p.link.waiting.Add(-1)
	}
	return p
}
