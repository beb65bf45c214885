// Package storage keeps the bits of objects on servers: the contract of a storage node (Mako in the original Manta).
//
// A [Node] holds whole, immutable objects under an [ObjectID]; it knows nothing of paths, accounts or copies on other
// nodes. Above it, storage/durable writes one object to several nodes and reads from whichever copy answers
// intact, with storage/picker choosing the nodes; below it, storage/objfile is the engine on one server's disk, and
// storage/nodehttp takes a Node over the network. Records about objects are not kept here but in
// storage/metastore.
//
// Start with [Node]. An implementation proves itself with storage/storagetest.
//
// Stability: experimental.
package storage
