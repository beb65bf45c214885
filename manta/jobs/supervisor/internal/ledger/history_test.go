package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// A run drives a ledger at random.
type run struct {
	t       testing.TB
	rnd     *rand.Rand
	job     *jobs.Job
	limits  Limits
	inputs  []string
	l       *Ledger
	commits []*jobs.Commit

	lookups  []Lookup
	ready    []Ready
	tasks    map[string]*active
	deletes  []string
	deleted  map[string]bool
	replay   int // phase, or -1
	at       int // commits replayed
	clean    int // commits looked at; -1: none
	writing  bool
	ids      int
	crashes  int
	cancelAt int
}

type active struct {
	item    *Ready
	phase   int
	reducer int
	fed     []string
	ended   bool
}

func (r *run) begin() {
	r.l = New(r.job, r.limits)
	for _, c := range r.commits {
		r.l.Apply(c)
	}
	if r.l.Recounting() {
		for _, c := range r.commits {
			r.l.Recount(c)
		}
	}
	r.l.Begin()
	r.lookups, r.ready, r.tasks, r.deletes = nil, nil, map[string]*active{}, nil
	r.replay, r.clean, r.writing = -1, -1, false
}

func (r *run) look(k Lookup) {
	if r.deleted[k.Path] {
		r.t.Fatalf("input %v %s was deleted", k.Ref, k.Path)
	}
	switch {
	case r.rnd.IntN(20) == 0:
		r.l.Again(k.Ref)
	case gone(k.Path):
		r.l.Refused(k.Ref, jobs.Failure{Code: jobs.CodeResourceNotFound})
	default:
		r.l.Located(k.Ref, &task.Input{Path: k.Path})
	}
}

func take[T any](r *rand.Rand, list *[]T) T {
	i := r.IntN(len(*list))
	x := (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	return x
}

// step does one random thing; it reports whether there was anything to do.
func (r *run) step(faults bool) bool {
	l := r.l
	switch k := r.rnd.IntN(14); k {
	case 0:
		from, n := l.WantInputs()
		if n > 0 && from < int64(len(r.inputs)) {
			chunk := max(0, from-int64(r.rnd.IntN(3)))
			l.Inputs(chunk, r.inputs[chunk:min(int64(len(r.inputs)), from+int64(n))])
			return true
		}
		if !l.InputsRead() && from == int64(len(r.inputs)) {
			l.EndInputs(from)
			return true
		}
	case 1:
		list := l.Locate(1 + r.rnd.IntN(5))
		r.lookups = append(r.lookups, list...)
		return len(list) > 0
	case 2, 3:
		if len(r.lookups) > 0 {
			r.look(take(r.rnd, &r.lookups))
			return true
		}
	case 4:
		list := l.Ready(1 + r.rnd.IntN(5))
		r.ready = append(r.ready, list...)
		return len(list) > 0
	case 5, 6:
		if len(r.ready) > 0 {
			x := take(r.rnd, &r.ready)
			r.ids++
			id := fmt.Sprint("t", r.ids)
			if l.Start(x.Ref, id, "a") {
				r.tasks[id] = &active{item: &x, phase: x.Phase}
			}
			return true
		}
	case 7:
		if list := l.Idle(); len(list) > 0 {
			x := list[r.rnd.IntN(len(list))]
			if x.Ended || r.rnd.IntN(3) == 0 {
				r.ids++
				id := fmt.Sprint("t", r.ids)
				if !l.StartReducer(x.Phase, x.Index, id, "a") {
					r.t.Fatalf("idle reducer %v does not start", x)
				}
				r.tasks[id] = &active{phase: x.Phase, reducer: x.Index}
			}
			return true
		}
	case 8:
		list := l.Feeds(1 + r.rnd.IntN(5))
		for _, f := range list {
			x := r.tasks[f.Task]
			for _, in := range f.Inputs {
				x.fed = append(x.fed, in.Path)
			}
			if x.ended && (f.End || len(f.Inputs) > 0) {
				r.t.Fatalf("reducer fed after its end")
			}
			x.ended = x.ended || f.End
		}
		return len(list) > 0
	case 9, 10:
		ids := make([]string, 0, len(r.tasks))
		for id := range r.tasks {
			ids = append(ids, id)
		}
		if len(ids) == 0 {
			return false
		}
		sort.Strings(ids)
		id := ids[r.rnd.IntN(len(ids))]
		x := r.tasks[id]
		var out []task.Emit
		var ok bool
		switch {
		case faults && r.rnd.IntN(10) == 0 && l.losses(x) < maxLosses:
			delete(r.tasks, id)
			l.Lost(id)
			return true
		case faults && r.rnd.IntN(60) == 0 && (x.item != nil && l.phases[x.phase].open[x.item.Number].retries < r.limits.Retries || x.item == nil && l.phases[x.phase].reduce.reducers[x.reducer].retries < r.limits.Retries):
			delete(r.tasks, id)
			l.Done(&task.Done{Task: id, System: true, Failure: &jobs.Failure{Code: jobs.CodeInternal}})
			return true
		case x.item != nil:
			out, ok = program(r.job.Phases, x.phase, x.item.Input.Path)
		case x.ended:
			out, ok = reduce(r.job.Phases, x.phase, x.reducer, x.fed)
		default:
			return false
		}
		delete(r.tasks, id)
		for _, e := range out {
			e.Task = id
			l.Emit(e)
		}
		d := &task.Done{Task: id}
		if !ok {
			d.Failure = &jobs.Failure{Code: jobs.CodeUserTask, Message: "user command exited with code 1"}
		}
		l.Done(d)
		return true
	case 11:
		if r.writing {
			if faults && r.rnd.IntN(50) == 0 { // stored, but nobody was told
				r.crash()
				return true
			}
			r.writing = false
			l.Committed()
			return true
		}
		if c := l.Commit(time.Unix(1, 0)); c != nil {
			r.commits = append(r.commits, c)
			r.writing = true
			return true
		}
	case 12:
		if r.replay < 0 {
			if r.replay = l.Replay(); r.replay >= 0 {
				r.at = 0
				return true
			}
		} else if l.Hungry(r.replay) {
			if r.at < len(r.commits) {
				l.Replayed(r.replay, r.commits[r.at])
				r.at++
			} else {
				l.EndReplay(r.replay)
				r.replay = -1
			}
			return true
		}
		if r.clean < 0 {
			if l.Clean() {
				r.clean = 0
				return true
			}
		} else {
			n := len(r.commits)
			if r.writing { // the reader of commits sees it, or not
				n -= r.rnd.IntN(2)
			}
			if r.clean < n {
				l.Cleaned(r.commits[r.clean])
				r.clean++
			} else {
				l.EndClean()
				r.clean = -1
			}
			return true
		}
	case 13:
		if list := l.Deletes(3); len(list) > 0 {
			r.deletes = append(r.deletes, list...)
			return true
		}
		if len(r.deletes) > 0 {
			r.deleted[take(r.rnd, &r.deletes)] = true
			l.Deleted(1)
			return true
		}
		if faults && r.rnd.IntN(40) == 0 {
			r.crash()
			return true
		}
	}
	return false
}

func (l *Ledger) losses(x *active) int {
	if x.item != nil {
		return l.phases[x.phase].open[x.item.Number].losses
	}
	return l.phases[x.phase].reduce.reducers[x.reducer].losses
}

func (r *run) crash() {
	r.crashes++
	r.begin()
}

func (r *run) verdict() verdict {
	var v verdict
	made, seen := map[string]bool{}, map[string]bool{}
	for _, c := range r.commits {
		v.Outputs = append(v.Outputs, c.Outputs...)
		for _, f := range c.Errors {
			v.Errors = append(v.Errors, fmt.Sprintf("%d %s %s %s", f.Phase, f.Code, f.Input, f.Origin))
		}
		for _, e := range c.Emitted {
			if strings.HasPrefix(e.Path, stor) {
				made[e.Path] = true
			}
			key := fmt.Sprint("in", e.Phase, e.Number)
			if seen[key] {
				r.t.Errorf("input %s emitted twice", key)
			}
			seen[key] = true
		}
		for _, o := range c.Outcomes {
			key := fmt.Sprint("out", o.Phase, o.Number, o.Input)
			if seen[key] {
				r.t.Errorf("two outcomes of %s", key)
			}
			seen[key] = true
			if o.Task != "" {
				v.Tasks++
			}
		}
	}
	for p := range made {
		if !r.deleted[p] {
			v.Left = append(v.Left, p)
		}
	}
	v.Read = r.l.Stats().InputsRead
	sort.Strings(v.Outputs)
	sort.Strings(v.Errors)
	sort.Strings(v.Left)
	return v
}

// finish goes on until the ledger says that the job is over.
func (r *run) finish(faults bool) {
	idle := 0
	for n := 0; !r.l.Finished(); n++ {
		if r.step(faults && n < 8000) {
			idle = 0
		} else if idle++; idle > 5000 {
			r.t.Fatalf("nothing happens any more: %s", r.dump())
		}
		if n == r.cancelAt && n > 0 {
			r.l.Cancel()
			clear(r.tasks)
			r.deletes = nil
			r.l.objects.deleting = 0
		}
	}
}

func (r *run) dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "read %d ended %v lookups %d waiting %d tasks %d objects %d/%d all %v pass %v;", r.l.read, r.l.ended, r.l.lookups, len(r.l.waiting), len(r.l.tasks),
		len(r.l.objects.queue), r.l.objects.deleting, r.l.objects.all, r.l.objects.pass)
	for _, p := range r.l.phases {
		fmt.Fprintf(&b, " phase %d %s next %d complete %v", p.index, p.Type, p.next, r.l.complete(p))
		if d := p.reduce; d != nil {
			fmt.Fprintf(&b, " first %d tail %d cur %d replay %d backlog %d looking %d", d.first, len(d.tail), d.cur, d.replay, len(d.backlog), len(d.looking))
			for _, x := range d.reducers {
				fmt.Fprintf(&b, " {%d joined %v fed %d looking %d ended %v clean %v %v}", x.state, x.joined, x.fed, x.looking, x.ended, x.clean, x.cleaning)
			}
		} else {
			fmt.Fprintf(&b, " open %d look %d ready %d done %d", len(p.open), len(p.look), len(r.l.ready[p.index]), p.done.count)
		}
	}
	return b.String()
}

func randomRun(t testing.TB, seed uint64) *run {
	rnd := rand.New(rand.NewPCG(seed, 1))
	job := &jobs.Job{ID: "j", Login: "u"}
	for range 1 + rnd.IntN(4) {
		p := jobs.Phase{Type: jobs.Map}
		if rnd.IntN(3) == 0 {
			p = jobs.Phase{Type: jobs.Reduce, Count: rnd.IntN(5)}
		}
		job.Phases = append(job.Phases, p)
	}
	r := &run{t: t, rnd: rnd, job: job, deleted: map[string]bool{}, limits: Limits{Window: 1 + rnd.IntN(10), Retries: 2, Commit: 1 + rnd.IntN(6), Tail: 1 + rnd.IntN(6)}}
	for i := range rnd.IntN(60) {
		r.inputs = append(r.inputs, fmt.Sprintf("/u/stor/%d-%d", seed, i))
	}
	r.begin()
	return r
}

func runs() uint64 {
	if testenv.Long() {
		return 20_000
	}
	return 1500
}

// TestHistories holds that whatever happens to a job, and in whatever order, it ends as it would have by itself.
func TestHistories(t *testing.T) {
	var crashes int
	for seed := range runs() {
		r := randomRun(t, seed)
		r.finish(true)
		crashes += r.crashes
		want := expected(r.job.Phases, r.inputs)
		if diff := cmp.Diff(want, r.verdict()); diff != "" {
			t.Fatalf("seed %d, phases %v, %d inputs, %d crashes (-want +got)\n%s", seed, r.job.Phases, len(r.inputs), r.crashes, diff)
		}
		stats, v := r.l.Stats(), r.verdict()
		got := jobs.Stats{InputsRead: v.Read, Tasks: v.Tasks, TasksOK: stats.TasksOK, TasksFailed: v.Tasks - stats.TasksOK, Outputs: int64(len(v.Outputs)), Errors: int64(len(v.Errors)), Retries: stats.Retries}
		if diff := cmp.Diff(got, stats); diff != "" {
			t.Fatalf("seed %d: counters (-lists +stats)\n%s", seed, diff)
		}
		if len(r.l.objects.refs) > 0 {
			bad := 0
			for _, c := range r.commits {
				for _, e := range c.Errors {
					if e.Code == jobs.CodeInvalidArgument {
						bad++
					}
				}
			}
			if len(r.l.objects.refs) > bad {
				t.Fatalf("seed %d: %d references are left, %d of them explained", seed, len(r.l.objects.refs), bad)
			}
		}
	}
	t.Logf("%d crashes", crashes)
}

// TestCancelledHistories holds that a job that is cancelled ends with one outcome for each of its inputs.
func TestCancelledHistories(t *testing.T) {
	for seed := range runs() {
		r := randomRun(t, seed)
		r.cancelAt = 1 + r.rnd.IntN(600)
		r.finish(false)
		if !r.l.Cancelled() {
			continue
		}
		v := r.verdict()
		inputs := map[Ref]bool{}
		for _, c := range r.commits {
			for _, e := range c.Emitted {
				if r.job.Phases[e.Phase].Type == jobs.Map {
					inputs[Ref{e.Phase, e.Number}] = false
				}
			}
		}
		for i, p := range r.job.Phases {
			n := p.Reducers()
			if i == 0 && n == 0 {
				n = len(r.inputs)
			}
			for k := range n {
				inputs[Ref{i, int64(k)}] = false
			}
		}
		failed := 0
		for _, c := range r.commits {
			for _, o := range c.Outcomes {
				if !o.OK {
					failed++
				}
				if !o.Input {
					inputs[Ref{o.Phase, o.Number}] = true
				}
			}
		}
		for in, done := range inputs {
			if !done {
				t.Fatalf("seed %d: no outcome of %v", seed, in)
			}
		}
		if failed != len(v.Errors) {
			t.Fatalf("seed %d: %d failed outcomes, %d errors", seed, failed, len(v.Errors))
		}
	}
}
