package sched

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// Errors of Add: the group asks for more than this server has for all.
var (
	ErrMemory = errors.New("not enough memory available")
	ErrDisk   = errors.New("not enough disk space available")
)

// Config describes a scheduler. Zones is required; the zero value of the others is Marlin's default.
type Config struct {
	// Zones is how many zones there are.
	Zones int
	// ReservePercent of them, at least ReserveMin, are for groups that have none; 0 means 12 and 1. A single zone is never reserved.
	ReservePercent, ReserveMin int
	// IdleMin and IdleMax bound how long a stream is kept without a task; 0 means 10 s and 20 s.
	IdleMin, IdleMax time.Duration
	// HogGrace is how long a group may hold more than its share of a full pool, HogKill how often it loses a zone then; 0 means 300 s and 15 s.
	HogGrace, HogKill time.Duration
	// Turn is how long a group keeps its only zone while others wait without any; 0 means 2 s. It is looked at between tasks.
	Turn time.Duration
	// Patience is how long a group waits without a zone before none overtakes it; 0 means 30 s.
	Patience time.Duration
	// Memory and Disk in bytes are the stocks for zones that are larger than others.
	Memory, Disk int64
	// Random spreads idle times; nil means a source of its own.
	Random *rand.Rand
}

type state int

const (
	starting state = iota // its zone is being prepared
	asking                // it is ready for a task, or for anything else
	busy
	idle
	ending // it is to give its zone back
)

// stream is a zone at work for a group.
type stream struct {
	id    uint64
	group *group
	state state
	task  string
	did   int       // tasks
	lost  bool      // its zone is taken from the group after this task
	since time.Time // since when the group has it
	began time.Time // the task
	until time.Time // idle
}

// Scheduler has the groups and streams of one server.
type Scheduler struct {
	cfg     Config
	reserve int
	groups  map[Key]*group
	streams map[uint64]*stream
	asked   []*stream // in state asking, in order
	memory  int64     // taken from the stocks
	disk    int64
	last    uint64
	orders  []Order
	shared  bool      // groups' parts are right
	hogsAt  time.Time // when hogs are looked for next
}

// Verb is what an Order is about.
type Verb int

// Verbs.
const (
	// Begin: prepare a zone for the group, as a new stream; then Ready, or Gone.
	Begin Verb = iota
	// Run the task in the stream; then Ready, or Gone.
	Run
	// End the stream: give the zone back; then Gone.
	End
	// Kill the task that runs in the stream as a hog's; then Ready.
	Kill
)

// Order is something to be done.
type Order struct {
	Verb   Verb
	Stream uint64
	Group  Key
	Task   string // Run, Kill
}

// New makes a scheduler.
func New(cfg Config) *Scheduler {
	def := func(d *time.Duration, v time.Duration) { *d = cmp.Or(*d, v) }
	def(&cfg.IdleMin, 10*time.Second)
	def(&cfg.IdleMax, 20*time.Second)
	def(&cfg.HogGrace, 300*time.Second)
	def(&cfg.HogKill, 15*time.Second)
	def(&cfg.Turn, 2*time.Second)
	def(&cfg.Patience, 30*time.Second)
	cfg.Zones = max(cfg.Zones, 1)
	cfg.IdleMax = max(cfg.IdleMax, cfg.IdleMin)
	if cfg.Random == nil {
		cfg.Random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	reserve := max(cmp.Or(cfg.ReserveMin, 1), cfg.Zones*cmp.Or(cfg.ReservePercent, 12)/100)
	return &Scheduler{cfg: cfg, reserve: min(reserve, cfg.Zones-1), groups: map[Key]*group{}, streams: map[uint64]*stream{}}
}

// Add tells of a new task. The spec of a group is that of its first task. On ErrMemory or ErrDisk the task is not there.
func (s *Scheduler) Add(now time.Time, k Key, spec Spec, task string) error {
	g := s.groups[k]
	if g == nil {
		switch {
		case spec.Memory > s.cfg.Memory:
			return ErrMemory
		case spec.Disk > s.cfg.Disk:
			return ErrDisk
		}
		g = &group{key: k, spec: spec}
		s.groups[k] = g
	}
	if len(g.queue) == 0 && len(g.streams) == 0 {
		g.since = now
	}
	g.queue = append(g.queue, task)
	return nil
}

// Remove takes back a task that no stream has, and reports whether there was one.
func (s *Scheduler) Remove(k Key, task string) bool {
	g := s.groups[k]
	if g == nil {
		return false
	}
	i := slices.Index(g.queue, task)
	if i < 0 {
		return false
	}
	g.queue = slices.Delete(g.queue, i, i+1)
	s.forget(g)
	return true
}

// Drop takes back all tasks of the group that no stream has, and returns them.
func (s *Scheduler) Drop(k Key) []string {
	g := s.groups[k]
	if g == nil {
		return nil
	}
	dropped := g.queue
	g.queue = nil
	s.forget(g)
	return dropped
}

// Close ends a group: its queue is dropped and returned, and its streams get no further task. A group of the same key that comes later gets none of them.
func (s *Scheduler) Close(k Key) []string {
	if g := s.groups[k]; g != nil {
		for _, st := range slices.Clone(g.streams) {
			if st.state == idle {
				s.end(st)
			}
			st.lost = true
		}
	}
	return s.Drop(k)
}

// Ready tells that a stream's zone is prepared, or has ended its task.
func (s *Scheduler) Ready(now time.Time, id uint64) {
	st := s.streams[id]
	if st == nil {
		return
	}
	if st.state == busy {
		st.group.running--
		st.task = ""
		st.did++
	}
	if st.state != ending {
		st.state = asking
		s.asked = append(s.asked, st)
	}
}

// Gone tells that a stream's zone was given back, whatever it was doing. A task that it had is not run again.
func (s *Scheduler) Gone(now time.Time, id uint64) {
	st := s.streams[id]
	if st == nil {
		return
	}
	g := st.group
	if st.state == busy {
		g.running--
	}
	if st.state != ending {
		s.leave(st)
		if g.waits() {
			g.since = now
		}
	}
	st.state = ending
	s.memory -= g.spec.Memory
	s.disk -= g.spec.Disk
	delete(s.streams, id)
	s.forget(g)
}

// leave takes the stream off its group.
func (s *Scheduler) leave(st *stream) {
	g := st.group
	g.streams = slices.DeleteFunc(g.streams, func(o *stream) bool { return o == st })
}

func (s *Scheduler) end(st *stream) {
	st.state = ending
	s.leave(st)
	s.orders = append(s.orders, Order{Verb: End, Stream: st.id, Group: st.group.key})
}

// forget drops a group that has nothing any more.
func (s *Scheduler) forget(g *group) {
	if g.tasks() == 0 && len(g.streams) == 0 && s.groups[g.key] == g {
		delete(s.groups, g.key)
	}
}

// Stats are counts of one instant.
type Stats struct {
	Zones, Free, Reserve         int
	Groups, Waiting              int
	Queued, Running              int
	Starting, Busy, Idle, Ending int
	MemoryTaken, DiskTaken       int64
}

// Stats returns the counts.
func (s *Scheduler) Stats() Stats {
	st := Stats{Zones: s.cfg.Zones, Free: s.free(), Reserve: s.reserve, Groups: len(s.groups), MemoryTaken: s.memory, DiskTaken: s.disk}
	for _, g := range s.groups {
		st.Queued += len(g.queue)
		st.Running += g.running
		if g.waits() {
			st.Waiting++
		}
	}
	for _, o := range s.streams {
		switch o.state {
		case starting:
			st.Starting++
		case busy, asking:
			st.Busy++
		case idle:
			st.Idle++
		case ending:
			st.Ending++
		}
	}
	return st
}

func (s *Scheduler) free() int { return s.cfg.Zones - len(s.streams) }
