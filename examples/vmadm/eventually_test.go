//go:build linux

package main

import (
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// eventually TEXT PROGRAM ARG... runs the program again until it prints the text, for ten seconds.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(10 * time.Second)
	for {
		c := exec.Command(args[1], args[2:]...)
		c.Env = append(c.Environ(), "MOBULA_ZONES_DIR="+ts.Getenv("MOBULA_ZONES_DIR"), "PATH="+ts.Getenv("PATH"))
		if path := lookup(args[1], ts.Getenv("PATH")); path != "" {
			c.Path, c.Err = path, nil
		}
		out, _ := c.CombinedOutput()
		if strings.Contains(string(out), args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q does not print %q but:\n%s", args[1:], args[0], out)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func lookup(name, path string) string {
	for dir := range strings.SplitSeq(path, ":") {
		if p, err := exec.LookPath(dir + "/" + name); err == nil {
			return p
		}
	}
	return ""
}
