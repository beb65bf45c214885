package zinit

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// What an Order asks for.
const (
	// OrderStart is a zone's process 1.
	OrderStart = 1 + iota
	// OrderEnter is one more process in the zone whose pidfd is the last descriptor.
	OrderEnter
	// OrderUserNS is a process in a user namespace, and nothing else. It ends with the socket.
	OrderUserNS
)

// Flags of an Order.
const (
	// OrderNetNS says that the last descriptor is the zone's network namespace.
	OrderNetNS = 1 << iota
	// OrderSingle says that the zone has one id only, the program's own.
	OrderSingle
	// OrderGroup says that the last descriptor, but for a network namespace, is a control group of version 2.
	OrderGroup
)

// An order's descriptors are those of the listener, the configuration, the socket on which the new process waits and reports, and the plan;
// then the mounts of the plan. What lets the
// process go on carries at most MaxGroups.
const (
	OrderFiles = 4
	MaxFiles   = 250
	MaxGroups  = 32
)

// Order is what the starter is asked for.
type Order struct {
	Type, Flags uint32
	// Inside, First and Size are the zone's ids: the first inside, the first on the host, and how many.
	Inside, First, Size uint32
}

// Append adds the order's wire form.
func (o *Order) Append(b []byte) []byte {
	for _, v := range [...]uint32{o.Type, o.Flags, o.Inside, o.First, o.Size} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

// AnswerSize is an order's answer.
const AnswerSize = 8

// ParseAnswer reads the errno, 0 for none, and the number of the process, 0 if there is none.
func ParseAnswer(b []byte) (errno, pid int, err error) {
	if len(b) != AnswerSize {
		return 0, 0, ErrProtocol
	}
	return int(binary.NativeEndian.Uint32(b)), int(binary.NativeEndian.Uint32(b[4:])), nil
}

// Kinds of steps. wire.h says what each does.
const (
	StepRoot = 1 + iota
	StepFile
	StepBind
	StepMount
	StepLink
	StepPivot
	StepWrite
	StepMask
	StepProtect
	StepHostname
	StepLoopback
	StepConsole
)

// Flags of steps.
const (
	StepIsFile = 1 << iota
	StepOptional
	StepIsMount
)

// Step is one of a plan, which a new process 1 carries out.
type Step struct {
	Kind, File uint32
	Flags      uint64
	A, B, C    string
}

// AppendPlan adds the wire form of a plan.
func AppendPlan(b []byte, steps []Step) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(len(steps)))
	for _, s := range steps {
		b = binary.NativeEndian.AppendUint32(b, s.Kind)
		b = binary.NativeEndian.AppendUint32(b, s.File)
		b = binary.NativeEndian.AppendUint64(b, s.Flags)
		b = appendText(appendText(appendText(b, s.A), s.B), s.C)
	}
	return b
}

// ReportSize is what a new process says when it stands or cannot.
const ReportSize = 256

// ParseReport reads the errno, 0 if the zone stands, and what it was about.
func ParseReport(b []byte) (errno int, what string, err error) {
	if len(b) != ReportSize {
		return 0, "", errors.New("zinit: the zone's first process ended while it was set up")
	}
	text, _, _ := bytes.Cut(b[4:], []byte{0})
	return int(binary.NativeEndian.Uint32(b)), string(text), nil
}
