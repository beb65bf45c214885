package agent

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/agent/door"
	"github.com/mobulacloud/mobula/manta/jobs/agent/internal/cell"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/zones"
)

// ending is how a task's program ended, and all that is known of it.
type ending struct {
	exec    error            // it could not be run, or not to its end
	status  zones.ExitStatus // else
	cause   error            // of an early end: errHog, errTold, or what nobody is told
	fetch   error            // inputs that could not be read
	core    *cell.Core       // that a program of the task left
	oom     bool             // something was killed for want of memory
	full    bool             // no room is left in the zone's file system
	unusual bool             // the input had another name
	result  door.Result
	out     *os.File
	err     *os.File
	usage   task.Usage
	read    time.Time // when usage was last added to
}

// Suffixes of messages.
const (
	warnMemory  = " (WARNING: ran out of memory during execution)"
	warnUnusual = " (WARNING: input file was mapped at an unusual location because the object name was too long)"
)

// failure says in the order of the original what a task failed by, nil if by nothing, and whether that is none of its doing.
func (e *ending) failure() (f *jobs.Failure, system bool) {
	user := func(format string, args ...any) *jobs.Failure {
		message := fmt.Sprintf(format, args...)
		if e.oom {
			message += warnMemory
		}
		if e.unusual {
			message += warnUnusual
		}
		return &jobs.Failure{Code: jobs.CodeUserTask, Message: message}
	}
	switch st := e.status; {
	case e.result.Failed != nil:
		return &jobs.Failure{Code: e.result.Failed.Code, Message: e.result.Failed.Message}, false
	case e.result.Committed:
		return nil, false
	case errors.Is(e.cause, errHog):
		return &jobs.Failure{Code: jobs.CodeTaskKilled, Message: "task killed (excessive resource usage)"}, true
	case e.exec != nil:
		if start, ok := errors.AsType[*zones.StartError](e.exec); ok {
			return &jobs.Failure{Code: jobs.CodeTaskInit, Message: "failed to dispatch task: cannot run " + start.Program}, false
		}
		if e.oom {
			return &jobs.Failure{Code: jobs.CodeUserTask, Message: "user task ran out of memory", Internal: e.exec.Error()}, false
		}
		if e.full {
			return &jobs.Failure{Code: jobs.CodeUserTask, Message: "user task ran out of local disk space", Internal: e.exec.Error()}, false
		}
		return internal(e.exec), true
	case e.fetch != nil:
		return &jobs.Failure{Code: jobs.CodeServiceUnavailable, Message: "error fetching inputs: " + inputError(e.fetch), Internal: e.fetch.Error()}, !isGone(e.fetch)
	case st.Core || e.core != nil:
		return user("user command or child process dumped core"), false
	case st.Signal == zones.SIGKILL && e.oom:
		return &jobs.Failure{Code: jobs.CodeUserTask, Message: "user task ran out of memory"}, false
	case st.Signal != "":
		return user("user command terminated by %s", st.Signal), false
	case st.Code != 0 && e.full:
		return &jobs.Failure{Code: jobs.CodeUserTask, Message: "user task ran out of local disk space"}, false
	case st.Code != 0:
		return user("user command exited with code %d", st.Code), false
	}
	return nil, false
}
