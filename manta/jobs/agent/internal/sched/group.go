package sched

import (
	"cmp"
	"slices"
	"time"
)

// Key names a group.
type Key struct {
	Job   string
	Phase int
}

// Spec is what a group's zones need.
type Spec struct {
	Owner string
	// Memory and Disk in bytes are what each zone takes from the stocks, beyond what every zone has.
	Memory, Disk int64
}

// group is a phase of a job that has tasks or streams.
type group struct {
	key     Key
	spec    Spec
	queue   []string // tasks that no stream has, oldest first
	running int
	streams []*stream // ended ones are not in it
	since   time.Time // since when it waits without a zone
	hogging time.Time // since when it has been over its share of a full pool
	kill    time.Time // when it may lose the next zone
	part    int       // its share, valid while the scheduler says so
}

func (g *group) tasks() int { return len(g.queue) + g.running }

// waits reports that the group has tasks and no zone.
func (g *group) waits() bool { return len(g.queue) > 0 && len(g.streams) == 0 }

// wants is how many more streams could take a task at once.
func (g *group) wants() int {
	coming := 0
	for _, s := range g.streams {
		if s.state == starting || s.state == idle {
			coming++
		}
	}
	return len(g.queue) - coming
}

// share is a group's share of the zones outside the reserve, as it was when this Plan first needed one.
func (s *Scheduler) share(g *group) int {
	if !s.shared {
		s.setShares()
		s.shared = true
	}
	return g.part
}

func (s *Scheduler) setShares() {
	zones := s.cfg.Zones - s.reserve
	tasks := map[string]int{} // by owner
	for _, g := range s.groups {
		if n := g.tasks(); n > 0 {
			tasks[g.spec.Owner] += n
		}
	}
	parts := split(zones, tasks)
	type remainder struct {
		g    *group
		rest float64
	}
	var more []remainder
	left := zones
	for _, g := range s.groups {
		g.part = 0
		if n := g.tasks(); n > 0 {
			exact := parts[g.spec.Owner] * float64(n) / float64(tasks[g.spec.Owner])
			g.part = min(max(int(exact), 1), n)
			if left -= g.part; g.part < n {
				more = append(more, remainder{g, exact - float64(g.part)})
			}
		}
	}
	// Marlin drops fractions, of a hundred zones. Of eight, what they add up to is worth having: it goes to those who lost most, and
	// among equals to those who have the zones already.
	slices.SortFunc(more, func(a, b remainder) int {
		return cmp.Or(cmp.Compare(b.rest, a.rest), cmp.Compare(len(b.g.streams), len(a.g.streams)), cmp.Compare(a.g.key.Job, b.g.key.Job), cmp.Compare(a.g.key.Phase, b.g.key.Phase))
	})
	for i := 0; i < min(left, len(more)); i++ {
		more[i].g.part++
	}
}

// split deals zones out to owners in equal parts. An owner with fewer tasks than that leaves the rest to the others.
func split(zones int, tasks map[string]int) map[string]float64 {
	type owner struct {
		name  string
		tasks int
	}
	owners := make([]owner, 0, len(tasks))
	for name, n := range tasks {
		owners = append(owners, owner{name, n})
	}
	slices.SortFunc(owners, func(a, b owner) int { return cmp.Or(cmp.Compare(a.tasks, b.tasks), cmp.Compare(a.name, b.name)) })
	parts, left := make(map[string]float64, len(owners)), float64(zones)
	for i, o := range owners {
		part := left / float64(len(owners)-i)
		if len(owners) > 1 && i < len(owners)-1 {
			part = min(part, float64(o.tasks))
		}
		parts[o.name] = part
		left -= part
	}
	return parts
}

// waiting returns the groups without a zone in the order in which they are to get one.
func (s *Scheduler) waiting(now time.Time) []*group {
	var list []*group
	for _, g := range s.groups {
		if g.waits() {
			list = append(list, g)
		}
	}
	if len(list) < 2 {
		return list
	}
	held := map[string]int{}
	for _, st := range s.streams {
		if st.state != ending {
			held[st.group.spec.Owner]++
		}
	}
	slices.SortFunc(list, func(a, b *group) int {
		la, lb := now.Sub(a.since) >= s.cfg.Patience, now.Sub(b.since) >= s.cfg.Patience
		if la != lb {
			if la {
				return -1
			}
			return 1
		}
		byOwner := 0
		if !la {
			byOwner = cmp.Compare(held[a.spec.Owner], held[b.spec.Owner])
		}
		return cmp.Or(byOwner, a.since.Compare(b.since), cmp.Compare(a.key.Job, b.key.Job), cmp.Compare(a.key.Phase, b.key.Phase))
	})
	return list
}
