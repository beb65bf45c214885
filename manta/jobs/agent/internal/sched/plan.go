package sched

import (
	"cmp"
	"slices"
	"time"
)

// Plan returns what is to be done now, in order.
func (s *Scheduler) Plan(now time.Time) []Order {
	s.shared = false
	for _, st := range s.asked {
		if st.state == asking {
			s.decide(now, st)
		}
	}
	s.asked = s.asked[:0]
	if s.idles() {
		s.feedIdle(now)
	}
	if s.free() > 0 {
		s.begin(now)
	}
	if s.idles() {
		s.reclaim()
		s.expire(now)
	}
	if !now.Before(s.hogsAt) {
		s.hogs(now)
	}
	out := s.orders
	s.orders = nil
	return out
}

// decide says what a stream does that is ready for anything.
func (s *Scheduler) decide(now time.Time, st *stream) {
	g := st.group
	if st.lost {
		s.end(st)
		if g.waits() {
			g.since = now
		}
		return
	}
	if st.did == 0 && len(g.queue) > 0 { // it was prepared for this
		s.run(now, st)
		return
	}
	switch needed := s.unserved() > 0; {
	case needed && (len(g.streams) > 1 || len(g.queue) == 0 || now.Sub(st.since) >= s.cfg.Turn):
		s.end(st)
		if g.waits() {
			g.since = now // behind those that wait
		}
	case len(g.streams) > 1 && len(g.queue) > 0 && len(g.streams)-1 >= s.share(g) && s.below(g):
		s.end(st)
	case len(g.queue) > 0:
		s.run(now, st)
	default:
		st.state = idle
		st.until = now.Add(s.cfg.IdleMin)
		if spread := s.cfg.IdleMax - s.cfg.IdleMin; spread > 0 {
			st.until = st.until.Add(time.Duration(s.cfg.Random.Int64N(int64(spread))))
		}
	}
}

// unserved is for how many of the waiting groups no zone is free or on its way.
func (s *Scheduler) unserved() int {
	n := -s.free()
	for _, st := range s.streams {
		if st.state == ending {
			n--
		}
	}
	for _, g := range s.groups {
		if g.waits() && s.fits(g) {
			n++
		}
	}
	return n
}

// below reports whether another group could use a zone that it has a share in, and none is on its way.
func (s *Scheduler) below(than *group) bool {
	coming := max(0, s.free()-s.reserve)
	for _, st := range s.streams {
		if st.state == ending {
			coming++
		}
	}
	for _, g := range s.groups {
		if g != than && g.wants() > 0 && len(g.streams) < s.share(g) && s.fits(g) {
			if coming--; coming < 0 {
				return true
			}
		}
	}
	return false
}

func (s *Scheduler) run(now time.Time, st *stream) {
	g := st.group
	st.state, st.task, st.began = busy, g.queue[0], now
	g.queue[0] = ""
	g.queue = g.queue[1:]
	g.running++
	s.orders = append(s.orders, Order{Verb: Run, Stream: st.id, Group: g.key, Task: st.task})
}

// feedIdle gives tasks to idle streams of their groups.
func (s *Scheduler) feedIdle(now time.Time) {
	for _, st := range s.inOrder() {
		if st.state == idle && len(st.group.queue) > 0 {
			s.run(now, st)
		}
	}
}

// idles reports whether there is an idle stream.
func (s *Scheduler) idles() bool {
	for _, st := range s.streams {
		if st.state == idle {
			return true
		}
	}
	return false
}

// inOrder is the streams, oldest first.
func (s *Scheduler) inOrder() []*stream {
	list := make([]*stream, 0, len(s.streams))
	for _, st := range s.streams {
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b *stream) int { return cmp.Compare(a.id, b.id) })
	return list
}

func (s *Scheduler) fits(g *group) bool {
	return s.memory+g.spec.Memory <= s.cfg.Memory && s.disk+g.spec.Disk <= s.cfg.Disk
}

// begin makes streams of free zones.
func (s *Scheduler) begin(now time.Time) {
	blocked := false // somebody waits for the stocks; nobody later takes from them
	for _, g := range s.waiting(now) {
		if s.free() == 0 {
			return
		}
		takes := g.spec.Memory > 0 || g.spec.Disk > 0
		if takes && blocked {
			continue
		}
		if !s.fits(g) {
			blocked = true
			continue
		}
		s.open(now, g)
	}
	for s.free() > s.reserve {
		var best *group
		for _, g := range s.groups {
			if len(g.streams) == 0 || g.wants() <= 0 || !s.fits(g) || blocked && (g.spec.Memory > 0 || g.spec.Disk > 0) {
				continue
			}
			if best == nil || s.lacks(g, best) < 0 {
				best = g
			}
		}
		if best == nil {
			return
		}
		s.open(now, best)
	}
}

// lacks orders groups by how much they are short of their share, the neediest first.
func (s *Scheduler) lacks(a, b *group) int {
	return cmp.Or(cmp.Compare(len(a.streams)*max(s.share(b), 1), len(b.streams)*max(s.share(a), 1)), cmp.Compare(b.wants(), a.wants()),
		cmp.Compare(a.key.Job, b.key.Job), cmp.Compare(a.key.Phase, b.key.Phase))
}

func (s *Scheduler) open(now time.Time, g *group) {
	s.last++
	st := &stream{id: s.last, group: g, since: now}
	s.streams[st.id] = st
	g.streams = append(g.streams, st)
	s.memory += g.spec.Memory
	s.disk += g.spec.Disk
	s.orders = append(s.orders, Order{Verb: Begin, Stream: st.id, Group: g.key})
}

// reclaim ends idle streams whose zones others could use now. An idle zone is worth less than anybody's task.
func (s *Scheduler) reclaim() {
	n := s.unserved()
	if n <= 0 && s.below(nil) {
		n = 1
	}
	if n <= 0 {
		return
	}
	list := s.inOrder()
	slices.SortStableFunc(list, func(a, b *stream) int { return a.until.Compare(b.until) })
	for _, st := range list {
		if n > 0 && st.state == idle {
			s.end(st)
			s.forget(st.group)
			n--
		}
	}
}

// expire ends streams that have idled long enough.
func (s *Scheduler) expire(now time.Time) {
	for _, st := range s.inOrder() {
		if st.state == idle && !st.until.After(now) {
			s.end(st)
			s.forget(st.group)
		}
	}
}

// full reports whether somebody could use a zone, and none is free for them. A zone on its way back changes nothing: it is the pool that has been full for long, not
// this instant.
func (s *Scheduler) full() bool {
	for _, g := range s.groups {
		if g.waits() && s.free() == 0 || s.free() <= s.reserve && g.wants() > 0 && len(g.streams) < s.share(g) {
			return true
		}
	}
	return false
}

// hogs takes zones from groups that have held more than their share of a full pool for long.
func (s *Scheduler) hogs(now time.Time) {
	full := s.full()
	s.hogsAt = now.Add(min(time.Second, s.cfg.HogKill/10))
	for _, g := range s.groups {
		over := len(g.streams) > max(s.share(g), 1)
		switch {
		case !full || !over:
			g.hogging, g.kill = time.Time{}, time.Time{}
			continue
		case g.hogging.IsZero():
			g.hogging = now
			g.kill = now.Add(s.cfg.HogGrace)
		}
		if g.kill.After(now) {
			continue
		}
		var longest *stream
		for _, st := range g.streams {
			if st.state == busy && (longest == nil || st.began.Before(longest.began)) {
				longest = st
			}
		}
		if longest == nil {
			continue
		}
		g.kill = now.Add(s.cfg.HogKill)
		longest.lost = true
		s.orders = append(s.orders, Order{Verb: Kill, Stream: longest.id, Group: g.key, Task: longest.task})
	}
}

// Wake says when Plan has to be asked again if nothing happens before; zero for never.
func (s *Scheduler) Wake() time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for _, st := range s.streams {
		if st.state == idle {
			sooner(st.until)
		}
	}
	for _, g := range s.groups {
		if at := g.kill; !at.IsZero() {
			if at.Before(s.hogsAt) {
				at = s.hogsAt
			}
			sooner(at)
		}
	}
	return at
}
