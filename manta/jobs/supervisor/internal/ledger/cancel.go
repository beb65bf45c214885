package ledger

import "github.com/mobulacloud/mobula/manta/jobs"

var cancelled = jobs.Failure{Code: jobs.CodeJobCancelled, Message: "job was cancelled"}

// Cancel ends the job: whatever has no outcome yet fails with JobCancelledError, inputs of phase 0 that are still to be read included. Attempts that run are
// forgotten; the owner ends them. Intermediate objects are left where they are.
func (l *Ledger) Cancel() {
	if l.cancelled {
		return
	}
	l.cancelled = true
	l.limits.Window = max(l.limits.Window, 20_000)
	running := map[*item]string{}
	held := map[*reducer]string{}
	for id, a := range l.tasks {
		if a.item != nil {
			running[a.item] = id
		} else {
			held[a.reducer] = id
		}
	}
	clear(l.tasks)
	l.feeds = nil
	l.objects.queue, l.objects.all = nil, false
	for _, p := range l.phases {
		if p.reduce == nil {
			list := make([]*item, 0, len(p.open))
			for _, it := range p.open {
				if it.state != resolved {
					list = append(list, it)
				}
			}
			sortItems(list)
			for _, it := range list {
				l.fail(it, running[it], cancelled)
			}
			p.look = nil
			continue
		}
		d := p.reduce
		d.looking, d.repeats, d.tail, d.backlog = map[int64]*sought{}, nil, nil, nil
		d.first, d.cur, d.replay = p.next, p.next, noReplay
		for _, r := range d.reducers {
			if r.state == reducerDone || r.state == reducerResolved {
				continue
			}
			id := held[r]
			if r.state == reducerExited && r.result != nil {
				id = r.result.outcome.Task
			}
			l.failReducer(p.index, r, id, cancelled)
		}
	}
	clear(l.ready)
}

// Cancelled reports whether [Ledger.Cancel] was called.
func (l *Ledger) Cancelled() bool { return l.cancelled }
