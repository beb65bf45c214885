package front

import (
	"maps"
	"sync"

	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// Agents are those that run tasks of jobs, as they come and go. The zero value has none.
type Agents struct {
	mu      sync.Mutex
	agents  map[string]task.Agent
	changed chan struct{}
}

// Set adds an agent, or puts another in its place; nil removes it.
func (a *Agents) Set(name string, agent task.Agent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := maps.Clone(a.agents)
	if next == nil {
		next = map[string]task.Agent{}
	}
	next[name] = agent
	if agent == nil {
		delete(next, name)
	}
	a.agents = next
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

// Agents implements supervisor.Agents.
func (a *Agents) Agents() (map[string]task.Agent, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.agents, a.changed
}
