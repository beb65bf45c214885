package manta

import (
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/storage"
)

// A Type says what an entry is. A snaplink is an object like any other.
type Type string

// The types of entries.
const (
	TypeObject    Type = "object"
	TypeDirectory Type = "directory"
)

// DefaultContentType is the type of an object that was stored without one.
const DefaultContentType = "application/octet-stream"

// ZeroMD5 is the base64 MD5 of no bytes.
const ZeroMD5 = "1B2M2Y8AsgTpgAmY7PhCfg=="

// An Entry is one object or directory of the tree. Entries that a service hands out are the caller's own, but slices and maps in
// them may be shared and must not be changed.
type Entry struct {
	Key   Key
	Type  Type
	Mtime time.Time // in milliseconds

	// Roles are the uuids of the roles of the owner's account that the entry is tagged with.
	Roles []string

	// Headers are stored with the entry and answered with it, by lower-case name: m-*, CORS, cache-control, surrogate-key.
	Headers map[string]string

	// The rest describes objects only.

	ObjectID    string // uuid of the bytes, fresh for every put
	Creator     string // uuid of the account under which nodes file the bytes; "" means the key's owner
	Size        int64
	MD5         string // base64
	ContentType string
	Disposition string          // content-disposition, canonical
	Sharks      []storage.Shark // where the copies are; none for an empty object
	CreatedFrom string          // key of the object that a snaplink was made from
	LinkID      string          // equal in all entries that share the bytes by snaplinks; "" when none was ever made

	// Upload marks a directory as a multipart upload; it is a JSON object that manta/mpu knows.
	Upload []byte
}

// Etag returns the entity tag of an object, which is the id of its bytes; a directory has none.
func (e *Entry) Etag() string {
	if e == nil {
		return ""
	}
	return e.ObjectID
}

// IsDirectory reports whether there is an entry and it is a directory.
func (e *Entry) IsDirectory() bool { return e != nil && e.Type == TypeDirectory }

// BytesOwner returns the uuid of the account under which the bytes of an object are filed.
func (e *Entry) BytesOwner() string {
	if e.Creator != "" {
		return e.Creator
	}
	return e.Key.Owner()
}

// BytesID returns the name under which nodes keep the bytes of an object. It fails only where the record is damaged.
func (e *Entry) BytesID() (storage.ObjectID, error) {
	owner, err1 := uuid.Parse(e.BytesOwner())
	object, err2 := uuid.Parse(e.ObjectID)
	if err := errors.Join(err1, err2); err != nil {
		return storage.ObjectID{}, err
	}
	return storage.ObjectID{Owner: owner, Object: object}, nil
}

// AppendLine appends the entry's line of a directory listing, with its newline: a JSON object whose fields come in the original's order.
func (e *Entry) AppendLine(b []byte) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, e.Key.Name())
	if e.Type == TypeDirectory {
		b = append(b, `,"type":"directory","mtime":"`...)
		b = appendTime(b, e.Mtime)
		return append(b, "\"}\n"...)
	}
	b = append(b, `,"etag":"`...)
	b = append(b, e.ObjectID...)
	b = append(b, `","size":`...)
	b = strconv.AppendInt(b, e.Size, 10)
	b = append(b, `,"type":"object","contentType":`...)
	b = appendString(b, e.ContentType)
	if e.Disposition != "" {
		b = append(b, `,"contentDisposition":`...)
		b = appendString(b, e.Disposition)
	}
	b = append(b, `,"contentMD5":"`...)
	b = append(b, e.MD5...)
	b = append(b, `","mtime":"`...)
	b = appendTime(b, e.Mtime)
	b = append(b, `","durability":`...)
	b = strconv.AppendInt(b, int64(len(e.Sharks)), 10)
	return append(b, "}\n"...)
}

// appendTime appends the form of JavaScript's toISOString. It is written out because time.AppendFormat, interpreting its layout,
// takes a fifth of a listing's time.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, sec := t.Clock()
	two := func(n int) { b = append(b, byte('0'+n/10), byte('0'+n%10)) }
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, TimeFormat)
	}
	two(year / 100)
	two(year % 100)
	b = append(b, '-')
	two(int(month))
	b = append(b, '-')
	two(day)
	b = append(b, 'T')
	two(hour)
	b = append(b, ':')
	two(minute)
	b = append(b, ':')
	two(sec)
	ms := t.Nanosecond() / 1e6
	return append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// TimeFormat is how times appear in listings and JSON bodies.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"

// appendString appends s as a JSON string, escaping no more than JSON asks for, as JSON.stringify does.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[start:i]...), `\ufffd`...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
