package host

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/image"
)

// A zone on the wire: the magic line, then chunks of a 32-bit big-endian length and as many bytes. The first message is the header (JSON), then
// comes one for each dataset it names; a message ends with a chunk of length 0. After the last the SHA-256 of all before it.
const (
	sendMagic = "mobula-zone 1\n"
	maxChunk  = 1 << 20
	maxHeader = 16 << 20
)

// Versions of the header. One that has Mark or Since has version 2, so that a program that knows nothing of them refuses it.
const (
	sendVersion = 1
	markVersion = 2
)

type sendHeader struct {
	Version   int              `json:"version"`
	Spec      *zones.Spec      `json:"spec"`
	Image     string           `json:"image,omitempty"`
	Container *image.Container `json:"container,omitempty"`
	Created   time.Time        `json:"created"`
	Sent      time.Time        `json:"sent"`
	Datasets  []string         `json:"datasets"` // "root", "data"
	// Mark is what the receiver is to remember this state by, as more will come; Since the mark of the state that this is the difference to.
	Mark  string `json:"mark,omitempty"`
	Since string `json:"since,omitempty"`
}

type chunkWriter struct{ w io.Writer }

func (c *chunkWriter) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		n := min(len(p), maxChunk)
		if err := binary.Write(c.w, binary.BigEndian, uint32(n)); err != nil {
			return total, err
		}
		m, err := c.w.Write(p[:n])
		total += m
		if err != nil {
			return total, err
		}
		p = p[n:]
	}
	return total, nil
}

func (c *chunkWriter) end() error { return binary.Write(c.w, binary.BigEndian, uint32(0)) }

// chunkReader reads one message.
type chunkReader struct {
	r    io.Reader
	left int
	done bool
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if c.done {
		return 0, io.EOF
	}
	if c.left == 0 {
		var n uint32
		if err := binary.Read(c.r, binary.BigEndian, &n); err != nil {
			return 0, noEOF(err)
		}
		if n > maxChunk {
			return 0, fmt.Errorf("%w: chunk of %d bytes", zones.ErrInvalid, n)
		}
		if n == 0 {
			c.done = true
			return 0, io.EOF
		}
		c.left = int(n)
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, noEOF(err)
}

// noEOF says of a stream that ends within a message that it is cut.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func readHeader(r io.Reader) (sendHeader, error) {
	var head sendHeader
	magic := make([]byte, len(sendMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != sendMagic {
		return head, fmt.Errorf("%w: not a zone", zones.ErrInvalid)
	}
	c := &chunkReader{r: r}
	b, err := io.ReadAll(io.LimitReader(c, maxHeader))
	if err != nil {
		return head, fmt.Errorf("%w: header: %w", zones.ErrInvalid, err)
	}
	if !c.done {
		return head, fmt.Errorf("%w: header too long", zones.ErrInvalid)
	}
	if err := json.Unmarshal(b, &head); err != nil || head.Version < sendVersion || head.Version > markVersion || head.Spec == nil {
		return head, fmt.Errorf("%w: header: version %d: %v", zones.ErrInvalid, head.Version, err)
	}
	for _, mark := range []string{head.Mark, head.Since} {
		if mark != "" && (head.Version < markVersion || !zones.ValidSnapshotName(mark)) {
			return head, fmt.Errorf("%w: header: mark %.80q", zones.ErrInvalid, mark)
		}
	}
	want := []string{"root"}
	if head.Spec.DelegateDataset {
		want = append(want, "data")
	}
	if fmt.Sprint(want) != fmt.Sprint(head.Datasets) {
		return head, fmt.Errorf("%w: datasets %q", zones.ErrInvalid, head.Datasets)
	}
	return head, nil
}
