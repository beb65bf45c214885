// Package storagetest proves implementations of [storage.Node], and breaks disks and nodes on purpose.
//
//   - [TestNode] is the conformance suite: call it from the test of anything that is a storage.Node.
//   - [TestAgainst] runs a random history on a node and compares every answer with a node in memory.
//   - [MemNode] is a node in memory that behaves: it keeps the whole contract, and it can be told to die after some bytes, to damage a
//     copy, to be full, slow or read-only. It uses no real time or I/O of its own, so it runs in testing/synctest bubbles.
//   - [CrashFS] is a file system in memory that knows which bytes and which directory entries have been synced, and shows the disk as
//     a power cut would leave it. [FaultFS] wraps a file system and lets chosen operations fail. Both drive storage/objfile
//     through its seam, storage/objfile/diskfs.
//
// Every random choice comes from a seed that the caller gives, so that a failure can be replayed. Do not use MemNode outside of tests: it
// forgets all with the process.
//
// Stability: experimental.
package storagetest
