//go:build linux && cgo

package oci_test

import (
	"io"
	"os"
	"testing"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/zones"
)

// BenchmarkStart is a machine from nothing to its first program running, without a clone of an image and with a new empty network
// namespace; its end is not counted.
func BenchmarkStart(b *testing.B) {
	d := newDriver(b)
	m := machine(b)
	for b.Loop() {
		m.ID = uuid.NewString()
		start(b, d, m)
		b.StopTimer()
		if err := d.Destroy(b.Context(), m.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkStartDestroy is a machine's whole life.
func BenchmarkStartDestroy(b *testing.B) {
	d := newDriver(b)
	m := machine(b)
	for b.Loop() {
		m.ID = uuid.NewString()
		start(b, d, m)
		if err := d.Destroy(b.Context(), m.ID); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExec is one program in a standing zone, from request to exit status.
func BenchmarkExec(b *testing.B) {
	d := newDriver(b)
	m := machine(b)
	start(b, d, m)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	for name, req := range map[string]zones.ExecRequest{
		"true":     {Args: []string{"/usr/bin/true"}},
		"file":     {Args: []string{"/usr/bin/true"}, Stdin: null, Stdout: null},
		"pipe":     {Args: []string{"/usr/bin/echo", "x"}, Stdout: io.Discard},
		"terminal": {Args: []string{"/usr/bin/true"}, TTY: true, Stdout: io.Discard},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if st, err := zones.Run(b.Context(), d, m.ID, req); err != nil || !st.Success() {
					b.Fatal(st, err)
				}
			}
		})
	}
}
