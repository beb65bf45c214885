// Package shard spreads a metastore over several stores: the ring, electric-moray in the original.
//
// [Open] the shards with a name each; the result is a metastore.Store. A partition belongs to one of a fixed number of virtual nodes by
// its hash (SHA-256), and each virtual node to one shard. Which, says the map, a record in the first shard. All records of a partition
// are on one shard, so a query that names a partition, and every batch, touch one shard; a query over all partitions asks every shard and merges
// the answers. A new index answers on each shard as soon as it is complete there, for queries that name a partition. Never open the shards by themselves to write to them, and always name the same shard first.
//
// # Adding a shard
//
// Stop nothing: open the ring with the new shard appended in each process, one after another, then call [Store.Rebalance] in one of them. To
// retire a shard, [Store.Drain] it, then open without it. A move goes on while everybody reads and writes; writes to its virtual nodes are held
// up at its end for about Config.MapTTL. If the process that moves dies, reads go on and writes may find metastore.ErrReadOnly until
// [Store.Resume] completes the move, or [Store.Abort] undoes one that has not switched yet.
//
// # How a move is safe
//
// Each shard has fences: records that say whether a virtual node may be written there. Every commit checks the fence it knows, atomically with its
// own operations; a process that has not heard of a change is refused, learns, and tries again at the right place. A move goes through these steps,
// each of which may be repeated:
//
//	copying   the source's fence says so: from now on every commit notes the keys it writes (shard_dirty)
//	          everything is copied, compared, and what was noted is copied again, until little is left
//	frozen    the source's fence refuses writes; the last noted keys are copied and compared
//	switch    the map names the new owner; reads go there
//	          after MapTTL no process trusts an older map; then the target's fence admits writes
//	clean     the source's copy is removed
//
// Copies are imported under a check of the mover's own record, so a second mover takes over from the first, never beside it.
//
// Files: store.go opens and routes, ring.go is the map, fence.go the fences, commit.go writes, find.go merges queries, watch.go changes, move.go
// with copy.go moves.
//
// Stability: experimental.
package shard
