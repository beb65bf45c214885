package audit

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/mobulacloud/mobula/storage"
)

// A filter is a set that may hold more than was added (a blocked Bloom filter). With bitsPerItem it takes about one thing in 500 for another. The seed is the
// filter's own, so two filters err about different things.
type filter struct {
	seed   maphash.Seed
	blocks [][8]uint64
	buf    []byte
}

const (
	bitsPerItem = 16
	bitsPerAdd  = 8
	minBlocks   = 64 // a small filter errs too much when it gets more than was expected
)

func newFilter(items int64) *filter {
	return &filter{seed: maphash.MakeSeed(), blocks: make([][8]uint64, max(items*bitsPerItem/512+1, minBlocks))}
}

// set and has work on a key that one of the functions below has made.
func (f *filter) add(key []byte) {
	b, x := f.at(key)
	for range bitsPerAdd {
		b[x>>61] |= 1 << (x >> 55 & 63)
		x = x*multiplier + 1
	}
}

func (f *filter) has(key []byte) bool {
	b, x := f.at(key)
	for range bitsPerAdd {
		if b[x>>61]&(1<<(x>>55&63)) == 0 {
			return false
		}
		x = x*multiplier + 1
	}
	return true
}

const multiplier = 6364136223846793005

// at returns a key's block, and the number that its bits come from.
func (f *filter) at(key []byte) (*[8]uint64, uint64) {
	h := maphash.Bytes(f.seed, key)
	return &f.blocks[h%uint64(len(f.blocks))], (h ^ h>>32) * multiplier
}

// object is the key of an object, wherever it is.
func (f *filter) object(id storage.ObjectID) []byte {
	f.buf = append(append(append(f.buf[:0], 'o'), id.Owner[:]...), id.Object[:]...)
	return f.buf
}

// place is the key of an object on a node.
func (f *filter) place(id storage.ObjectID, node string) []byte {
	f.buf = append(append(append(append(f.buf[:0], 'p'), id.Owner[:]...), id.Object[:]...), node...)
	return f.buf
}

// copy is the key of one content of an object on a node.
func (f *filter) copy(id storage.ObjectID, node string, size int64, sum [16]byte) []byte {
	f.buf = append(append(append(f.buf[:0], 'c'), id.Owner[:]...), id.Object[:]...)
	f.buf = append(append(binary.BigEndian.AppendUint64(f.buf, uint64(size)), sum[:]...), node...)
	return f.buf
}
