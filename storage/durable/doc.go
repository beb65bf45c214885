// Package durable writes one object to several storage nodes and reads it back from whichever copy is intact; in the original these duties
// lay in the front door's shark client.
//
// Call [New] with something that knows the nodes ([Nodes]: storage/fleet in a cloud, [Static] in a program or a test). To
// write, [Store.Create] an [Upload], stream the body into it, then Commit; its [Stored] goes into the object's record and
// comes back as a [Location] for [Store.Open], [Store.Delete] and [Store.Repair]. A [Repairer] restores copies in the background.
//
// What holds:
//   - Commit succeeds only when every copy that was asked for is on stable storage with the same check sums.
//   - The body passes through once, in pooled buffers; all uploads together hold at most Config.MaxInFlight bytes, and beyond
//     that Create answers [ErrBusy] at once.
//   - A node that fails before more than the first buffer was sent to it is replaced by another. Later the upload
//     fails and all copies are cancelled. Small bodies are held whole, so for them a node is replaced at any time.
//   - Open never returns a byte that its node had not verified. When a copy fails or is damaged in the middle, reading
//     goes on at that byte from another.
//
// Never put a Location into a record before Commit has returned, and never delete an object's copies while a record refers to them.
// Copies that a crash left without a record are found by the audit.
//
// Files: store.go (Config, Location, errors), upload.go with held.go, stream.go and replica.go (writing), places.go (which nodes, and their
// replacement), budget.go (buffers), reader.go and hedge.go (reading), change.go (delete, assemble), repair.go, queue.go
// and limit.go (repair), static.go, metrics.go.
//
// Stability: experimental.
package durable
