// Package jobstest is a store with compute jobs in one process, for tests of programs that make jobs.
//
// The store, its front door, the supervisor and the doors inside tasks are the real ones; bytes and records are in memory. Only the zones are missing: a task is
// a plain process group on this machine, run as whoever runs the test, in a directory of its own. So it needs no privileges and gives no isolation: run
// nothing in it that you would not run by hand.
//
// The test binary stands for the tools of a zone. Its TestMain is
//
//	func TestMain(m *testing.M) { os.Exit(jobstest.Main(m)) }
//
// and then [New] gives a [Cloud], whose [Cloud.Account] gives clients. An input is at MANTA_INPUT_FILE, not below /manta, and "/assets/" in a phase's commands is
// replaced by the place where the assets are. Limits of memory and disk, and images, mean nothing here.
//
// Stability: experimental.
package jobstest
