// Package mpu keeps multipart uploads: objects whose bytes come in parts, in any order, and become one object when they are committed.
//
// An upload is a directory, /LOGIN/uploads/PREFIX/ID, whose metadata holds the upload's record and whose entries are the parts: ordinary objects, all on the
// nodes that were chosen when the upload was made, so that they can be joined where they lie. PREFIX is the first digits of ID, and how many is the last
// digit of ID.
//
// An upload is created, then finalizing, then done. It becomes finalizing by a compare-and-swap on its record, which settles whether it is a commit or an
// abort, and of which parts; from then on parts cannot change, since a part is put in one batch with a check of that record. It is
// done when its finalizing record exists, in bucket "manta_uploads" under ID:TARGET in the partition of the target's directory. For a commit that is one
// batch with the target's entry. Either step may be repeated after a crash, by the same call of the client.
//
// Start with [New] and [Service.Define]; then [Service.Create], [Service.Load], [Service.Commit], [Service.Abort]. Parts are put by
// the door itself ([Service.Part] says how). manta/gc takes away what uploads leave behind, with [Service.Sweep].
//
//	service.go  Config, Service   create.go  new uploads   part.go   one part       commit.go  commit
//	upload.go   Upload, Status    abort.go   abort         join.go    joining parts that lie apart
//	                                                       sweep.go   cleaning up
//
// Stability: experimental.
package mpu
