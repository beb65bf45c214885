package tasktest_test

import (
	"testing"

	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/manta/jobs/task/tasktest"
)

func world(t *testing.T) tasktest.World {
	var objects tasktest.Objects
	agent := tasktest.New(tasktest.Config{Storage: []string{"1.stor"}, Zones: 4, Run: tasktest.Shell(&objects)})
	t.Cleanup(agent.Close)
	return tasktest.World{
		Agent: agent, Login: "alice", Owner: "930896af-bf8c-48d4-885c-6573a94b1853", Token: "token",
		Put: func(path, content string) task.Input { return objects.Put(path, content, "1.stor") }, Get: objects.Get,
	}
}

func TestAgent(t *testing.T) { tasktest.TestAgent(t, world) }
