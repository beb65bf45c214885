// Package postgres keeps a metastore in a PostgreSQL database, version 15 or later: the store to outgrow one machine with.
//
// [Open] a database by its URL, as pgx and libpq read it (TLS by sslmode, sslrootcert and so on); everything lives in one schema of it,
// made at first use. Any number of processes may have it open at once. High availability is the database's own: streaming
// replication, a managed service. Never change the tables by hand, and never run with fsync off where data matters.
//
// A commit is one transaction in two round trips. The first takes advisory locks on the batch's keys (shared for a Check; they also
// cover keys without a record, which row locks cannot) and reads what the conditions need; the second writes and commits. Since every
// commit locks its keys before it reads, Read Committed is as good as Serializable here, and nothing has to be retried.
//
// The change log is ordered by transaction id. Transactions become visible in another order than they began, so a position is
// not a number but a snapshot (pg_snapshot): Watch yields what is visible now and was not in the position's snapshot, and can miss nothing.
// NOTIFY wakes watchers in other processes; it is sent after the commit, since a transaction that notifies holds a lock that would make
// all commits wait for each other's sync.
//
// Files: store.go opens, tables.go has the tables, keys.go how keys are cut to fit into B-tree pages, schema.go defines buckets,
// commit.go writes, read.go reads, changes.go watches, position.go is the snapshot arithmetic, move.go hands partitions to another shard.
//
// Stability: experimental.
package postgres
