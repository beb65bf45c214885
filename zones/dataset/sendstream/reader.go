package sendstream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"
)

// Magic begins every stream.
const Magic = "btrfs-stream\x00"

// ErrBad is a stream that is damaged, cut short, hostile, or of a version not known here.
var ErrBad = errors.New("bad btrfs stream")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBad, fmt.Sprintf(format, args...))
}

// Kind is a command's number in the format.
type Kind uint16

// The commands of version 1.
const (
	Subvol Kind = iota + 1
	Snapshot
	Mkfile
	Mkdir
	Mknod
	Mkfifo
	Mksock
	Symlink
	Rename
	Link
	Unlink
	Rmdir
	SetXattr
	RemoveXattr
	Write
	Clone
	Truncate
	Chmod
	Chown
	Utimes
	End
	UpdateExtent
)

const (
	attrUUID = iota + 1
	attrCtransid
	attrIno
	attrSize
	attrMode
	attrUID
	attrGID
	attrRdev
	attrCtime
	attrMtime
	attrAtime
	attrOtime
	attrXattrName
	attrXattrData
	attrPath
	attrPathTo
	attrPathLink
	attrFileOffset
	attrData
	attrCloneUUID
	attrCloneCtransid
	attrClonePath
	attrCloneOffset
	attrCloneLen
	attrMax = attrCloneLen
)

// maxCommand is above what the kernel puts into one command of version 1 (64 KiB).
const maxCommand = 128 << 10

// Command is one step of a stream. Slices are valid until the next call of Next.
type Command struct {
	Kind  Kind
	attrs [attrMax + 1][]byte
	has   uint32
}

func (c *Command) bytes(a int) ([]byte, error) {
	if c.has&(1<<a) == 0 {
		return nil, bad("command %d lacks attribute %d", c.Kind, a)
	}
	return c.attrs[a], nil
}

func (c *Command) number(a int) (uint64, error) {
	b, err := c.bytes(a)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, bad("attribute %d has %d bytes", a, len(b))
	}
	return binary.LittleEndian.Uint64(b), nil
}

func (c *Command) uuid(a int) ([16]byte, error) {
	b, err := c.bytes(a)
	if err != nil {
		return [16]byte{}, err
	}
	if len(b) != 16 {
		return [16]byte{}, bad("uuid has %d bytes", len(b))
	}
	return [16]byte(b), nil
}

func (c *Command) time(a int) (time.Time, error) {
	b, err := c.bytes(a)
	if err != nil {
		return time.Time{}, err
	}
	if len(b) != 12 {
		return time.Time{}, bad("time has %d bytes", len(b))
	}
	return time.Unix(int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint32(b[8:])%1e9)), nil
}

// path gives a path below the top, "." for the top itself.
func (c *Command) path(a int) (string, error) {
	b, err := c.bytes(a)
	if err != nil {
		return "", err
	}
	p := string(b)
	if p == "" {
		return ".", nil
	}
	if len(p) > 4096 || p[0] == '/' || strings.ContainsRune(p, 0) {
		return "", bad("path %.100q", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." {
			return "", bad("path %.100q", p)
		}
	}
	return p, nil
}

// Reader takes a stream apart.
type Reader struct {
	r     io.Reader
	buf   []byte
	begun bool
}

// NewReader reads from r, exactly as far as the stream's end mark, so that something may follow it. The reads are small; wrap a file, or
// what nobody else reads on, in a buffer.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Buffered wraps r for a Reader.
func Buffered(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 256<<10) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Next reads one command into c. After End it must not be called.
func (s *Reader) Next(c *Command) error {
	if !s.begun {
		var h [len(Magic) + 4]byte
		if _, err := io.ReadFull(s.r, h[:]); err != nil {
			return bad("no header: %v", err)
		}
		if string(h[:len(Magic)]) != Magic {
			return bad("not a btrfs stream")
		}
		if v := binary.LittleEndian.Uint32(h[len(Magic):]); v != 1 {
			return bad("version %d; send with version 1", v)
		}
		s.begun = true
	}
	var h [10]byte
	if _, err := io.ReadFull(s.r, h[:]); err != nil {
		return bad("cut short: %v", err)
	}
	n := binary.LittleEndian.Uint32(h[:])
	if n > maxCommand {
		return bad("command of %d bytes", n)
	}
	if cap(s.buf) < int(n) {
		s.buf = make([]byte, max(n, 70<<10))
	}
	body := s.buf[:n]
	if _, err := io.ReadFull(s.r, body); err != nil {
		return bad("cut short: %v", err)
	}
	want := binary.LittleEndian.Uint32(h[6:])
	clear(h[6:])
	if got := checksum(h[:], body); got != want {
		return bad("checksum of command is %08x, want %08x", got, want)
	}
	*c = Command{Kind: Kind(binary.LittleEndian.Uint16(h[4:]))}
	if c.Kind < Subvol || c.Kind > UpdateExtent {
		return bad("command %d", c.Kind)
	}
	for len(body) > 0 {
		if len(body) < 4 {
			return bad("attribute cut short")
		}
		a, l := int(binary.LittleEndian.Uint16(body)), int(binary.LittleEndian.Uint16(body[2:]))
		body = body[4:]
		if a < 1 || a > attrMax || l > len(body) {
			return bad("attribute %d of %d bytes", a, l)
		}
		c.attrs[a], c.has = body[:l], c.has|1<<a
		body = body[l:]
	}
	return nil
}

// checksum is CRC-32C as btrfs computes it: from zero and without the final complement.
func checksum(parts ...[]byte) uint32 {
	crc := ^uint32(0)
	for _, p := range parts {
		crc = crc32.Update(crc, castagnoli, p)
	}
	return ^crc
}
