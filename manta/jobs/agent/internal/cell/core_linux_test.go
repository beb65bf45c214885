package cell

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// coreFile is the head of a core dump of a program of that name.
func coreFile(program string) []byte {
	le := binary.LittleEndian
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 4)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	note := make([]byte, 12+8+136)
	le.PutUint32(note, 5)
	le.PutUint32(note[4:], 136)
	le.PutUint32(note[8:], 3)
	copy(note[12:], "CORE\x00")
	copy(note[20+40:], program)
	p := b[64:]
	le.PutUint32(p, 4)
	le.PutUint64(p[8:], uint64(len(b)))
	le.PutUint64(p[32:], uint64(len(note)))
	return append(b, note...)
}

func TestProgramOf(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{string(coreFile("bash")), "bash"},
		{string(coreFile("a/b c\x01\xff")), "a_b_c__"},
		{string(coreFile("")), "program"},
		{string(coreFile("bash")[:130]), "program"},
	} {
		if got, ok := programOf(strings.NewReader(tt.file)); !ok || got != tt.want {
			t.Errorf("programOf = %q, %v; want %q", got, ok, tt.want)
		}
	}
	for _, file := range []string{"", "core", "\x7fELF", strings.Replace(string(coreFile("x")), "\x04", "\x02", 1)} {
		if got, ok := programOf(strings.NewReader(file)); ok {
			t.Errorf("%.10q is a core dump of %q", file, got)
		}
	}
}

func FuzzProgramOf(f *testing.F) {
	f.Add(coreFile("bash"))
	f.Add(coreFile("bash")[:100])
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, file []byte) {
		name, ok := programOf(bytes.NewReader(file))
		if ok && (name == "" || strings.ContainsAny(name, "/ \x00")) {
			t.Errorf("program %q", name)
		}
	})
}
