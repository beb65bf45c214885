package agent

import (
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/manta/jobs/agent/internal/cell"
)

// environ is the environment of a task's program. Marlin's own tests compare all of MANTA_*, HOME and DTRACE_*, so nothing may be added to these.
func (w *worker) environ(t *attempt) []string {
	env := append(w.initEnviron(), "MANTA_OUTPUT_BASE="+t.job.base(&t.Start))
	if in := t.Input; in != nil {
		name, _ := abbreviate(in.Path)
		file := cell.InputDir + name
		return append(env, "MANTA_INPUT_OBJECT="+in.Path, "MANTA_INPUT_FILE="+file, "mc_input_key="+in.Path, "mc_input_file="+file)
	}
	return append(env, "MANTA_REDUCER="+strconv.Itoa(t.Reducer))
}

// initEnviron is that of a phase's init program, but for MANTA_OUTPUT_BASE.
func (w *worker) initEnviron() []string {
	return []string{"PATH=" + cell.Path, "HOME=/root", "DTRACE_DOF_INIT_DISABLE=1", "MANTA_URL=http://localhost:80/", "MANTA_NO_AUTH=true",
		"MANTA_USER=" + w.job.Login, "MANTA_JOB_ID=" + w.job.Job}
}

// Longest names that a zone's programs can deal with.
const (
	nameMax = 255
	pathMax = 1024
)

// abbreviate makes a path that a file can have, as like the object's as can be, and reports whether it is another. A component that is too long is cut short; of a path that is
// too long the inner directories go.
func abbreviate(name string) (string, bool) {
	parts := strings.Split(strings.TrimPrefix(name, "/"), "/")
	short := false
	for i, p := range parts {
		if len(p) > nameMax {
			short = true
			cut := nameMax - len("_...")
			for cut > 0 && p[cut]&0xc0 == 0x80 { // not within a character
				cut--
			}
			parts[i] = p[:cut] + "_..."
		}
	}
	out := "/" + strings.Join(parts, "/")
	if len(out) <= pathMax {
		return out, short
	}
	n := len(parts)
	if n > 5 {
		out = "/" + strings.Join([]string{parts[0], parts[1], parts[2], "_...", parts[n-2], parts[n-1]}, "/")
		if len(out) <= pathMax {
			return out, true
		}
	}
	return "/" + strings.Join([]string{parts[0], parts[1], "_...", parts[n-1]}, "/"), true
}

// initBase is the MANTA_OUTPUT_BASE of a phase's init program: the first task's.
func (w *worker) initBase(t *attempt) string { return "MANTA_OUTPUT_BASE=" + t.job.base(&t.Start) }
