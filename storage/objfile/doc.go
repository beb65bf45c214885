// Package objfile is the engine of a storage node: the objects of one server on one directory, durable and verified (Mako in the original).
//
// Call [Open]; a [Store] is a [storage.Node]. Never open a directory twice (a lock prevents it), and never change a file below it by hand.
package objfile
