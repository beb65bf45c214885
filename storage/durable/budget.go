package durable

import (
	"sync"
	"sync/atomic"
)

// ChunkSize is the size of the buffers in which a body travels to the copies, in bytes.
const ChunkSize = 128 << 10

// budget counts the bytes that uploads hold.
type budget struct {
	limit int64
	used  atomic.Int64
}

func newBudget(limit int64) *budget { return &budget{limit: limit} }

// take reserves n bytes, or reports that they are not to be had now.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

// takeExtra reserves n bytes for an upload that could do without. Extras stop at half of the limit, so that uploads that run ahead never keep out a
// new one.
func (b *budget) takeExtra(n int64) bool {
	if b.used.Add(n) > b.limit/2 {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// A chunk is one buffer of a streamed body. The bytes do not change while refs is above zero.
type chunk struct {
	data []byte // the filled part of a buffer of ChunkSize
	refs atomic.Int32
}

var chunks = sync.Pool{New: func() any { return &chunk{data: make([]byte, 0, ChunkSize)} }}

func newChunk() *chunk {
	c := chunks.Get().(*chunk)
	c.data = c.data[:0]
	return c
}

// heldClasses are the sizes of buffers for bodies that are held whole. Most small objects are far smaller than the greatest.
var heldClasses = [...]int64{4 << 10, 16 << 10, 64 << 10}

var heldPools [len(heldClasses)]sync.Pool

// heldBuffer returns an empty buffer with room for size bytes and the class it is of.
func heldBuffer(size int64) (*[]byte, int) {
	class := 0
	for heldClasses[class] < size {
		class++
	}
	if b, ok := heldPools[class].Get().(*[]byte); ok {
		*b = (*b)[:0]
		return b, class
	}
	b := make([]byte, 0, heldClasses[class])
	return &b, class
}

func freeHeld(b *[]byte, class int) { heldPools[class].Put(b) }
