package zinit

import (
	"encoding/binary"
	"errors"
	"io"
)

// The same as in wire.h; TestWire compares.
const (
	Version  = 1
	Env      = "_MOBULA_ZINIT"
	StartEnv = "_MOBULA_STARTER"
	MaxBody  = 4 << 20

	// HeaderSize is a message without its body.
	HeaderSize = 16
)

// Types of messages.
const (
	MsgExec = 1 + iota
	MsgSignal
	MsgConsole
	MsgSetConsole
	MsgResize
	MsgMakeFile
)

// Types of answers.
const (
	MsgStarted = 64 + iota
	MsgFailed
	MsgExited
	MsgOK
)

// Flags of a Program.
const (
	FlagTTY = 1 << iota
	FlagStdin
	FlagStdout
	FlagStderr
	FlagNoNewPrivs
	FlagRestart
	FlagAlone
	FlagCores
)

// Flags of a Config.
const (
	ConfigMain = 1 << iota
	ConfigOwn
	ConfigNoNewPrivs
)

// Program is something to run.
type Program struct {
	Flags      uint32
	UID, GID   uint32
	Rows, Cols uint32
	// Memlock in bytes bounds locked memory, 0 leaves it.
	Memlock   uint64
	Name, Dir string
	Groups    []uint32
	Args, Env []string
}

// Config is what process 1 is told at its start.
type Config struct {
	Flags uint32
	// Capabilities is the set to keep, bit by number.
	Capabilities uint64
	// Filter is a classic BPF program in the kernel's form, empty for none.
	Filter     []byte
	StopSignal int
	// Programs begins with the main program if Flags say there is one.
	Programs []Program
}

func appendText(b []byte, s string) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(len(s)))
	return append(append(b, s...), 0)
}

func appendList(b []byte, list []string) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(len(list)))
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}

// Append adds the program's wire form.
func (p *Program) Append(b []byte) []byte {
	for _, v := range [...]uint32{p.Flags, p.UID, p.GID, p.Rows, p.Cols, uint32(p.Memlock), uint32(p.Memlock >> 32)} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	b = appendText(appendText(b, p.Name), p.Dir)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(p.Groups)))
	for _, g := range p.Groups {
		b = binary.NativeEndian.AppendUint32(b, g)
	}
	return appendList(appendList(b, p.Args), p.Env)
}

// Append adds the configuration's wire form.
func (c *Config) Append(b []byte) []byte {
	for _, v := range [...]uint32{Version, c.Flags, uint32(c.Capabilities), uint32(c.Capabilities >> 32)} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	b = appendText(b, string(c.Filter))
	b = binary.NativeEndian.AppendUint32(b, uint32(c.StopSignal))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(c.Programs)))
	for i := range c.Programs {
		b = c.Programs[i].Append(b)
	}
	return b
}

// Header is a message's fixed part.
type Header struct {
	Type, A, B, Length uint32
}

// Append adds the header's wire form.
func (h Header) Append(b []byte) []byte {
	for _, v := range [...]uint32{h.Type, h.A, h.B, h.Length} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

// ErrProtocol is an answer that init never gives.
var ErrProtocol = errors.New("zinit: answer not understood")

// ParseHeader reads an answer; the other end may have been taken over by the zone's root, so nothing in it is believed.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, io.ErrUnexpectedEOF
	}
	u := binary.NativeEndian.Uint32
	h := Header{u(b), u(b[4:]), u(b[8:]), u(b[12:])}
	if h.Type < MsgStarted || h.Type > MsgOK || h.Length != 0 {
		return Header{}, ErrProtocol
	}
	return h, nil
}
