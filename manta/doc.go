// Package manta holds the nouns of the object store (Manta): paths, directory entries, request conditions, errors.
//
// The store is a tree per account, /LOGIN/stor, /LOGIN/public and so on, whose leaves are immutable objects. Doors onto it
// (manta/webapi for HTTP) speak of these nouns to manta/namespace, which keeps them as records and knows no door.
// Programs that only use a store import manta/client.
//
//	path.go        Path as a caller writes it, Key as records know it
//	entry.go       Entry: a directory or an object, and its line in a listing
//	conditions.go  If-Match and its relatives as values
//	error.go       every code that the store answers
//
// Call [ParsePath] on every path that comes from outside; never join or compare such paths by hand.
//
// Stability: experimental.
package manta
