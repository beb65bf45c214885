package jobs

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

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

// Limits of names in the file system of a zone, in bytes.
const (
	maxName = 255
	maxPath = 1024
)

// InputFile returns the path at which a map task finds its input, its MANTA_INPUT_FILE: /manta and the object's path, normalised. A component of more
// than 255 bytes is cut to end in "_...", and of a path that is longer than 1024 bytes then, "_..." stands for inner directories. unusual reports
// whether that was necessary: errors of the task have UnusualInput at their end then.
func InputFile(path string) (file string, unusual bool) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, p := range parts {
		if len(p) > maxName {
			parts[i], unusual = shorten(p), true
		}
	}
	join := func(parts ...string) string { return "/" + strings.Join(parts, "/") }
	short := join(parts...)
	n := len(parts)
	if len(short) > maxPath && n > 5 {
		short, unusual = join(parts[0], parts[1], parts[2], ellipsis, parts[n-2], parts[n-1]), true
	}
	if len(short) > maxPath {
		short, unusual = join(parts[0], parts[1], ellipsis, parts[n-1]), true // four components fit whatever they are
	}
	return "/manta" + short, unusual
}

// UnusualInput is appended to messages of failures where InputFile says unusual.
const UnusualInput = " (WARNING: input file was mapped at an unusual location because the object name was too long)"

const ellipsis = "_..."

func shorten(name string) string {
	cut := maxName - len(ellipsis)
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut] + ellipsis
}
