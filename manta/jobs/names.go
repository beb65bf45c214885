package jobs

import "fmt"

// Dir returns the path of a job's directory.
func Dir(login, id string) string { return "/" + login + "/jobs/" + id }

// StorDir returns the path of the directory that a job's objects are in.
func StorDir(login, id string) string { return Dir(login, id) + "/stor" }

// OutputBase returns what names of a task's objects begin with, its MANTA_OUTPUT_BASE: /LOGIN/jobs/ID/stor/BASE.PHASE. with the
// phase-0 input for BASE, or reduce where origin is empty.
func OutputBase(login, id, origin string, phase int) string {
	base := "/reduce"
	if origin != "" {
		base = origin
	}
	return fmt.Sprintf("%s%s.%d.", StorDir(login, id), base, phase)
}
