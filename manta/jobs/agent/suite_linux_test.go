package agent

import (
	"context"
	"testing"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/manta/jobs/task/tasktest"
)

// TestAgent holds the agent to the contract, with zones and a store that are real.
func TestAgent(t *testing.T) {
	w := newWorld(t, nil)
	made := map[string]bool{}
	tasktest.TestAgent(t, func(t *testing.T) tasktest.World {
		w.t = t
		return tasktest.World{
			Agent: dirMaker{w.agent, w}, Login: "alice", Owner: w.uuids["alice"], Token: w.tokens["alice"],
			Put: func(name, content string) task.Input {
				for i := len("/alice/stor/"); i < len(name); i++ {
					if name[i] == '/' && !made[name[:i]] {
						w.mkdir("alice", name[:i])
						made[name[:i]] = true
					}
				}
				return *w.put("alice", name, content)
			},
			Get: func(name string) (string, bool) {
				st, body := w.request("alice", "GET", name, "", "")
				return body, st == 200
			},
		}
	})
}

// dirMaker makes the directories of jobs, as who makes jobs does.
type dirMaker struct {
	task.Agent
	w *world
}

func (d dirMaker) Connect(ctx context.Context, name string) (task.Stream, error) {
	s, err := d.Agent.Connect(ctx, name)
	if err != nil {
		return nil, err
	}
	return dirStream{s, d.w}, nil
}

type dirStream struct {
	task.Stream
	w *world
}

func (s dirStream) Send(ctx context.Context, orders ...task.Order) error {
	for _, o := range orders {
		if o.Open != nil {
			s.w.mkdir(o.Open.Login, jobs.Dir(o.Open.Login, o.Open.Job))
			s.w.mkdir(o.Open.Login, jobs.StorDir(o.Open.Login, o.Open.Job))
		}
	}
	return s.Stream.Send(ctx, orders...)
}
