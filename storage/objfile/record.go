package objfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	"github.com/google/uuid"
	"github.com/mobulacloud/mobula/storage"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Kinds of journal records. The numbers are on disk.
const (
	kindPacked  = 1 // an object; the payload is its content
	kindFile    = 2 // an object in a file of its own; the payload is its check-sum list
	kindMark    = 3 // an object was deleted (deleted is set) or brought back (deleted is zero)
	kindPurge   = 4 // a deleted object's grace period is over
	kindDamaged = 5 // an object's copy was found damaged and moved to quarantine
)

const (
	recordMagic   = 0x724a424d // "MBJr"
	recordVersion = 1
	headerSize    = 128
	maxPayload    = 64 << 20
)

var errRecord = errors.New("objfile: not a record")

// place is where a record stands in the journal.
type place struct {
	seg uint64 // number of the segment, from 1; 0 is nowhere
	off int64
}

// record is the header of a journal record. Every record stands for itself: a put that compaction moves carries the state the object has then.
//
// On disk, little-endian: magic 4, version 1, kind 1, zero 2, seq 8, batch 8, owner 16, object 16, size 8, md5 16, crc 4, payload crc 4, created 8,
// deleted 8, payload length 8, victim 8, zero 4, header crc 4; then the payload, padded with zeros to a multiple of 8. The header's check sum
// starts from the store's salt and the record's place, so that neither stale bytes nor an object's content pass for a record.
type record struct {
	kind       byte
	seq        uint64 // numbers the records of a store, without gaps going back
	batch      uint64 // numbers the group commits: what follows in a later batch proves that this one was synced
	id         storage.ObjectID
	size       int64
	md5        [16]byte
	crc        uint32
	created    int64 // Unix nanoseconds, as deleted
	deleted    int64 // 0 = live
	victim     uint64
	payloadLen int64
	payloadCRC uint32
}

// length is what the record takes in the journal.
func (r *record) length() int64 { return headerSize + pad8(r.payloadLen) }

func pad8(n int64) int64 { return (n + 7) &^ 7 }

// headerSeed mixes what a header must be bound to into the start value of its check sum.
func headerSeed(salt uint64, p place) uint32 {
	var b [24]byte
	binary.LittleEndian.PutUint64(b[0:], salt)
	binary.LittleEndian.PutUint64(b[8:], p.seg)
	binary.LittleEndian.PutUint64(b[16:], uint64(p.off))
	return crc32.Checksum(b[:], castagnoli)
}

// append writes the header for a record at p. The caller appends payload and padding.
func (r *record) append(b []byte, salt uint64, p place) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, recordMagic)
	b = append(b, recordVersion, r.kind, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, r.seq)
	b = binary.LittleEndian.AppendUint64(b, r.batch)
	b = append(b, r.id.Owner[:]...)
	b = append(b, r.id.Object[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.size))
	b = append(b, r.md5[:]...)
	b = binary.LittleEndian.AppendUint32(b, r.crc)
	b = binary.LittleEndian.AppendUint32(b, r.payloadCRC)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.created))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.deleted))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.payloadLen))
	b = binary.LittleEndian.AppendUint64(b, r.victim)
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Update(headerSeed(salt, p), castagnoli, b[start:]))
}

// parseRecord reads the header of the record at p; any damage is errRecord.
func parseRecord(b []byte, salt uint64, p place) (record, error) {
	if len(b) < headerSize || binary.LittleEndian.Uint32(b) != recordMagic {
		return record{}, errRecord
	}
	b = b[:headerSize]
	if crc32.Update(headerSeed(salt, p), castagnoli, b[:headerSize-4]) != binary.LittleEndian.Uint32(b[headerSize-4:]) || b[4] != recordVersion {
		return record{}, errRecord
	}
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	r := record{
		kind: b[5], seq: u64(8), batch: u64(16),
		id:   storage.ObjectID{Owner: uuid.UUID(b[24:40]), Object: uuid.UUID(b[40:56])},
		size: int64(u64(56)), md5: [16]byte(b[64:80]), crc: binary.LittleEndian.Uint32(b[80:]), payloadCRC: binary.LittleEndian.Uint32(b[84:]),
		created: int64(u64(88)), deleted: int64(u64(96)), payloadLen: int64(u64(104)), victim: u64(112),
	}
	if r.kind < kindPacked || r.kind > kindDamaged || r.size < 0 || r.payloadLen < 0 || r.payloadLen > maxPayload ||
		r.kind == kindPacked && r.payloadLen != r.size ||
		r.kind == kindFile && r.payloadLen != sumListLen(r.size) ||
		r.kind > kindFile && r.payloadLen != 0 {
		return record{}, errRecord
	}
	return r, nil
}

// The first bytes of a segment: magic 8, version 4, zero 4, number 8, salt 8, number and valid length of the segment before 8 + 8, zero 12, crc 4.
const (
	segmentMagic   = "MBJSEG\r\n"
	segmentVersion = 1
	segmentHeader  = 64
)

type segmentHead struct {
	number  uint64
	salt    uint64
	prev    uint64
	prevEnd int64 // beyond it, the segment before holds only what was never acknowledged
}

func (h segmentHead) encode() []byte {
	b := append(make([]byte, 0, segmentHeader), segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, segmentVersion)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, h.number)
	b = binary.LittleEndian.AppendUint64(b, h.salt)
	b = binary.LittleEndian.AppendUint64(b, h.prev)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.prevEnd))
	b = append(b, make([]byte, 12)...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parseSegmentHead(b []byte) (segmentHead, error) {
	if len(b) < segmentHeader || !bytes.Equal(b[:8], []byte(segmentMagic)) ||
		crc32.Checksum(b[:60], castagnoli) != binary.LittleEndian.Uint32(b[60:]) || binary.LittleEndian.Uint32(b[8:]) != segmentVersion {
		return segmentHead{}, errRecord
	}
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	h := segmentHead{number: u64(16), salt: u64(24), prev: u64(32), prevEnd: int64(u64(40))}
	if h.prevEnd < 0 || h.number == 0 || h.number > math.MaxInt64 {
		return segmentHead{}, errRecord
	}
	return h, nil
}
