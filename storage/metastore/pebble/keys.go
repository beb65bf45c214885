package pebble

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// The layout, format 1. Every key begins with its kind; integers are big-endian; a part is a partition or a name.
//
//	M text                              the store's own: format, next id, log, floor, b/BUCKET
//	R bucket(4) partition name          a record: see appendRecord
//	I index(4) value partition name     an index entry, empty; of an index by partition: I index(4) partition value name
//	U index(4) value                    who has a unique value: partition name
//	C bucket(4) partition name          a counter: its value, int64, or operands to be summed
//	L sequence(8) operation(4)          a change: bucket(4) partition name
//
// A part of up to metastore.OrderedPrefix bytes is followed by 0x00. A longer one is cut there and followed by 0x01, its
// SHA-256, the length of the rest (2 bytes) and the rest. In a value 0x00 is written 0x00 0xFF, and 0x00 0x01 ends it.
const (
	kindMeta    = 'M'
	kindRecord  = 'R'
	kindIndex   = 'I'
	kindUnique  = 'U'
	kindCounter = 'C'
	kindLog     = 'L'

	format = "1"
)

var errCorrupt = errors.New("metastore/pebble: corrupt entry")

func metaKey(name string) []byte { return append([]byte{kindMeta}, name...) }

// idKey begins a key with a kind and an id.
func idKey(dst []byte, kind byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, kind), id)
}

func appendPart(dst []byte, s string) []byte {
	if len(s) <= metastore.OrderedPrefix {
		return append(append(dst, s...), 0)
	}
	sum := sha256.Sum256([]byte(s))
	rest := s[metastore.OrderedPrefix:]
	dst = append(append(dst, s[:metastore.OrderedPrefix]...), 1)
	dst = append(dst, sum[:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(rest)))
	return append(dst, rest...)
}

// splitPart returns the pieces of the part at the beginning of b: the text is head followed by rest.
func splitPart(b []byte) (head, rest, after []byte, err error) {
	end := bytes.IndexByte(b[:min(len(b), metastore.OrderedPrefix+1)], 0)
	if end >= 0 {
		return b[:end], nil, b[end+1:], nil
	}
	const fixed = metastore.OrderedPrefix + 1 + sha256.Size
	if len(b) < fixed+2 || b[metastore.OrderedPrefix] != 1 {
		return nil, nil, nil, errCorrupt
	}
	n := int(binary.BigEndian.Uint16(b[fixed:]))
	if len(b) < fixed+2+n {
		return nil, nil, nil, errCorrupt
	}
	return b[:metastore.OrderedPrefix], b[fixed+2 : fixed+2+n], b[fixed+2+n:], nil
}

func takePart(b []byte) (s string, after []byte, err error) {
	head, rest, after, err := splitPart(b)
	if len(rest) == 0 {
		return string(head), after, err
	}
	return string(head) + string(rest), after, err
}

func appendKey(dst []byte, k metastore.Key) []byte {
	return appendPart(appendPart(dst, k.Partition), k.Name)
}

func takeKey(b []byte) (k metastore.Key, err error) {
	if k.Partition, b, err = takePart(b); err != nil {
		return k, err
	}
	if k.Name, b, err = takePart(b); err == nil && len(b) > 0 {
		err = errCorrupt
	}
	return k, err
}

func recordKey(bucket uint32, k metastore.Key) []byte {
	return appendRecordKey(make([]byte, 0, 7+len(k.Partition)+len(k.Name)), bucket, k)
}

func appendRecordKey(dst []byte, bucket uint32, k metastore.Key) []byte {
	return appendKey(idKey(dst, kindRecord, bucket), k)
}

func counterKey(bucket uint32, k metastore.Key) []byte {
	return appendKey(idKey(make([]byte, 0, 7+len(k.Partition)+len(k.Name)), kindCounter, bucket), k)
}

func uniqueKey(index uint32, value []byte) []byte {
	return append(idKey(make([]byte, 0, 5+len(value)), kindUnique, index), value...)
}

// appendBound writes a value without its end, as the bound of a range.
func appendBound(dst, v []byte) []byte {
	for {
		i := bytes.IndexByte(v, 0)
		if i < 0 {
			return append(dst, v...)
		}
		dst = append(append(dst, v[:i]...), 0, 0xFF)
		v = v[i+1:]
	}
}

func appendValue(dst, v []byte) []byte { return append(appendBound(dst, v), 0, 1) }

func takeValue(b []byte) (v, after []byte, err error) {
	for i := 0; ; {
		j := bytes.IndexByte(b[i:], 0)
		if j < 0 || i+j+1 >= len(b) {
			return nil, nil, errCorrupt
		}
		i += j
		switch b[i+1] {
		case 1:
			if v == nil {
				return b[:i:i], b[i+2:], nil
			}
			return append(v, b[:i]...), b[i+2:], nil
		case 0xFF:
			v = append(append(v[:len(v):len(v)], b[:i]...), 0)
			b, i = b[i+2:], 0
		default:
			return nil, nil, errCorrupt
		}
	}
}

func appendIndexKey(dst []byte, index uint32, perPartition bool, value []byte, k metastore.Key) []byte {
	dst = idKey(dst, kindIndex, index)
	if perPartition {
		return appendPart(appendValue(appendPart(dst, k.Partition), value), k.Name)
	}
	return appendKey(appendValue(dst, value), k)
}

// splitIndexKey takes apart what follows the index's id, and appends the record's key to dst: its parts are in the index key as they are.
func splitIndexKey(dst []byte, bucket uint32, b []byte, perPartition bool) (value, record []byte, err error) {
	dst = idKey(dst, kindRecord, bucket)
	if perPartition {
		_, _, rest, err := splitPart(b)
		if err != nil {
			return nil, nil, err
		}
		dst = append(dst, b[:len(b)-len(rest)]...)
		b = rest
	}
	value, b, err = takeValue(b)
	return value, append(dst, b...), err
}

func logKey(seq uint64, op uint32) []byte {
	b := binary.BigEndian.AppendUint64([]byte{kindLog}, seq)
	return binary.BigEndian.AppendUint32(b, op)
}

// A stored record is its version (1), the etag's length and the etag, when it was put (microseconds since 1970, 8 bytes), and the JSON.
const recordVersion = 1

func recordSize(etag string, value []byte) int { return 2 + len(etag) + 8 + len(value) }

func appendRecord(dst []byte, etag string, modified time.Time, value []byte) []byte {
	dst = append(dst, recordVersion, byte(len(etag)))
	dst = append(dst, etag...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(modified.UnixMicro()))
	return append(dst, value...)
}

func splitRecord(b []byte) (etag []byte, modified time.Time, value []byte, err error) {
	if len(b) < 2 || b[0] != recordVersion || len(b) < 2+int(b[1])+8 {
		return nil, modified, nil, errCorrupt
	}
	n := 2 + int(b[1])
	return b[2:n], time.UnixMicro(int64(binary.BigEndian.Uint64(b[n:]))).UTC(), b[n+8:], nil
}

// keyEnd returns the least key above all that begin with a prefix.
func keyEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func addOperand(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func counterValue(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, errCorrupt
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}
