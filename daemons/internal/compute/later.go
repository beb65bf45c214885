package compute

import (
	"context"
	"sync/atomic"

	"github.com/mobulacloud/mobula/manta/jobs/agent"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// Later is an agent that is not there yet, or not any more: its door may be open before. The zero value has none.
type Later struct{ agent atomic.Pointer[agent.Agent] }

// Set says which agent it is; nil for none.
func (l *Later) Set(a *agent.Agent) { l.agent.Store(a) }

// Get returns the agent, or nil.
func (l *Later) Get() *agent.Agent { return l.agent.Load() }

// Connect implements task.Agent.
func (l *Later) Connect(ctx context.Context, supervisor string) (task.Stream, error) {
	a := l.agent.Load()
	if a == nil {
		return nil, task.ErrUnavailable
	}
	return a.Connect(ctx, supervisor)
}
