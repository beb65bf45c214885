package objfile

import (
	"bytes"
	"encoding/hex"
	"io"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

func sampleRecord() record {
	id, _ := storage.ParseObjectID("0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0/00112233-4455-4677-8899-aabbccddeeff")
	return record{
		kind: kindPacked, seq: 7, batch: 3, id: id, size: 5, md5: [16]byte{1, 2, 3}, crc: 0xdeadbeef, created: 1_700_000_000_123_456_789, deleted: 9, victim: 0,
		payloadLen: 5, payloadCRC: 0xfeedface,
	}
}

// TestRecordFormat holds the bytes of the first version fast.
func TestRecordFormat(t *testing.T) {
	r := sampleRecord()
	got := r.append(nil, 0x0123456789abcdef, place{2, 64})
	const want = "4d424a72010100000700000000000000" + "03000000000000000f1e2d3c4b5a49788796a5b4c3d2e1f0" + "00112233445546778899aabbccddeeff" + "0500000000000000" +
		"01020300000000000000000000000000" + "efbeaddecefaedfe" + "15cd853dfe9c9717" + "0900000000000000" + "0500000000000000" + "0000000000000000" + "00000000"
	if len(got) != headerSize || hex.EncodeToString(got[:headerSize-4]) != want {
		t.Errorf("header = %x", got)
	}
	back, err := parseRecord(got, 0x0123456789abcdef, place{2, 64})
	if err != nil || back != r {
		t.Errorf("parseRecord = %+v, %v", back, err)
	}
	for _, p := range []place{{1, 64}, {2, 72}} {
		if _, err := parseRecord(got, 0x0123456789abcdef, p); err == nil {
			t.Errorf("a record of another place passes at %v", p)
		}
	}
	if _, err := parseRecord(got, 1, place{2, 64}); err == nil {
		t.Error("a record of another store passes")
	}
}

func FuzzParseRecord(f *testing.F) {
	r := sampleRecord()
	f.Add(r.append(nil, 1, place{1, 64}), int64(0), byte(0))
	f.Add([]byte("MBJr"), int64(4), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at int64, flip byte) {
		r, err := parseRecord(b, 1, place{1, 64})
		if err != nil {
			return
		}
		if r.payloadLen < 0 || r.payloadLen > maxPayload || r.size < 0 || r.length() < headerSize {
			t.Fatalf("accepted %+v", r)
		}
		if again := r.append(nil, 1, place{1, 64}); !bytes.Equal(again, b[:headerSize]) && b[6] == 0 && b[7] == 0 && bytes.Equal(b[120:124], make([]byte, 4)) {
			t.Fatalf("%x is read and written as %x", b[:headerSize], again)
		}
		if flip != 0 && at >= 0 && at < headerSize {
			c := bytes.Clone(b)
			c[at] ^= flip
			if _, err := parseRecord(c, 1, place{1, 64}); err == nil {
				t.Fatalf("a flip at %d is not seen", at)
			}
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	e := entry{at: place{3, 64}, length: headerSize + 8, seq: 9, size: 5, created: 1, verified: 2}
	f.Add(e.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b)
		if err == nil && (e.size < 0 || e.length < headerSize || e.at.seg == 0) {
			t.Fatalf("accepted %+v", e)
		}
	})
}

func FuzzParseSegmentHead(f *testing.F) {
	f.Add(segmentHead{number: 1, salt: 2, prev: 3, prevEnd: 4}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseSegmentHead(b)
		if err == nil && (h.number == 0 || h.prevEnd < 0) {
			t.Fatalf("accepted %+v", h)
		}
	})
}

func FuzzParseFormat(f *testing.F) {
	f.Add(formatFile(1, 77))
	f.Add([]byte("mobula objfile 99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, b []byte) { parseFormat(b) })
}

// memFile is a file of bytes.
type memFile struct {
	diskfs.File
	b []byte
}

func (m memFile) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m.b).ReadAt(p, off) }

// FuzzScanner walks bytes as a journal: it ends, and what it calls intact is.
func FuzzScanner(f *testing.F) {
	var journal []byte
	journal = append(journal, segmentHead{number: 1, salt: 1}.encode()...)
	for i := range 5 {
		r := sampleRecord()
		payload := storagetest.Data(uint64(i), 10*i)
		r.size, r.payloadLen, r.payloadCRC, r.seq = int64(len(payload)), int64(len(payload)), checksum(payload), uint64(i+1)
		journal = r.append(journal, 1, place{1, int64(len(journal))})
		journal = append(journal, payload...)
		journal = append(journal, make([]byte, pad8(int64(len(payload)))-int64(len(payload)))...)
	}
	f.Add(journal, 0, byte(0))
	f.Add(journal, 70, byte(1))
	f.Add(journal, 300, byte(0x80))
	f.Add(journal[:len(journal)-9], 0, byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte) {
		if at >= 0 && at < len(b) {
			b = bytes.Clone(b)
			b[at] ^= flip
		}
		sc := newScanner(memFile{b: b}, 1, 1, 0, int64(len(b)))
		last := int64(0)
		for {
			r, payload, p, intact, err := sc.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.off < last || sc.off <= p.off {
				t.Fatalf("record at %d after %d, next from %d", p.off, last, sc.off)
			}
			last = sc.off
			if intact && checksum(payload) != r.payloadCRC {
				t.Fatal("intact is not")
			}
		}
	})
}

func TestSumList(t *testing.T) {
	for _, size := range []int64{0, 1, blockSize, blockSize + 1, blockSize * blocksPerPage, blockSize*blocksPerPage + 1, 3 * blockSize * blocksPerPage} {
		var s blockSums
		chunk := make([]byte, 1<<20)
		for left := size; left > 0; left -= int64(len(chunk)) {
			s.write(chunk[:min(left, int64(len(chunk)))])
		}
		list := s.list()
		if s.size != size || int64(len(list)) != sumListLen(size) {
			t.Errorf("list for %d bytes has %d, want %d", size, len(list), sumListLen(size))
		}
		for off := 0; off < len(list); off += pageSize {
			if !checkPage(list[off:min(len(list), off+pageSize)]) {
				t.Errorf("size %d: page at %d does not check", size, off)
			}
		}
	}
	if n := sumListLen(maxObject); n > maxPayload || n < 0 || int64(maxObject) > math.MaxInt64/2 {
		t.Errorf("the list of the largest object has %d bytes", n)
	}
}

func TestEntryRoundTrip(t *testing.T) {
	e := entry{at: place{3, 640}, length: headerSize + 600, seq: 9, file: true, size: 5 << 30, md5: [16]byte{4}, crc: 5, created: 6, deleted: 7, mark: 8, markSeq: 10, verified: 11}
	got, err := parseEntry(e.append(nil))
	if err != nil || got != e {
		t.Errorf("parseEntry: %v\n%s", err, cmp.Diff(e, got, cmp.AllowUnexported(entry{}, place{})))
	}
}
