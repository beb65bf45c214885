//go:build linux && cgo

package oci_test

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/benchkit"
)

// BenchmarkStart is a machine from nothing to its first program running, without a clone of an image and with a new empty network
// namespace; its end is not counted.
func BenchmarkStart(b *testing.B) {
	d := newDriver(b)
	m := machine(b)
	var spread benchkit.Spread
	benchkit.CPU(b)
	for b.Loop() {
		m.ID = uuid.NewString()
		begin := time.Now()
		start(b, d, m)
		spread.Add(begin)
		b.StopTimer()
		if err := d.Destroy(b.Context(), m.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	spread.Report(b)
}

// BenchmarkStartDestroy is a machine's whole life.
func BenchmarkStartDestroy(b *testing.B) {
	d := newDriver(b)
	m := machine(b)
	benchkit.CPU(b)
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

// BenchmarkPeer is the same by us and by runc, one after the other so that they share the machine's mood: a new zone, a command in it, and its
// end. Ours has a user namespace, an id-mapped root, a filter and limits, which runc's default has not.
func BenchmarkPeer(b *testing.B) {
	b.Run("mobula", func(b *testing.B) {
		d := newDriver(b)
		m := machine(b)
		m.Init.Args = []string{"/usr/bin/true"}
		for b.Loop() {
			m.ID = uuid.NewString()
			start(b, d, m)
			if st, err := d.Wait(b.Context(), m.ID); err != nil || !st.Success() {
				b.Fatal(st, err)
			}
			if err := d.Destroy(b.Context(), m.ID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("runc", func(b *testing.B) {
		testenv.NeedRoot(b)
		runc := testenv.NeedTool(b, "runc", "runc")
		dir := runDir(b)
		if err := os.Rename(sparseRoot(b), filepath.Join(dir, "rootfs")); err != nil {
			b.Fatal(err)
		}
		if out, err := exec.Command(runc, "spec", "--bundle", dir).CombinedOutput(); err != nil {
			b.Fatalf("%v %s", err, out)
		}
		config := filepath.Join(dir, "config.json")
		data, err := os.ReadFile(config)
		if err != nil {
			b.Fatal(err)
		}
		var spec map[string]any
		if err := json.Unmarshal(data, &spec); err != nil {
			b.Fatal(err)
		}
		process := spec["process"].(map[string]any)
		process["terminal"], process["args"] = false, []string{"/usr/bin/true"}
		spec["mounts"] = append(spec["mounts"].([]any), map[string]any{"destination": "/usr", "type": "bind", "source": "/usr", "options": []string{"rbind", "ro"}})
		if data, err = json.Marshal(spec); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(config, data, 0o600); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if out, err := exec.Command(runc, "--root", filepath.Join(dir, "state"), "run", "--bundle", dir, "mobula-peer").CombinedOutput(); err != nil {
				b.Fatalf("%v %s", err, out)
			}
		}
	})
}
