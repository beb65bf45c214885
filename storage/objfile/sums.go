package objfile

import (
	"encoding/binary"
	"hash/crc32"
)

// A file object's check sums stand in its journal record, as pages of 4 KiB: the CRC32C of 1,023 blocks of 64 KiB, then the CRC32C of the page
// itself. So a reader of any range needs one page in memory, and trusts none that is damaged.
const (
	blockSize     = 64 << 10
	pageSize      = 4096
	blocksPerPage = pageSize/4 - 1
)

// maxObject is the largest object whose check sums fit into a record.
const maxObject = (maxPayload / pageSize) * blocksPerPage * blockSize

func blocksOf(size int64) int64 { return (size + blockSize - 1) / blockSize }

// sumListLen is the length of the list for an object of so many bytes. The last page is short.
func sumListLen(size int64) int64 {
	blocks := blocksOf(size)
	full := blocks / blocksPerPage
	n := full * pageSize
	if rest := blocks % blocksPerPage; rest > 0 {
		n += 4*rest + 4
	}
	return n
}

func pageSum(page []byte) uint32 { return crc32.Checksum(page[:len(page)-4], castagnoli) }

// encodeSums makes the list out of the check sums of all blocks.
func encodeSums(blocks []uint32) []byte {
	b := make([]byte, 0, sumListLen(int64(len(blocks))*blockSize))
	for len(blocks) > 0 {
		n := min(len(blocks), blocksPerPage)
		start := len(b)
		for _, s := range blocks[:n] {
			b = binary.LittleEndian.AppendUint32(b, s)
		}
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
		blocks = blocks[n:]
	}
	return b
}

// checkPage verifies a page that was read back.
func checkPage(page []byte) bool {
	return len(page) >= 8 && pageSum(page) == binary.LittleEndian.Uint32(page[len(page)-4:])
}

// blockSums adds up the check sums of content that arrives in pieces.
type blockSums struct {
	size   int64
	whole  uint32
	block  uint32 // of the block that is not full yet
	blocks []uint32
}

func (s *blockSums) write(p []byte) {
	s.whole = crc32.Update(s.whole, castagnoli, p)
	for len(p) > 0 {
		n := min(int64(len(p)), blockSize-s.size%blockSize)
		s.block = crc32.Update(s.block, castagnoli, p[:n])
		s.size += n
		p = p[n:]
		if s.size%blockSize == 0 {
			s.blocks, s.block = append(s.blocks, s.block), 0
		}
	}
}

// writeWhole adds to size and whole alone: a packed object has no blocks.
func (s *blockSums) writeWhole(p []byte) {
	s.whole = crc32.Update(s.whole, castagnoli, p)
	s.size += int64(len(p))
}

// list ends the content and returns the list.
func (s *blockSums) list() []byte {
	if s.size%blockSize != 0 {
		s.blocks, s.block = append(s.blocks, s.block), 0
	}
	return encodeSums(s.blocks)
}

// combine returns the CRC32C of two pieces of content put together, from the check sums of the pieces and the length of the second. It
// multiplies the first by x^(8n) modulo the polynomial, by repeated squaring of the zero-appending operator.
func combine(a, b uint32, n int64) uint32 {
	if n <= 0 {
		return a
	}
	// op appends one zero bit: a shift by one, and the polynomial where a bit falls out.
	var op matrix
	op[0] = crc32.Castagnoli
	for i := 1; i < 32; i++ {
		op[i] = 1 << (i - 1)
	}
	for range 3 { // one bit, two, four, eight: a byte
		op = op.square()
	}
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			a = op.times(a)
		}
		op = op.square()
	}
	return a ^ b
}

// matrix is a linear map of 32 bits: the image of each.
type matrix [32]uint32

func (m *matrix) times(v uint32) uint32 {
	var sum uint32
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= m[i]
		}
	}
	return sum
}

func (m *matrix) square() matrix {
	var sq matrix
	for i := range sq {
		sq[i] = m.times(m[i])
	}
	return sq
}
