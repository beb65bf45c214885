package objfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

const (
	journalDir    = "journal"
	nextSegment   = journalDir + "/next" // a segment in waiting: zeros
	segmentSuffix = ".seg"
	maxOpen       = 256 // segments held open
)

func segmentName(n uint64) string { return fmt.Sprintf("%s/%016x%s", journalDir, n, segmentSuffix) }

func parseSegmentName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, ok && err == nil && len(hex) == 16 && n > 0
}

// segmentNumbers lists the journal, in order.
func segmentNumbers(disk diskfs.FS) ([]uint64, error) {
	var segs []uint64
	for name, err := range disk.Names(journalDir) {
		if err != nil {
			return nil, fmt.Errorf("list journal: %w", err)
		}
		if n, ok := parseSegmentName(name); ok {
			segs = append(segs, n)
		}
	}
	slices.Sort(segs)
	return segs, nil
}

// segment is an open segment file.
type segment struct {
	diskfs.File
	n    uint64
	refs int
	used uint64
}

// segments keeps the files of the journal open for readers, the last used ones.
type segments struct {
	disk  diskfs.FS
	mu    sync.Mutex
	open  map[uint64]*segment
	clock uint64
}

// acquire returns a segment, to be released; fs.ErrNotExist if compaction has removed it.
func (s *segments) acquire(n uint64) (*segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	if seg := s.open[n]; seg != nil {
		seg.refs++
		seg.used = s.clock
		return seg, nil
	}
	f, err := s.disk.Open(segmentName(n))
	if err != nil {
		return nil, err
	}
	s.evict()
	seg := &segment{File: f, n: n, refs: 1, used: s.clock}
	s.open[n] = seg
	return seg, nil
}

func (s *segments) evict() {
	for len(s.open) >= maxOpen {
		var oldest *segment
		for _, seg := range s.open {
			if seg.refs == 0 && (oldest == nil || seg.used < oldest.used) {
				oldest = seg
			}
		}
		if oldest == nil {
			return
		}
		delete(s.open, oldest.n)
		oldest.Close()
	}
}

func (s *segments) release(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seg.refs--; seg.refs == 0 && s.open[seg.n] != seg {
		seg.Close()
	}
}

// forget closes a segment that was removed as soon as its last reader is done.
func (s *segments) forget(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seg := s.open[n]; seg != nil {
		delete(s.open, n)
		if seg.refs == 0 {
			seg.Close()
		}
	}
}

func (s *segments) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, seg := range s.open {
		delete(s.open, n)
		if seg.refs == 0 {
			seg.Close()
		}
	}
}

// scanner walks the records of a segment. It steps over damage: after bytes that are no record it goes on at the next that are one.
type scanner struct {
	f     diskfs.File
	n     uint64
	salt  uint64
	end   int64 // scan up to here
	off   int64
	start int64 // buf holds the file from here on
	buf   []byte
	fill  int

	skipped bool // there were non-zero bytes that are no record
}

const scanBuffer = 1 << 20

func newScanner(f diskfs.File, n, salt uint64, from, end int64) *scanner {
	return &scanner{f: f, n: n, salt: salt, off: max(from, segmentHeader), end: end, buf: make([]byte, scanBuffer)}
}

// window returns n bytes at off, or fewer at the end.
func (s *scanner) window(off, n int64) ([]byte, error) {
	n = min(n, s.end-off)
	if n <= 0 {
		return nil, nil
	}
	if off >= s.start && off+n <= s.start+int64(s.fill) {
		return s.buf[off-s.start : off-s.start+n], nil
	}
	if n > int64(len(s.buf)) {
		s.buf = make([]byte, n)
	}
	k, err := s.f.ReadAt(s.buf[:min(int64(len(s.buf)), s.end-off)], off)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read segment %d: %w", s.n, err)
	}
	s.start, s.fill = off, k
	return s.buf[:min(n, int64(k))], nil
}

// next returns the next record with its payload, which is valid until the next call; intact tells whether the payload agrees with its check sum. The end is io.EOF.
func (s *scanner) next() (r record, payload []byte, at place, intact bool, err error) {
	for s.off+headerSize <= s.end {
		at = place{s.n, s.off}
		b, err := s.window(s.off, headerSize)
		if err != nil {
			return r, nil, at, false, err
		}
		if len(b) < headerSize {
			break
		}
		if r, err = parseRecord(b, s.salt, at); err != nil {
			s.skipped = s.skipped || !allZero(b[:8])
			s.off += 8
			continue
		}
		if r.payloadLen > 0 {
			if payload, err = s.window(s.off+headerSize, r.payloadLen); err != nil {
				return r, nil, at, false, err
			}
		}
		intact = int64(len(payload)) == r.payloadLen && checksum(payload) == r.payloadCRC
		if intact {
			s.off += r.length()
		} else {
			s.off += headerSize // the length may be right and the rest gone; look closely
		}
		return r, payload, at, intact, nil
	}
	return r, nil, at, false, io.EOF
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
