// Package pebble keeps a metastore in a directory of its own, embedded in the process: the default store, with nothing to install.
//
// [Open] the directory, use the [Store] as a metastore.Store, Close it. Only one process at a time has a directory open.
// [Store.Backup] writes a consistent copy to a file while reads and writes go on, and [Restore] makes a directory of it.
// Never copy the directory of a running store, and never edit its files.
//
// Below is cockroachdb/pebble, a log-structured merge tree. A commit locks its keys, checks its conditions, applies itself
// in memory, lets the keys go, and is acknowledged once the write-ahead log has been synced; all commits that wait share a
// sync. Counters are merge operands, so concurrent adds need no lock on each other. Index entries and the change log are written in
// the same batch as the records.
//
// Files: store.go opens and closes, keys.go is the layout on disk, schema.go defines buckets, reindex.go fills new
// indexes, commit.go writes, locks.go the key locks, read.go reads, recall.go remembers what was read, changes.go is the change log, backup.go copies,
// move.go hands partitions to another shard.
//
// Stability: experimental.
package pebble
