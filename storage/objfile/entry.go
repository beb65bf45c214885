package objfile

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/mobulacloud/mobula/storage"
)

// entry is what the index knows of an object.
type entry struct {
	at       place // of its put record
	length   int64 // of its put record
	seq      uint64
	file     bool // content in a file of its own
	size     int64
	md5      [16]byte
	crc      uint32
	created  int64  // Unix nanoseconds, as deleted
	deleted  int64  // 0 = live
	mark     uint64 // segment of the record that says deleted or brought back, if that is not the put record
	markSeq  uint64
	verified int64 // Unix seconds; in the index alone, so a lost index means an early check
}

func (e *entry) info(id storage.ObjectID) storage.Info {
	verified := time.Unix(e.verified, 0)
	created := time.Unix(0, e.created)
	if verified.Before(created) { // verified at first, and kept in whole seconds
		verified = created
	}
	return storage.Info{ID: id, Size: e.size, MD5: e.md5, CRC32C: e.crc, Created: created, Verified: verified}
}

func (e *entry) same(s storage.Sums) bool {
	return e.size == s.Size && e.md5 == s.MD5 && e.crc == s.CRC32C
}

const (
	entryVersion = 1
	entrySize    = 112
)

var errEntry = errors.New("objfile: damaged index entry")

func (e *entry) append(b []byte) []byte {
	var file byte
	if e.file {
		file = 1
	}
	b = append(b, entryVersion, file, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, e.crc)
	b = binary.LittleEndian.AppendUint64(b, e.at.seg)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.at.off))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.length))
	b = binary.LittleEndian.AppendUint64(b, e.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.size))
	b = append(b, e.md5[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.created))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.deleted))
	b = binary.LittleEndian.AppendUint64(b, e.mark)
	b = binary.LittleEndian.AppendUint64(b, e.markSeq)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.verified))
	return append(b, make([]byte, 8)...) // room
}

func parseEntry(b []byte) (entry, error) {
	if len(b) != entrySize || b[0] != entryVersion {
		return entry{}, errEntry
	}
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	e := entry{
		file: b[1] == 1, crc: binary.LittleEndian.Uint32(b[4:]), at: place{u64(8), int64(u64(16))}, length: int64(u64(24)), seq: u64(32),
		size: int64(u64(40)), md5: [16]byte(b[48:64]), created: int64(u64(64)), deleted: int64(u64(72)), mark: u64(80), markSeq: u64(88), verified: int64(u64(96)),
	}
	if e.size < 0 || e.length < headerSize || e.length > headerSize+maxPayload+8 || e.at.off < 0 || e.at.seg == 0 || !e.file && e.length != headerSize+pad8(e.size) {
		return entry{}, errEntry
	}
	return e, nil
}

// Keys of the index.
//
//	o owner object             → entry
//	t deleted(ns) owner object → nothing: deleted objects, the oldest first
//	v verified(s) owner object → nothing: live objects, the one whose check is the longest ago first
//	s segment                  → length, live bytes
//	p victim holder            → bytes of purge records in segment holder that are needed while segment victim is there
//	m name                     → position, counters, salt
const (
	prefixObject   = 'o'
	prefixDeleted  = 't'
	prefixVerified = 'v'
	prefixSegment  = 's'
	prefixPurge    = 'p'
	prefixMeta     = 'm'
)

func objectKey(b []byte, id storage.ObjectID) []byte {
	b = append(b, prefixObject)
	b = append(b, id.Owner[:]...)
	return append(b, id.Object[:]...)
}

func objectOf(key []byte) (storage.ObjectID, bool) {
	if len(key) != 33 {
		return storage.ObjectID{}, false
	}
	return storage.ObjectID{Owner: uuid.UUID(key[1:17]), Object: uuid.UUID(key[17:33])}, true
}

func queueKey(b []byte, prefix byte, at int64, id storage.ObjectID) []byte {
	b = append(b, prefix)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = append(b, id.Owner[:]...)
	return append(b, id.Object[:]...)
}

func queueOf(key []byte) (at int64, id storage.ObjectID, ok bool) {
	if len(key) != 41 {
		return 0, id, false
	}
	return int64(binary.BigEndian.Uint64(key[1:])), storage.ObjectID{Owner: uuid.UUID(key[9:25]), Object: uuid.UUID(key[25:41])}, true
}

func segmentKey(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{prefixSegment}, n) }

func purgeKey(victim, holder uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{prefixPurge}, victim), holder)
}
