// Package gc takes away the bytes of objects that no entry refers to any more (Mola and the garbage-collector in the original).
//
// Every change that takes an object's entry away leaves a line in the delete log, in the same batch. A [Collector] reads the log some time later, the grace
// period, makes sure that no snaplink still refers to the bytes, has the storage nodes delete the copies, and then removes the line. It does the same for what
// multipart uploads leave behind. Any step may be interrupted and is repeated; several collectors over one store do no harm, only work twice.
//
// Call [New], then [Collector.Run], or [Collector.RunOnce] from a scheduler of your own. Never set a grace period shorter than a request may last: a read that
// is under way must not lose its object, and a link that is being made must not come too late.
//
// Bytes that were never in an entry, because a front door died between storing them and recording them, are not in the log; manta/audit finds those.
//
// Stability: experimental.
package gc
