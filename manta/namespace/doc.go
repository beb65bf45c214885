// Package namespace keeps the directories, objects and snaplinks of the store as records (libmanta in the original), one atomic batch per change.
//
// # How the tree is kept
//
// A directory is a partition of the metastore. An entry of directory D is a record of bucket "manta" under {D, name}, so a page of a listing is
// one run of an iterator and a change of one entry touches one shard. The directory itself is two records: the head, {D, ""}, in its own
// partition, which says that D exists and carries its metadata, and the dirent in the partition of its parent, which a listing shows. The number of
// entries is a counter under {D, ""}.
//
// Putting an entry is one batch in partition D: the head is there, the entry is as it was read, the new record, the counter, and what is replaced
// goes to the delete log, from which manta/gc takes the bytes away. So there is never an entry without its directory, and no
// object without either an entry or a line in that log.
//
// # Directories on two shards
//
// When the partitions of D and of its parent are on one shard, mkdir and rmdir are one batch. Otherwise they are three steps, held together by an intent: a record in D's
// partition which stands there only while D has no head.
//
//	mkdir   1 in D: no head; put the intent     2 in the parent: put the dirent      3 in D: swap the intent for the head
//	rmdir   1 in D: no entries; swap the head   2 in the parent: delete the dirent,  3 in D: delete the intent
//	        for the intent                        if it is as read before step 1
//
// Whoever finds an intent takes it over by writing it anew, which changes its etag, and step 3 asks for the etag that step 1 wrote. Step 2 of mkdir
// writes the dirent even where there is one, so that an rmdir that read it earlier fails. Together: a head is only ever made while the dirent is
// there and cannot go, so an acknowledged entry is never in a directory that has no name. A crash between the steps leaves either a dirent
// without a head, which reads as an empty directory and becomes a full one with the next entry, or a lone intent, which nothing sees; repetition
// of the call, and any put into the directory, completes it.
//
// # A put beside its bytes
//
// A put's record may only become visible once its bytes are durable, so there are two waits for a disk, one after the other. [Namespace.Begin] and [Pending.Finish]
// make it one where the store is embedded and the storage nodes are in the same process: an intent, which holds the record to be, is written while the nodes write
// the bytes. When both are durable, the batch described above, together with the removal of the intent, is carried out without waiting for the disk, and the put is
// acknowledged. After a crash [Namespace.Recover] does what is left, before anybody else does anything:
//
//   - Acknowledged means that intent and bytes are durable. If the batch is lost, the intent is there, and Recover carries the batch out. If it is not lost, the
//     intent is gone with it, and nothing is done twice.
//   - The embedded store loses its newest commits or none: whatever was acknowledged after the batch made it durable, so the batch is never missing below a later
//     acknowledged change. It is carried out only on the very state of the entry that the intent names (by etag), now as after a crash; where that has changed
//     meanwhile, the change is an ordinary one, which waits for the disk.
//   - An intent whose bytes are on no node was never acknowledged, and is dropped: what the put was to replace is still there, because only the batch replaces it.
//   - A put that is refused or fails removes its intent, durably, before it is answered.
//   - Of one key one intent at a time exists.
//
// # Use
//
// Start with [New], then [Namespace.Define] once. [Namespace.Look] reads what a decision about a request needs; pass its result on to the change so that
// nothing is read twice. Never write records of bucket "manta" by any other way.
//
//	namespace.go  the service          put.go        objects, metadata       list.go    listings
//	look.go       reading one entry    directory.go  mkdir, rmdir, repair    deleted.go the delete log
//	record.go     records as JSON      link.go       snaplinks               scan.go    their fast reader
//	copies.go     where copies are     room.go       the limit of entries    pending.go puts beside their bytes
//
// Stability: experimental.
package namespace
