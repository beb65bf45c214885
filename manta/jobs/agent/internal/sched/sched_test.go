package sched

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// failer is a test, or a check of rapid's.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// sim carries out orders: zones are prepared and tasks run for as long as it is told, on a clock of its own.
type sim struct {
	t     failer
	s     *Scheduler
	now   time.Time
	long  func(task string) time.Duration
	prep  time.Duration // a zone's preparation
	reset time.Duration // from End to Gone

	events  map[uint64]event // what comes next of each stream
	group   map[uint64]Key
	running map[uint64]string
	began   map[string]time.Time
	ended   map[string]time.Time
	killed  map[string]bool
	added   map[string]time.Time
	begins  map[Key]int
	max     int
}

type event struct {
	at   time.Time
	kind Verb // Begin: prepared; Run: the task ends; End: the zone is given back
}

func newSim(t failer, cfg Config) *sim {
	cfg.Random = rand.New(rand.NewPCG(1, 2))
	return &sim{t: t, s: New(cfg), now: time.Unix(1e9, 0), long: func(string) time.Duration { return time.Second }, prep: 10 * time.Millisecond, reset: 50 * time.Millisecond,
		events: map[uint64]event{}, group: map[uint64]Key{}, running: map[uint64]string{}, began: map[string]time.Time{}, ended: map[string]time.Time{},
		killed: map[string]bool{}, added: map[string]time.Time{}, begins: map[Key]int{}}
}

func key(job string, phase int) Key { return Key{job, phase} }

func (m *sim) add(k Key, owner string, tasks ...string) {
	m.t.Helper()
	for _, id := range tasks {
		if err := m.s.Add(m.now, k, Spec{Owner: owner}, id); err != nil {
			m.t.Fatal(err)
		}
		m.added[id] = m.now
	}
	m.plan()
}

func (m *sim) addN(k Key, owner string, n int) {
	for i := range n {
		m.add(k, owner, fmt.Sprintf("%s/%d/%d", k.Job, k.Phase, i))
	}
}

func (m *sim) plan() {
	m.t.Helper()
	for _, o := range m.s.Plan(m.now) {
		switch o.Verb {
		case Begin:
			if _, known := m.group[o.Stream]; known {
				m.t.Fatalf("stream %d begins twice", o.Stream)
			}
			m.group[o.Stream] = o.Group
			m.begins[o.Group]++
			m.events[o.Stream] = event{m.now.Add(m.prep), Begin}
		case Run:
			if m.group[o.Stream] != o.Group {
				m.t.Fatalf("task %s of %v runs in a zone of %v", o.Task, o.Group, m.group[o.Stream])
			}
			if _, busy := m.running[o.Stream]; busy {
				m.t.Fatalf("stream %d has two tasks", o.Stream)
			}
			if _, twice := m.began[o.Task]; twice {
				m.t.Fatalf("task %s runs twice", o.Task)
			}
			m.running[o.Stream], m.began[o.Task] = o.Task, m.now
			m.events[o.Stream] = event{m.now.Add(m.long(o.Task)), Run}
		case End:
			if _, busy := m.running[o.Stream]; busy {
				m.t.Fatalf("stream %d ends with a task", o.Stream)
			}
			m.events[o.Stream] = event{m.now.Add(m.reset), End}
		case Kill:
			m.killed[o.Task] = true
			m.events[o.Stream] = event{m.now, Run}
		}
	}
	if n := len(m.group); n > m.s.cfg.Zones {
		m.t.Fatalf("%d zones of %d", n, m.s.cfg.Zones)
	} else {
		m.max = max(m.max, n)
	}
}

// step goes to the next event; false when there is none before the end.
func (m *sim) step(end time.Time) bool {
	next := end
	if w := m.s.Wake(); !w.IsZero() && w.Before(next) {
		next = w
	}
	for _, e := range m.events {
		if e.at.Before(next) {
			next = e.at
		}
	}
	if !next.Before(end) {
		m.now = end
		return false
	}
	if next.After(m.now) {
		m.now = next
	}
	for id := range uint64(1 << 20) {
		if id > m.s.last {
			break
		}
		e, ok := m.events[id]
		if !ok || e.at.After(m.now) {
			continue
		}
		delete(m.events, id)
		switch e.kind {
		case End:
			delete(m.group, id)
			m.s.Gone(m.now, id)
		case Run:
			m.ended[m.running[id]] = m.now
			delete(m.running, id)
			m.s.Ready(m.now, id)
		case Begin:
			m.s.Ready(m.now, id)
		}
	}
	m.plan()
	return true
}

func (m *sim) run(d time.Duration) {
	m.t.Helper()
	end := m.now.Add(d)
	for n := 0; m.step(end); n++ {
		if n > 2_000_000 {
			m.t.Fatal("it goes round in circles")
		}
	}
}

// held is how many zones a group has.
func (m *sim) held(k Key) (n int) {
	for _, g := range m.group {
		if g == k {
			n++
		}
	}
	return n
}

func TestOneGroupTakesAllButTheReserve(t *testing.T) {
	m := newSim(t, Config{Zones: 16})
	m.addN(key("a", 0), "o", 100)
	if n := m.held(key("a", 0)); n != 15 {
		t.Errorf("%d zones, want 15", n)
	}
	m.run(500 * time.Millisecond)
	m.add(key("b", 0), "o", "x")
	if n := m.held(key("b", 0)); n != 1 {
		t.Errorf("a new group has %d zones, want the reserved one at once", n)
	}
	m.run(time.Minute)
	if len(m.ended) != 101 {
		t.Errorf("%d tasks ended", len(m.ended))
	}
}

func TestSingleTaskNeedsOneZone(t *testing.T) {
	m := newSim(t, Config{Zones: 8})
	m.add(key("a", 0), "o", "1")
	m.run(5 * time.Second)
	m.add(key("a", 0), "o", "2")
	if m.begins[key("a", 0)] != 1 || m.began["2"] != m.now {
		t.Errorf("%d zones for two tasks, one after the other; the second waits", m.begins[key("a", 0)])
	}
}

func TestIdle(t *testing.T) {
	m := newSim(t, Config{Zones: 8})
	m.add(key("a", 0), "o", "1")
	m.run(10 * time.Second)
	if m.held(key("a", 0)) != 1 {
		t.Error("the zone is gone within ten seconds")
	}
	m.run(12 * time.Second)
	if m.held(key("a", 0)) != 0 || m.s.Stats().Groups != 0 {
		t.Errorf("the zone is kept: %+v", m.s.Stats())
	}
}

func TestShares(t *testing.T) {
	m := newSim(t, Config{Zones: 20})
	m.addN(key("a", 0), "o", 300)
	m.run(100 * time.Millisecond)
	m.addN(key("b", 0), "o", 100)
	m.run(10 * time.Second)
	a, b := m.held(key("a", 0)), m.held(key("b", 0))
	// 18 zones are not reserved, and a has three quarters of the tasks, but it had all of them and works its way down.
	if a < 10 || a > 15 || b < 4 || b > 8 {
		t.Errorf("%d and %d zones", a, b)
	}
}

// TestOwners: one owner's many jobs get no more than another's one.
func TestOwners(t *testing.T) {
	m := newSim(t, Config{Zones: 20})
	for i := range 9 {
		m.addN(key(fmt.Sprint("many", i), 0), "rich", 200)
	}
	m.run(time.Second)
	m.addN(key("one", 0), "poor", 200)
	m.run(20 * time.Second)
	if n := m.held(key("one", 0)); n < 8 || n > 10 {
		t.Errorf("the owner of one job has %d zones of 20", n)
	}
}

// TestMoreGroupsThanZones: all get their turns.
func TestMoreGroupsThanZones(t *testing.T) {
	m := newSim(t, Config{Zones: 4})
	m.long = func(string) time.Duration { return 10 * time.Millisecond }
	for i := range 40 {
		m.addN(key(fmt.Sprint("g", i), 0), fmt.Sprint("o", i%5), 2000)
	}
	m.run(40 * 3 * time.Second)
	for i := range 40 {
		if m.begins[key(fmt.Sprint("g", i), 0)] == 0 {
			t.Errorf("group %d has not run in two minutes", i)
		}
	}
}

func TestHogs(t *testing.T) {
	m := newSim(t, Config{Zones: 10})
	m.long = func(task string) time.Duration {
		if task[0] == 'h' {
			return 1000 * time.Hour
		}
		return time.Second
	}
	m.addN(key("hog", 0), "o", 20)
	m.run(time.Second)
	m.addN(key("good", 0), "o", 10000)
	m.run(299 * time.Second)
	if len(m.killed) > 0 {
		t.Errorf("%d killed within the grace", len(m.killed))
	}
	begin := m.held(key("hog", 0))
	m.run(4 * time.Second)
	if len(m.killed) != 1 {
		t.Errorf("%d killed at its end", len(m.killed))
	}
	m.run(15 * time.Second)
	if len(m.killed) != 2 || m.held(key("hog", 0)) != begin-2 {
		t.Errorf("%d killed 15 s later, %d zones of %d", len(m.killed), m.held(key("hog", 0)), begin)
	}
	m.run(10 * time.Minute)
	if n := m.held(key("hog", 0)); n != 1 {
		t.Errorf("the hog has %d zones in the end", n)
	}
}

func TestNoHogsWhileThereIsRoom(t *testing.T) {
	m := newSim(t, Config{Zones: 10})
	m.long = func(string) time.Duration { return 1000 * time.Hour }
	m.addN(key("hog", 0), "o", 9)
	m.add(key("one", 0), "o", "x")
	m.run(time.Hour)
	if len(m.killed) > 0 {
		t.Errorf("%d killed though nobody waits", len(m.killed))
	}
}

func TestStocks(t *testing.T) {
	m := newSim(t, Config{Zones: 8, Memory: 10, Disk: 10})
	if err := m.s.Add(m.now, key("huge", 0), Spec{Memory: 11}, "x"); err != ErrMemory {
		t.Errorf("more memory than there is: %v", err)
	}
	if err := m.s.Add(m.now, key("huge", 0), Spec{Disk: 11}, "x"); err != ErrDisk {
		t.Errorf("more disk than there is: %v", err)
	}
	for _, g := range []string{"a", "b", "c"} {
		if err := m.s.Add(m.now, key(g, 0), Spec{Owner: g, Memory: 6}, g); err != nil {
			t.Fatal(err)
		}
		m.plan()
		m.now = m.now.Add(time.Millisecond)
	}
	m.add(key("small", 0), "s", "small")
	if len(m.group) != 2 {
		t.Errorf("%d zones, want one large and the small", len(m.group))
	}
	m.run(2 * time.Minute)
	if len(m.ended) != 4 || m.s.memory != 0 {
		t.Errorf("%d ended, %d of memory taken", len(m.ended), m.s.memory)
	}
}

func TestClose(t *testing.T) {
	m := newSim(t, Config{Zones: 4})
	k := key("a", 0)
	m.addN(k, "o", 10)
	m.run(100 * time.Millisecond)
	if n := len(m.s.Close(k)); n != 7 {
		t.Errorf("%d dropped, want 7", n)
	}
	m.plan()
	m.add(k, "o", "again")
	m.run(time.Minute)
	if m.ended["again"].IsZero() || m.begins[k] != 4 {
		t.Errorf("a group of the same name ran in a zone of the closed one: %d begins", m.begins[k])
	}
}

// TestHistories is the rules that always hold, on random histories: the number of zones, one task in a zone, a task once, no group in another's zone (all in sim), that
// every task runs, and that nothing is left of a history that is over.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{Zones: rapid.IntRange(1, 12).Draw(t, "zones"), Memory: 4}
		m := newSim(t, cfg)
		lengths := map[string]time.Duration{}
		m.long = func(task string) time.Duration { return lengths[task] }
		var tasks []string
		total := time.Duration(0)
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			k := key(fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "job")), rapid.IntRange(0, 1).Draw(t, "phase"))
			switch rapid.IntRange(0, 9).Draw(t, "verb") {
			case 0:
				for _, dropped := range m.s.Close(k) {
					m.ended[dropped] = m.now
				}
				m.plan()
			case 1:
				if len(tasks) > 0 {
					id := rapid.SampledFrom(tasks).Draw(t, "victim")
					for g := range m.s.groups {
						if m.s.Remove(g, id) {
							m.ended[id] = m.now
						}
					}
					m.plan()
				}
			case 2, 3:
				m.run(time.Duration(rapid.IntRange(1, 30_000).Draw(t, "ms")) * time.Millisecond)
			default:
				for n := range rapid.IntRange(1, 20).Draw(t, "tasks") {
					id := fmt.Sprint(i, ".", n)
					lengths[id] = time.Duration(rapid.IntRange(1, 5000).Draw(t, "long")) * time.Millisecond
					total += lengths[id]
					tasks = append(tasks, id)
					spec := Spec{Owner: "o" + k.Job, Memory: int64(k.Phase)}
					if err := m.s.Add(m.now, k, spec, id); err != nil {
						t.Fatal(err)
					}
				}
				m.plan()
			}
		}
		m.run(2*total + 5*time.Minute) // even one zone alone has done it by then
		for _, id := range tasks {
			if m.ended[id].IsZero() {
				t.Fatalf("task %s has not run: %+v", id, m.s.Stats())
			}
		}
		if st := m.s.Stats(); st.Groups != 0 || st.Free != cfg.Zones || st.MemoryTaken != 0 {
			t.Fatalf("left: %+v", st)
		}
	})
}

// BenchmarkTask is a task from Add to its end, with as many groups and zones.
func BenchmarkTask(b *testing.B) {
	for _, groups := range []int{1, 100} {
		b.Run(fmt.Sprint(groups, " groups"), func(b *testing.B) {
			s := New(Config{Zones: 16})
			now := time.Unix(1e9, 0)
			n := 0
			add := func() {
				k := key(fmt.Sprint(n%groups), 0)
				n++
				if err := s.Add(now, k, Spec{Owner: fmt.Sprint(n % groups % 20)}, fmt.Sprint(n)); err != nil {
					b.Fatal(err)
				}
			}
			for range 100 * groups {
				add()
			}
			var ready []uint64
			do := func(list []Order) {
				for _, o := range list {
					switch o.Verb {
					case Begin, Run:
						ready = append(ready, o.Stream)
					case End:
						s.Gone(now, o.Stream)
					}
				}
			}
			do(s.Plan(now))
			for b.Loop() {
				now = now.Add(time.Millisecond)
				add()
				do(s.Plan(now))
				if len(ready) > 0 {
					id := ready[0]
					ready = ready[1:]
					s.Ready(now, id)
					do(s.Plan(now))
				}
			}
		})
	}
}
