// Package tools has the programs that tasks of compute jobs find in their zones: manta-compute-bin's, and the store's clients in the way of node-manta.
//
// They are one binary under many names. A daemon's main function begins with
//
//	if tools.Is(os.Args[0]) {
//		os.Exit(tools.Main(os.Args))
//	}
//
// and an agent shows the daemon's own binary in every zone, with a link for each of [Names].
//
//	mpipe mcat mtee msplit maggr              what a task emits
//	mls mfind mget mput mln mmkdir mrm mrmdir minfo msign
//	mjob                                      makes jobs from within a job, or anywhere
//	ctrun medusa-agent                        what mlogin's command line begins with, and its side in the task
//
// Inside a task they speak to the door of their zone: MANTA_URL and MANTA_NO_AUTH are set there. With MANTA_URL, MANTA_USER and MANTA_KEY_ID they work anywhere
// else. Programs of the first line end with 2 when they are called wrongly; all end with 1 when they fail.
//
// # Differences
//
// What the originals do that these do not: mpipe does not say where it keeps its input. msplit's -e needs node in the zone, as the original itself
// did, and is refused without; its -t, which the original names and does not have, shows where lines would go. maggr takes two keys of several columns for one only if all
// columns are equal, and its sum is the sum even where it passes through zero; its formats are printf's without * and n$, and show a NaN where the original ends. The clients draw no
// progress bars, take no verbosity, and do without completion of command lines; mjob has neither share nor cost, and adds input to one job at a time. mchattr, mchmod, mlogin, mmd5, mmpu, msync and muntar are not here.
//
// # Files
//
//	tools.go                  names, Main, what a program has
//	options.go                command lines
//	spool.go                  input whose length is not known yet
//	mpipe.go mcat.go mtee.go msplit.go script.go maggr.go aggregate.go
//	js.go printf.go           numbers as the originals read and write them
//	mls.go mfind.go mget.go mput.go mrm.go minfo.go mjob.go mjobcreate.go
//
// Stability: experimental.
package tools
