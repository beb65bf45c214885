package supervisor

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// The fleet is all agents, with a link to each.
type fleet struct {
	instance string
	log      *slog.Logger
	met      *counters
	changed  func() // called after a link went up or down

	mu      sync.Mutex
	links   map[string]*link
	storage map[string][]*link // those that are up, by storage id
	up      []*link
}

func newFleet(instance string, log *slog.Logger, met *counters, changed func()) *fleet {
	return &fleet{instance: instance, log: log, met: met, changed: changed, links: map[string]*link{}, storage: map[string][]*link{}}
}

// run keeps a link to every agent there is, until ctx ends.
func (f *fleet) run(ctx context.Context, agents Agents) {
	var running sync.WaitGroup
	defer running.Wait()
	type held struct {
		agent task.Agent
		stop  context.CancelFunc
		done  chan struct{}
	}
	known := map[string]*held{}
	for {
		now, changed := agents.Agents()
		for name, h := range known {
			if now[name] != h.agent {
				h.stop()
				<-h.done
				delete(known, name)
			}
		}
		for name, agent := range now {
			if known[name] != nil {
				continue
			}
			life, stop := context.WithCancel(ctx)
			h := &held{agent: agent, stop: stop, done: make(chan struct{})}
			known[name] = h
			l := f.link(name, agent)
			running.Go(func() {
				defer close(h.done)
				defer stop()
				l.run(life)
			})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// link returns the link of an agent: that which there was, if it has tasks that were lost with it.
func (f *fleet) link(name string, agent task.Agent) *link {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.links[name]
	if l == nil {
		l = newLink(f, name)
		f.links[name] = l
	}
	l.agent = agent
	return l
}

// refresh notes which links are up.
func (f *fleet) refresh() {
	f.mu.Lock()
	f.storage, f.up = map[string][]*link{}, nil
	for _, l := range f.links {
		hello, up := l.state()
		if !up {
			continue
		}
		f.up = append(f.up, l)
		for _, id := range hello.Storage {
			f.storage[id] = append(f.storage[id], l)
		}
	}
	f.mu.Unlock()
	f.changed()
}

// candidates returns the links that could run a task on an object with these copies; of an empty object, all.
func (f *fleet) candidates(copies []string) []*link {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch len(copies) {
	case 0:
		return f.up // replaced as a whole, never changed
	case 1:
		return f.storage[copies[0]]
	}
	var list []*link
	for _, id := range copies {
		for _, l := range f.storage[id] {
			if !slices.Contains(list, l) {
				list = append(list, l)
			}
		}
	}
	return list
}

func (f *fleet) count() (agents, tasks int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.links {
		if _, up := l.state(); up {
			agents++
		}
		tasks += int(l.load.Load())
	}
	return agents, tasks
}
