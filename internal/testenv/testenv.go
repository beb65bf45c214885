// Package testenv tells a test what the machine can do, so that a test either runs, skips with a reason, or fails
// because the run promised a tool that is not there.
//
// A developer's machine may lack root, btrfs or npm: the test skips and says why. Continuous integration declares what
// it has in MOBULA_TEST_HAS (a comma list such as "root,btrfs,postgres,qemu"); a missing capability
// that was declared is a failure, so nothing is skipped there in silence.
//
// Stability: experimental.
package testenv

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// HasVar is the environment variable in which a run declares its capabilities.
const HasVar = "MOBULA_TEST_HAS"

// Declared reports whether the run promised the capability name.
func Declared(name string) bool {
	return slices.Contains(strings.Split(os.Getenv(HasVar), ","), name)
}

// Missing skips the test for want of a capability, or fails it if the run had declared that capability.
func Missing(t testing.TB, capability, reason string) {
	t.Helper()
	if Declared(capability) {
		t.Fatalf("%s was declared in %s, but: %s", capability, HasVar, reason)
	}
	t.Skipf("needs %s: %s", capability, reason)
}

// NeedRoot asks for an effective user id of 0.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "root", "not running as root")
	}
}

// NeedTool asks for a program on PATH and returns its path. The capability's name is capability; a package often
// brings several programs, so the two names may differ.
func NeedTool(t testing.TB, capability, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		Missing(t, capability, "no "+program+" on PATH")
	}
	return path
}

// Long reports whether long random runs were asked for (MOBULA_LONG=1).
func Long() bool { return os.Getenv("MOBULA_LONG") != "" }
