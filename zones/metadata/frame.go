package metadata

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
)

// Limits of the wire.
const (
	maxLine    = 1 << 20   // bytes of a line; a longer one is skipped
	MaxKey     = 256       // bytes of a key
	MaxValue   = 384 << 10 // bytes of a value; encoded three times over it fits in a line
	maxRequest = 64        // bytes of a request id
)

// Codes of an answer.
const (
	codeSuccess  = "SUCCESS"
	codeNotFound = "NOTFOUND"
	codeFailure  = "FAILURE"
)

// errFrame is a frame that does not check. Who reads one says nothing, as the protocol has it.
var errFrame = errors.New("damaged frame")

// frame is one request or answer of version 2.
type frame struct {
	id      string // of the request, hexadecimal; an answer repeats it
	code    string // command or answer
	payload string // decoded
	has     bool   // whether there is a payload, be it empty
}

func (f frame) encode() string {
	body := f.id + " " + f.code
	if f.has {
		body += " " + base64.StdEncoding.EncodeToString([]byte(f.payload))
	}
	return fmt.Sprintf("V2 %d %08x %s\n", len(body), crc32.ChecksumIEEE([]byte(body)), body)
}

// parseFrame reads a line without its end.
func parseFrame(line string) (f frame, err error) {
	rest, ok := strings.CutPrefix(line, "V2 ")
	if !ok {
		return f, errFrame
	}
	size, rest, ok := strings.Cut(rest, " ")
	if !ok {
		return f, errFrame
	}
	sum, body, ok := strings.Cut(rest, " ")
	if !ok {
		return f, errFrame
	}
	n, err := strconv.ParseUint(size, 10, 31)
	if err != nil || int(n) != len(body) || len(sum) != 8 {
		return f, errFrame
	}
	crc, err := strconv.ParseUint(sum, 16, 32)
	if err != nil || uint32(crc) != crc32.ChecksumIEEE([]byte(body)) {
		return f, errFrame
	}
	var encoded string
	f.id, rest, ok = strings.Cut(body, " ")
	if !ok || !validRequest(f.id) {
		return f, errFrame
	}
	f.code, encoded, f.has = strings.Cut(rest, " ")
	if f.code == "" {
		return f, errFrame
	}
	if f.has {
		b, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return f, errFrame
		}
		f.payload = string(b)
	}
	return f, nil
}

func validRequest(id string) bool {
	if id == "" || len(id) > maxRequest {
		return false
	}
	for _, c := range []byte(id) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return false
		}
	}
	return true
}

// putArgument packs what PUT carries: key and value, each in base64, with a space between.
func putArgument(key, value string) string {
	e := base64.StdEncoding
	return e.EncodeToString([]byte(key)) + " " + e.EncodeToString([]byte(value))
}

func parsePutArgument(s string) (key, value string, err error) {
	k, v, ok := strings.Cut(s, " ")
	if !ok {
		return "", "", errFrame
	}
	kb, err1 := base64.StdEncoding.DecodeString(k)
	vb, err2 := base64.StdEncoding.DecodeString(v)
	if err1 != nil || err2 != nil {
		return "", "", errFrame
	}
	return string(kb), string(vb), nil
}

// block writes a value as version 1 does: line by line, a dot at the start of a line doubled, a dot at the end.
func block(value string) string {
	var b strings.Builder
	b.WriteString(codeSuccess + "\n")
	for line := range strings.SplitSeq(value, "\n") {
		if strings.HasPrefix(line, ".") {
			b.WriteByte('.')
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	b.WriteString(".\n")
	return b.String()
}

// lines reads lines of at most maxLine bytes, whatever comes.
type lines struct{ r *bufio.Reader }

func newLines(r io.Reader) *lines { return &lines{bufio.NewReaderSize(r, 4096)} }

// next answers a line without its end; long is true, and the line lost, if it was too long. A last line without an
// end is no line.
func (l *lines) next() (line string, long bool, err error) {
	var buf []byte
	for {
		part, err := l.r.ReadSlice('\n')
		if !long {
			if len(buf)+len(part) > maxLine {
				buf, long = nil, true
			} else {
				buf = append(buf, part...)
			}
		}
		switch {
		case err == nil:
			if long {
				return "", true, nil
			}
			return strings.TrimSuffix(strings.TrimSuffix(string(buf), "\n"), "\r"), false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", false, err
		}
	}
}
