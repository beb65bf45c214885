package metastore

import (
	"bytes"
	"cmp"
	"crypto/sha256"
)

// OrderedPrefix is how many bytes of a partition or a name decide its place. It is what a B-tree page
// of PostgreSQL has room for.
const OrderedPrefix = 700

// Compare orders keys by partition, then name; it returns -1, 0 or +1. Each of them orders bytewise. Two that agree
// in their first [OrderedPrefix] bytes and are both longer than that come in the order of their SHA-256 sums instead: still a total
// order, and the same on every store, but not an alphabetical one.
func (k Key) Compare(other Key) int {
	return cmp.Or(compareParts(k.Partition, other.Partition), compareParts(k.Name, other.Name))
}

func compareParts(a, b string) int {
	if len(a) > OrderedPrefix && len(b) > OrderedPrefix && a[:OrderedPrefix] == b[:OrderedPrefix] && a != b {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return bytes.Compare(x[:], y[:])
	}
	return cmp.Compare(a, b)
}
