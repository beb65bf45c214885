// Package objfile is the engine of a storage node: the objects of one server in one directory, durable and verified (Mako in the original).
//
// Call [Open]; a [Store] is a [storage.Node]. Close it. Never open a directory twice (a lock prevents it), and never change a file below it by hand: the store
// would take it for damage. storage/nodehttp serves a store to other servers, and storage/durable keeps copies on several of them.
//
// # What is where
//
//	FORMAT                      version, and the salt of this store
//	LOCK                        flock against a second process
//	journal/NUMBER.seg          segments of the journal, in order
//	objects/OWNER/OBJECT        one large object, exactly its bytes
//	quarantine/                 what is left of damaged copies, for the operator to look at and remove
//	index/                      where each object is; a cache of the journal, and rebuilt from it if it is lost
//
// The journal is append-only. Every change is a record: a put, a mark (deleted, or brought back), a purge (a grace period is over), a copy found damaged. A
// record has its own check sums and stands for itself; its header's check sum also covers its place and the store's salt, so neither stale bytes nor an object that
// contains an image of a journal can pass for one. An object up to [Config].PackLimit is in its put record; for a larger one the record holds the
// CRC32C of every 64 KiB of the file. So no object costs more than one record and, if it is large, one file.
//
// # Why this way
//
// Small objects. Writers share one write and one sync: a single goroutine takes all changes that wait, writes them, syncs, and answers all. It waits for nobody, so one
// writer alone has the latency of one sync, and 64 writers share it. The body is in the record itself because a second file or a second log would be a second sync. The next
// segment is filled with zeros before it is used, which halves the time of a sync. A batch of 128 KiB or more begins and ends at a block, with zeros between,
// and goes past the page cache: copying it into fresh pages would cost as much as summing it. The first read of it comes from the disk.
//
// Large objects. The bytes are written once, in their final place: a file without a name (O_TMPFILE), space set aside, content past the page cache in chunks of 1 MiB with a
// few under way, synced, linked, the directory synced together with others', and only then the record. Block check sums are computed in the writer's
// own goroutine: at 26 GB/s a core they cost less than handing the work over would. MD5 is the caller's, except in Assemble.
//
// The index is pebble without a log of its own and without syncs. Each group commit puts its changes and the journal's position into it as one batch, so what
// survives a crash is the state at some position, and replay starts there. It is flushed every 64 MiB of journal, which bounds the replay. Memory does not grow
// with the number of objects.
//
// # What holds
//
// After a crash every acknowledged change is there; a change that was not acknowledged is there in full or not at all. Nothing is ever appended behind a torn tail: every
// start begins a new segment, which says up to where the one before counts. A failed sync makes the store read-only until it is started again, because
// nobody knows what the disk has; a full disk is an error that passes.
//
// A byte is handed out only after the check sum of its block (or of the whole packed object) has been verified; on a mismatch the block is read once more from the disk,
// past the page cache, and only then the copy counts as damaged: the id is absent from then on, what is left goes to quarantine, and Config.OnDamage is told.
// A disk that answers with an input/output error is not taken for damage, because a cable may be to blame: the caller gets [storage.ErrUnavailable].
// Only when the background verification can read other objects, and this one again not, it gives the copy up.
//
// Deleted objects keep their bytes for [Config].Grace. Then their files are removed, and segments of which less than half is needed are compacted: what is needed is
// written again at the head, then the segment goes. A purge outlives its segment for as long as the segment with the put is there, or an index that is
// built anew would find the object alive.
//
// Files: store.go, door.go, dirs.go, config.go (the store), record.go, sums.go, segment.go (formats), commit.go, prepare.go (journal), index.go, entry.go (index), recover.go, format.go (start),
// writer.go, filewriter.go, reader.go, assemble.go, file.go, delete.go, compact.go, scrub.go, quarantine.go.
//
// Stability: experimental; directories that this version writes will be read by later ones.
package objfile
