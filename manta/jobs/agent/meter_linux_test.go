package agent

import (
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// TestMetering: what a task is charged is what it used, and its checkpoints add up to it.
func TestMetering(t *testing.T) {
	var mu sync.Mutex
	sums, totals, checkpoints := map[string]task.Usage{}, map[string]task.Usage{}, 0
	w := newWorld(t, func(c *Config) {
		c.Checkpoint = 20 * time.Millisecond
		c.Meter = func(m Measure) {
			mu.Lock()
			defer mu.Unlock()
			u := sums[m.Task]
			u.WallNS += m.Usage.WallNS
			u.UserNS += m.Usage.UserNS
			u.SystemNS += m.Usage.SystemNS
			u.WrittenBytes += m.Usage.WrittenBytes
			u.ReadBytes += m.Usage.ReadBytes
			u.InBytes += m.Usage.InBytes
			u.OutBytes += m.Usage.OutBytes
			u.MemoryMB, u.PeakBytes = m.Usage.MemoryMB, m.Usage.PeakBytes
			sums[m.Task], totals[m.Task] = u, m.Total
			if m.Checkpoint {
				checkpoints++
			}
		}
	})
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/in", "x")
	job := s.open("alice", jobs.Phase{Exec: "x=$(head -c 20M /dev/zero | tr '\\0' x); for ((i=0; i<100000; i++)); do :; done; curl -s ${MANTA_URL}alice/stor/in; sleep 0.2", Memory: 512},
		jobs.Phase{Exec: "true"})
	hard, easy := s.start(job, 0, in), s.start(job, 1, in)
	u, v := s.wait(hard).Usage, s.wait(easy).Usage
	mu.Lock()
	defer mu.Unlock()
	for id, d := range s.done {
		if sums[id] != d.Usage || totals[id] != d.Usage {
			t.Errorf("task %s is told as %+v, its measures add up to %+v, the last total is %+v", id, d.Usage, sums[id], totals[id])
		}
	}
	if u.UserNS+u.SystemNS < 30e6 || u.WallNS < 200e6 || u.PeakBytes < 20<<20 || u.MemoryMB != 512 || u.InBytes < 100 || u.OutBytes < 50 {
		t.Errorf("the task that worked is charged %+v", u)
	}
	if v.UserNS+v.SystemNS > 50e6 || v.InBytes != 0 || v.MemoryMB != 1024 {
		t.Errorf("the task that did nothing is charged %+v", v)
	}
	if checkpoints < 3 {
		t.Errorf("%d checkpoints", checkpoints)
	}
}

// TestHog: who holds more than a share for too long loses tasks, which is no fault of theirs.
func TestHog(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Zones, c.HogGrace, c.HogKill = 6, 300*time.Millisecond, 100*time.Millisecond })
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/in", "hello")
	mine := w.put("bob", "/bob/stor/in", "hello")
	hog := s.open("alice", jobs.Phase{Exec: "sleep 1000"})
	for range 8 {
		s.start(hog, 0, in)
	}
	for w.agent.Metrics().ZonesBusy < 5 {
		time.Sleep(time.Millisecond)
	}
	job := s.open("bob", jobs.Phase{Exec: "sleep 0.2; cat"})
	var ids []string
	for range 12 {
		ids = append(ids, s.start(job, 0, mine))
	}
	for _, id := range ids {
		if got := s.output("bob", id); got != "hello" {
			t.Errorf("printed %q", got)
		}
	}
	killed := 0
	for _, d := range s.done {
		if d.Failure != nil {
			killed++
			if d.Failure.Code != jobs.CodeTaskKilled || d.Failure.Message != "task killed (excessive resource usage)" || !d.System {
				t.Errorf("%+v", d.Failure)
			}
		}
	}
	if killed == 0 || killed > 2 {
		t.Errorf("%d killed", killed)
	}
}
