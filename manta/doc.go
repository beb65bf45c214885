// Package manta holds the nouns of the object store: paths, directory entries, errors.
//
// The store is a tree per account, /LOGIN/stor, /LOGIN/public and so on, whose leaves are immutable objects. Doors onto it
// (manta/webapi for HTTP) speak of these nouns to manta/namespace, which keeps them as records and knows no door.
// Programs that only use a store import manta/client.
//
// Stability: experimental.
package manta
