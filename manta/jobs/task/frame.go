package task

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A stream over a connection is frames both ways: a byte that says the kind, four with the length of what follows, big-endian, and that. Orders and reports
// are JSON arrays of them. The agent begins with a hello.
type kind byte

const (
	kindHello   kind = 1 // a Hello
	kindOrders  kind = 2
	kindReports kind = 3
	kindBeat    kind = 4 // nothing: the sender lives
	kindTaken   kind = 5 // four bytes: so many bytes of orders or reports have been taken, and there is room for as many
	kindEnd     kind = 6 // why the sender ends the stream, or nothing
)

// MaxFrame is the greatest length of a frame, and so of one [Order] or [Report] as JSON. Whoever feeds a reducer cuts its input up accordingly.
const MaxFrame = 4 << 20

const (
	window    = 8 << 20  // bytes of orders, or of reports, that may be under way
	batchSize = 64 << 10 // a frame is sent once it has so much
	maxReason = 1 << 10
	header    = 5
)

var errProtocol = errors.New("task: the other side does not keep to the protocol")

func appendFrame(b []byte, k kind, payload []byte) []byte {
	b = append(b, byte(k))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

func readFrame(r *bufio.Reader) (kind, []byte, error) {
	var head [header]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > MaxFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", errProtocol, n)
	}
	// What is announced is allocated as it comes.
	const piece = 64 << 10
	payload := make([]byte, 0, min(int(n), piece))
	for len(payload) < int(n) {
		at := len(payload)
		payload = append(payload, make([]byte, min(int(n)-at, max(piece, at)))...)
		if _, err := io.ReadFull(r, payload[at:]); err != nil {
			return 0, nil, err
		}
	}
	return kind(head[0]), payload, nil
}

func appendCount(b []byte, n int) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) }

func parseCount(b []byte) (int, error) {
	if len(b) != 4 {
		return 0, errProtocol
	}
	return int(binary.BigEndian.Uint32(b)), nil
}

// check holds that exactly one field is set.
func (o *Order) check() error {
	return one(o.Open != nil, o.Start != nil, o.Feed != nil, o.Cancel != "", o.Shut != "")
}

func (r *Report) check() error { return one(r.Emit != nil, r.Done != nil) }

func one(set ...bool) error {
	n := 0
	for _, s := range set {
		if s {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("%w: %d fields where there should be one", errProtocol, n)
	}
	return nil
}
