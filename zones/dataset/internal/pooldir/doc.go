// Package pooldir is the directory of a pool: what btrfs and overlay keep the same way.
//
//	mobula.json            format and driver
//	lock                   flock: one process changes names and records at a time
//	ds/NAME/record.json    a dataset; a driver keeps its trees beside it
//	tmp/RANDOM/            what one process has half made, or half removed; its flock says that the process lives
//
// A dataset appears by one rename from tmp into ds and goes by one rename back, so it is there in whole or not
// at all. [Open] removes the tmp directories of dead processes.
//
// Stability: experimental.
package pooldir
