//go:build cgo

package oci

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// Meter reads some of a machine's meters at a fraction of the cost of Usage, for who does so after every program: processor time, the peak of memory, kills for want of
// memory, and bytes of disk. It keeps files open until Close, and is for one goroutine at a time.
type Meter struct {
	cpu, user, system, peak, oom, disk *os.File
	unified                            bool
	buf                                [4096]byte
}

// Meter opens the meters of a running machine. What this host does not count stays zero in readings.
func (d *Driver) Meter(id string) (*Meter, error) {
	m, err := d.machines.Running("meter", id)
	if err != nil {
		return nil, err
	}
	open := func(controller, name string) *os.File {
		f, err := os.Open(filepath.Join(m.cg.Path(controller), name))
		if err != nil {
			return nil
		}
		return f
	}
	if d.ctl.V2 {
		return &Meter{unified: true, cpu: open("", "cpu.stat"), peak: open("", "memory.peak"), oom: open("", "memory.events"), disk: open("", "io.stat")}, nil
	}
	return &Meter{cpu: open("cpuacct", "cpuacct.usage"), user: open("cpuacct", "cpuacct.usage_user"), system: open("cpuacct", "cpuacct.usage_sys"), peak: open("memory", "memory.max_usage_in_bytes"),
		oom: open("memory", "memory.oom_control"), disk: open("blkio", "blkio.throttle.io_service_bytes_recursive")}, nil
}

// Read returns what has been counted since the machine started.
func (m *Meter) Read() zones.Usage {
	u := zones.Usage{Time: time.Now()}
	if m.unified {
		text := m.text(m.cpu)
		micro := func(key string) time.Duration { return time.Duration(field(text, key)) * time.Microsecond }
		u.CPU = zones.CPUUsage{User: micro("user_usec"), System: micro("system_usec"), Total: micro("usage_usec")}
	} else {
		u.CPU.User, u.CPU.System, u.CPU.Total = split(number(m.text(m.cpu)), number(m.text(m.user)), number(m.text(m.system)))
	}
	u.Memory.Peak = number(m.text(m.peak))
	u.Memory.OOMKills = field(m.text(m.oom), "oom_kill")
	u.Disk.ReadBytes, u.Disk.WriteBytes = diskBytes(m.text(m.disk), m.unified)
	return u
}

// Close lets go of the files.
func (m *Meter) Close() {
	for _, f := range []*os.File{m.cpu, m.user, m.system, m.peak, m.oom, m.disk} {
		closeFile(f)
	}
}

func (m *Meter) text(f *os.File) []byte {
	if f == nil {
		return nil
	}
	n, _ := f.ReadAt(m.buf[:], 0)
	return m.buf[:n]
}

// split divides an exact total as two parts that were sampled say.
func split(total, user, system uint64) (u, s, t time.Duration) {
	t = time.Duration(total)
	if user+system == 0 {
		return t, 0, t
	}
	s = time.Duration(float64(total) * (float64(system) / float64(user+system)))
	return t - s, s, t
}

func number(text []byte) uint64 {
	n, _ := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64)
	return n
}

// field finds a line "key number".
func field(text []byte, key string) uint64 {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(key+" ")); ok {
			return number(rest)
		}
	}
	return 0
}

// diskBytes sums lines "8:0 Read 4096" of version 1, or "8:0 rbytes=4096 wbytes=0 …" of version 2.
func diskBytes(text []byte, unified bool) (read, written uint64) {
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		switch {
		case unified:
			for _, kv := range f {
				if v, ok := bytes.CutPrefix(kv, []byte("rbytes=")); ok {
					read += number(v)
				} else if v, ok := bytes.CutPrefix(kv, []byte("wbytes=")); ok {
					written += number(v)
				}
			}
		case len(f) == 3 && string(f[1]) == "Read":
			read += number(f[2])
		case len(f) == 3 && string(f[1]) == "Write":
			written += number(f[2])
		}
	}
	return read, written
}
