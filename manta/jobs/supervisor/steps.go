package supervisor

import (
	"context"
	"errors"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/supervisor/internal/ledger"
)

const (
	readAhead  = 1000 // inputs to read at a time; all of a record's are taken
	mostBatch  = 64   // inputs in a batch to be looked up
	mostLocate = 8    // batches of one job
	mostDelete = 32   // deletions of one job at a time, which share syncs of the store
	perDelete  = 4    // of them after one another
)

// step starts whatever there is to do.
func (j *job) step(ctx context.Context) {
	j.refresh()
	j.read()
	j.locate()
	j.place(ctx)
	j.feed()
	j.commit()
	j.rescan()
	j.clean()
	j.remove()
	j.save()
	j.idleClose()
	if j.hungry() {
		j.wake()
	}
}

// hungry reports whether, after all that a step did, the ledger takes more inputs that can be had at once: a step that has merely passed over some brings no
// event.
func (j *job) hungry() bool {
	from, n := j.l.WantInputs()
	switch {
	case n == 0 || j.l.InputsRead() && from >= j.total:
		return false
	case len(j.inputs) > 0 || from < j.inputAt:
		return true
	case j.total >= 0:
		return from >= j.total
	}
	return !j.reading && j.dry != j.version
}

// refresh reads the job's record if it may be newer.
func (j *job) refresh() {
	if j.refreshing {
		return
	}
	j.mu.Lock()
	dirty := j.dirty
	j.dirty = false
	j.mu.Unlock()
	if !dirty {
		return
	}
	j.refreshing = true
	j.beside(func(ctx context.Context) error {
		rec, err := j.s.cfg.Records.Get(ctx, j.id)
		if err != nil {
			return err
		}
		j.post(func() {
			j.refreshing = false
			if rec.Stats.Assigns != j.rec.Stats.Assigns {
				j.stop(jobs.ErrLost)
				return
			}
			j.version++
			j.rec = rec
			if rec.Cancelled() && !j.l.Cancelled() {
				j.cancel()
			}
		})
		return nil
	})
}

// cancel ends the job's tasks at once; the ledger then fails what is left.
func (j *job) cancel() {
	j.log.InfoContext(j.ctx, "job cancelled", "tasks", j.l.Running())
	j.shut()
	j.l.Cancel()
	j.queues = newQueues(len(j.queues))
	clear(j.reducers)
	j.queued = 0
}

// read keeps the ledger in inputs of phase 0.
func (j *job) read() {
	for len(j.inputs) > 0 {
		from, n := j.l.WantInputs()
		if n == 0 {
			return
		}
		first := &j.inputs[0]
		skip := from - first.First
		if skip < 0 { // the ledger goes back to the beginning
			j.inputs, j.inputAt, j.dry = nil, from, -1
			break
		}
		if skip >= int64(len(first.Paths)) {
			j.inputs = j.inputs[1:]
			continue
		}
		paths := first.Paths[skip:min(int64(len(first.Paths)), skip+int64(n))]
		j.l.Inputs(from, paths)
	}
	from, n := j.l.WantInputs()
	if from < j.inputAt && len(j.inputs) == 0 {
		j.inputAt, j.dry = from, -1
	}
	if j.total >= 0 && len(j.inputs) == 0 && from >= j.total {
		j.l.EndInputs(j.total)
		return
	}
	if n == 0 || j.reading || j.dry == j.version {
		return
	}
	j.reading = true
	at, version, last := j.inputAt, j.version, j.rec.InputDone()
	j.beside(func(ctx context.Context) error {
		var list []jobs.Inputs
		count, next, end := 0, at, true
		for in, err := range j.s.cfg.Records.Inputs(ctx, j.id, at) {
			if err != nil {
				return err
			}
			if in.First+int64(len(in.Paths)) <= at {
				continue
			}
			list = append(list, in)
			next = in.First + int64(len(in.Paths))
			if count += len(in.Paths); count >= readAhead {
				end = false
				break
			}
		}
		j.post(func() {
			j.reading = false
			if j.inputAt != at {
				return // the ledger has gone back meanwhile
			}
			j.inputs, j.inputAt = append(j.inputs, list...), next
			if end {
				j.dry = version
				if last {
					j.total = next
				}
			}
		})
		return nil
	})
}

// locate has inputs looked up, some at a time.
func (j *job) locate() {
	// Those of phase 0 that wait for an agent are no more than Inputs, and must not be in the way of later phases.
	for j.locating < mostLocate && j.queued < 4*j.s.cfg.Inputs {
		list := j.l.Locate(mostBatch)
		if len(list) == 0 {
			return
		}
		j.locating++
		j.beside(func(ctx context.Context) error {
			select {
			case j.s.slots <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			began := time.Now()
			found, fault := j.s.look(ctx, j.open, list)
			<-j.s.slots
			j.s.met.lookupTime.add(time.Since(began))
			if fault != nil && ctx.Err() == nil {
				j.log.WarnContext(ctx, "inputs not looked up", "err", fault)
				pause(ctx, time.Second)
			}
			j.post(func() { j.located(list, found) })
			return nil
		})
	}
}

func (j *job) located(list []ledger.Lookup, found []answer) {
	j.locating--
	for i, k := range list {
		switch a := &found[i]; {
		case a.input != nil:
			j.l.Located(k.Ref, a.input)
		case a.failure.Code != "":
			j.s.met.refused.Add(1)
			j.l.Refused(k.Ref, a.failure)
		default:
			j.l.Again(k.Ref)
		}
	}
}

// commit writes down what has come about, one commit at a time: what comes meanwhile goes into the next.
func (j *job) commit() {
	if j.writing {
		return
	}
	c := j.l.Commit(now())
	if c == nil {
		return
	}
	j.writing = true
	j.beside(func(ctx context.Context) error {
		began := time.Now()
		if err := j.claim.Commit(ctx, c); err != nil {
			return err
		}
		j.s.met.commitTime.add(time.Since(began))
		j.s.met.commits.Add(1)
		j.s.met.outcomes.Add(uint64(len(c.Outcomes)))
		j.s.met.retried.Add(uint64(c.Retries))
		for i := range c.Outcomes {
			switch o := &c.Outcomes[i]; {
			case o.OK:
				j.s.met.tasksOK.Add(1)
			case o.Task != "":
				j.s.met.tasksFailed.Add(1)
			}
		}
		j.post(func() {
			j.writing, j.progress = false, true
			j.l.Committed()
		})
		return nil
	})
}

// rescan reads commits again for a reducer that starts late.
func (j *job) rescan() {
	if j.scanning {
		return
	}
	phase := j.l.Replay()
	if phase < 0 {
		return
	}
	j.scanning = true
	j.scan(func(c *jobs.Commit) bool {
		j.l.Replayed(phase, c)
		return j.l.Hungry(phase)
	}, func() bool { return j.l.Hungry(phase) || j.l.Cancelled() }, func() {
		j.scanning = false
		j.l.EndReplay(phase)
	})
}

// clean reads commits for objects that nobody needs any more.
func (j *job) clean() {
	if j.cleaning || !j.l.Clean() {
		return
	}
	j.cleaning = true
	room := func() bool { return j.l.Queued() < 4096 }
	j.scan(func(c *jobs.Commit) bool { j.l.Cleaned(c); return room() }, room, func() {
		j.cleaning = false
		j.l.EndClean()
	})
}

// scan reads all commits of the job. each is called with every one of them, by the job's goroutine, and says whether it takes another at once; where it does
// not, the scan waits until more does. end is called at the end.
func (j *job) scan(each func(*jobs.Commit) bool, more func() bool, end func()) {
	j.beside(func(ctx context.Context) error {
		taken := make(chan bool, 1)
		for c, err := range j.claim.Commits(ctx) {
			if err != nil {
				return err
			}
			j.post(func() { taken <- each(c) })
			for ok := false; !ok; {
				select {
				case ok = <-taken:
				case <-ctx.Done():
					return nil
				}
				if !ok {
					pause(ctx, 5*time.Millisecond)
					j.post(func() { taken <- more() })
				}
			}
		}
		j.post(end)
		return nil
	})
}

// remove deletes objects that nobody needs any more.
func (j *job) remove() {
	for j.deleting < mostDelete {
		list := j.l.Deletes(perDelete)
		if len(list) == 0 {
			return
		}
		j.deleting++
		rec := j.rec
		j.beside(func(ctx context.Context) error {
			for _, path := range list {
				j.s.delete(ctx, rec, path, j.log)
			}
			j.post(func() {
				j.deleting--
				j.l.Deleted(len(list))
			})
			return nil
		})
	}
}

// save writes the counters down, so that users see the job move.
func (j *job) save() {
	if j.saving {
		return
	}
	stats := j.l.Stats()
	stats.Assigns = j.saved.Assigns
	if stats == j.saved || j.l.Finished() {
		return
	}
	if j.savedAt.IsZero() {
		j.savedAt = time.Now()
	}
	if due := j.savedAt.Add(j.s.cfg.SaveInterval); time.Now().Before(due) {
		j.wakeAt(due)
		return
	}
	j.saving = true
	j.beside(func(ctx context.Context) error {
		_, err := j.claim.Update(ctx, func(rec *jobs.Job) error { rec.Stats = stats; return nil })
		if err != nil {
			return err
		}
		j.post(func() { j.saving, j.saved, j.savedAt = false, stats, time.Now() })
		return nil
	})
}

// idleClose ends the input of a job that was forgotten.
func (j *job) idleClose() {
	if j.ending || j.rec.InputDone() {
		return
	}
	last := j.rec.TimeCreated
	if j.rec.TimeInput.After(last) {
		last = j.rec.TimeInput
	}
	due := last.Add(j.s.cfg.IdleClose)
	if time.Now().Before(due) {
		j.wakeAt(due)
		return
	}
	j.log.InfoContext(j.ctx, "input ended, since none came", "since", last)
	j.ending = true
	j.beside(func(ctx context.Context) error {
		var refused *jobs.StateError
		if err := j.s.cfg.Records.EndInput(ctx, j.id); err != nil && !errors.As(err, &refused) {
			return err
		}
		j.note()
		return nil // input that came just before is read with the record that says that it has ended
	})
}
