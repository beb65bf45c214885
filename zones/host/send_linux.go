package host

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/image"
)

// A zone on the wire: the magic line, then chunks of a 32-bit big-endian length and as many bytes. The first message is the header (JSON), then
// comes one for each dataset it names; a message ends with a chunk of length 0. After the last the SHA-256 of all before it.
const (
	sendMagic = "mobula-zone 1\n"
	maxChunk  = 1 << 20
	maxHeader = 16 << 20
)

type sendHeader struct {
	Version   int              `json:"version"`
	Spec      *zones.Spec      `json:"spec"`
	Image     string           `json:"image,omitempty"`
	Container *image.Container `json:"container,omitempty"`
	Created   time.Time        `json:"created"`
	Sent      time.Time        `json:"sent"`
	Datasets  []string         `json:"datasets"` // "root", "data"
}

// Send writes a stopped zone, as it is now, in a form that Receive takes on another host, whatever its kind of pool. The
// zone stays; whoever moves it deletes it here afterwards. Snapshots are not sent. A running zone gives [zones.ErrRunning].
func (h *Host) Send(ctx context.Context, id string, w io.Writer) error {
	z, err := h.acquire(ctx, id)
	if err != nil {
		return zones.OpError("send", id, err)
	}
	defer z.unlock()
	if z.Handle != nil {
		return zones.OpError("send", id, zones.ErrRunning)
	}
	return zones.OpError("send", id, z.send(ctx, w))
}

func (z *zone) send(ctx context.Context, w io.Writer) (err error) {
	names := map[string]string{"root": rootDataset(z.id)}
	head := sendHeader{Version: 1, Spec: z.Spec, Image: z.Image, Container: z.Container, Created: z.Created, Sent: time.Now().UTC(), Datasets: []string{"root"}}
	if z.Spec.DelegateDataset {
		names["data"] = dataDataset(z.id)
		head.Datasets = append(head.Datasets, "data")
	}
	snap := sendPrefix + rand.Text()
	defer func() {
		clean, cancel := cleanUp(ctx)
		defer cancel()
		err = errors.Join(err, z.dropSends(clean))
	}()
	for _, d := range head.Datasets {
		z.step("send: snapshot")
		err := z.released(ctx, func() error {
			_, err := z.cfg.Pool.Snapshot(ctx, names[d], snap)
			return err
		})
		if err != nil {
			return mapDataset(err)
		}
	}
	sum := sha256.New()
	out := bufio.NewWriterSize(w, 64<<10)
	both := io.MultiWriter(out, sum)
	if _, err := io.WriteString(both, sendMagic); err != nil {
		return err
	}
	b, err := json.Marshal(head)
	if err != nil {
		return err
	}
	c := &chunkWriter{w: both}
	if _, err := c.Write(b); err != nil {
		return err
	}
	if err := c.end(); err != nil {
		return err
	}
	for _, d := range head.Datasets {
		z.step("send: stream")
		if err := z.cfg.Pool.Send(ctx, c, dataset.Ref{Dataset: names[d], Snapshot: snap}, ""); err != nil {
			return mapDataset(err)
		}
		if err := c.end(); err != nil {
			return err
		}
	}
	if _, err := out.Write(sum.Sum(nil)); err != nil {
		return err
	}
	return out.Flush()
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

// Receive makes a zone of what Send wrote. It is there, stopped, once all of it has arrived and its checksum is right; until then its state
// is receiving. The stream is not trusted. A zone of the uuid that is here gives [zones.ErrExist].
func (h *Host) Receive(ctx context.Context, r io.Reader) (*zones.Zone, error) {
	sum := sha256.New()
	in := bufio.NewReaderSize(r, 64<<10)
	tee := io.TeeReader(in, sum)
	head, err := readHeader(tee)
	if err != nil {
		return nil, zones.OpError("receive", "", err)
	}
	s := head.Spec
	z, err := h.claimReceived(ctx, head)
	if err != nil {
		return nil, zones.OpError("receive", s.UUID, err)
	}
	defer z.unlock()
	if err = z.receive(ctx, head, tee, in, sum); err == nil {
		err = z.done()
	}
	if err != nil {
		clean, cancel := cleanUp(ctx)
		defer cancel()
		return nil, zones.OpError("receive", s.UUID, errors.Join(err, z.eraseAll(clean)))
	}
	return h.view(ctx, &z.record), nil
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
	if err := json.Unmarshal(b, &head); err != nil || head.Version != 1 || head.Spec == nil {
		return head, fmt.Errorf("%w: header: version %d: %v", zones.ErrInvalid, head.Version, err)
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

func (h *Host) claimReceived(ctx context.Context, head sendHeader) (*zone, error) {
	s := head.Spec
	if !zones.ValidID(s.UUID) {
		return nil, fmt.Errorf("%w: uuid %.40q", zones.ErrInvalid, s.UUID)
	}
	s.SetDefaults()
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if err := h.serves(s); err != nil {
		return nil, err
	}
	z, err := h.claim(ctx, s, "receive")
	if err == nil {
		z.Image, z.Container, z.Created = head.Image, head.Container, head.Created
	}
	return z, err
}

func (z *zone) receive(ctx context.Context, head sendHeader, tee io.Reader, plain io.Reader, sum hash.Hash) error {
	for _, d := range head.Datasets {
		name, o := rootDataset(z.id), z.quota()
		if d == "data" {
			name, o = dataDataset(z.id), dataset.Options{}
			if z.cfg.Pool.Capabilities().SharedQuota {
				o.Within = rootDataset(z.id)
			}
		}
		c := &chunkReader{r: tee}
		const snap = sendPrefix + "received"
		z.step("receive: stream")
		if _, err := z.cfg.Pool.Receive(ctx, c, name, snap, o); err != nil {
			return mapDataset(err)
		}
		if n, err := io.Copy(io.Discard, c); err != nil || n != 0 {
			return fmt.Errorf("%w: %d bytes behind dataset %s: %v", zones.ErrInvalid, n, d, err)
		}
		if err := z.cfg.Pool.DeleteSnapshot(ctx, name, snap); err != nil {
			return mapDataset(err)
		}
	}
	want := sum.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(plain, got); err != nil || string(got) != string(want) {
		return fmt.Errorf("%w: checksum of the zone is wrong or missing", zones.ErrInvalid)
	}
	return nil
}
