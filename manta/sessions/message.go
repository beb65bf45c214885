package sessions

import (
	"strings"

	"github.com/coder/websocket"
)

// Subprotocol is what masters ask for who want messages without prefixes.
const Subprotocol = "tty.mobula"

// Prefixes of text messages: the reflector's own, and those between master and slave.
const (
	ReflectorPrefix = "medusa:"
	PeerPrefix      = "mlogin:"
)

const (
	waitMessage   = ReflectorPrefix + `{"type":"wait"}`
	linkupMessage = ReflectorPrefix + `{"type":"linkup"}`
)

// A message is what one frame carries.
type message struct {
	kind websocket.MessageType
	data []byte
}

func text(s string) message { return message{websocket.MessageText, []byte(s)} }

// toPlain takes the prefix off a message for a master that knows none. Other text is not for it.
func toPlain(m message) (message, bool) {
	if m.kind != websocket.MessageText {
		return m, true
	}
	s := string(m.data)
	for _, prefix := range []string{ReflectorPrefix, PeerPrefix} {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			return text(rest), true
		}
	}
	return message{}, false
}

// fromPlain puts a prefix before a message of such a master.
func fromPlain(m message) message {
	if m.kind == websocket.MessageText {
		m.data = append([]byte(PeerPrefix), m.data...)
	}
	return m
}

// clipReason makes a reason short enough for a close frame.
func clipReason(s string) string {
	if len(s) > 120 {
		s = strings.ToValidUTF8(s[:120], "")
	}
	return s
}
