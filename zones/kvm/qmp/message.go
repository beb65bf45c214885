package qmp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxMessage bounds a message from QEMU, in bytes.
const MaxMessage = 16 << 20

// ErrProtocol is in the chain of errors about messages that are none.
var ErrProtocol = errors.New("not a QMP message")

// Error is a command's failure, as QEMU tells it.
type Error struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// Error gives QEMU's own words.
func (e *Error) Error() string { return e.Desc }

// Event is something that happened without being asked for.
type Event struct {
	// Name such as SHUTDOWN, RESET, STOP.
	Name string
	Data json.RawMessage
	Time time.Time
}

// Version is QEMU's own.
type Version struct{ Major, Minor, Micro int }

// String is as people write it.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// message is one line from QEMU; exactly one of greeting, event and answer is set.
type message struct {
	greeting *Version
	event    *Event
	answer   bool
	id       uint64
	result   json.RawMessage
	err      *Error
}

// parseMessage reads one line.
func parseMessage(line []byte) (message, error) {
	var raw struct {
		QMP *struct {
			Version struct {
				QEMU Version `json:"qemu"`
			} `json:"version"`
		}
		Event     *string         `json:"event"`
		Data      json.RawMessage `json:"data"`
		Timestamp struct {
			Seconds      int64 `json:"seconds"`
			Microseconds int64 `json:"microseconds"`
		} `json:"timestamp"`
		ID     *uint64         `json:"id"`
		Return json.RawMessage `json:"return"`
		Error  *Error          `json:"error"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(line), &raw); err != nil {
		return message{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	switch {
	case raw.QMP != nil:
		return message{greeting: &raw.QMP.Version.QEMU}, nil
	case raw.Event != nil:
		e := &Event{Name: *raw.Event, Data: raw.Data}
		// QEMU writes -1 when it does not know the time.
		if raw.Timestamp.Seconds > 0 {
			e.Time = time.Unix(raw.Timestamp.Seconds, raw.Timestamp.Microseconds*1000)
		}
		return message{event: e}, nil
	case raw.Error != nil, raw.Return != nil:
		m := message{answer: true, result: raw.Return, err: raw.Error}
		if raw.ID != nil {
			m.id = *raw.ID
		}
		return m, nil
	}
	return message{}, fmt.Errorf("%w: no greeting, event or answer", ErrProtocol)
}
