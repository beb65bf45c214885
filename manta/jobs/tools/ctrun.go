package tools

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

const ctrunUsage = `usage: ctrun [-i events] [-f events] [-l lifetime] [-o options] [-r count] [-t] command [argument...]`

// ctrun runs a command. The original's system puts it under a process contract; a zone here is the only contract there is.
func ctrun(p *process) int {
	o, ok := p.taskOptions("i:f:l:o:r:tF:A:", ctrunUsage)
	if !ok {
		return 2
	}
	if len(o.args) == 0 {
		return p.wrong(ctrunUsage, errors.New("no command"))
	}
	path, err := exec.LookPath(o.args[0])
	if err != nil {
		p.fail(err)
		return 127
	}
	p.fail(syscall.Exec(path, o.args, os.Environ())) // it returns only if it fails
	return 126
}
