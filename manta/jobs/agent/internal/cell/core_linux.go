package cell

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// TakeCore takes the newest core dump out of the zone: it has no name there any more. nil if there is none. Those that programs left in other
// directories are not found.
func (z *Cell) TakeCore() (*Core, error) {
	// Only a name that came or went changes the directory's time; mostly none has.
	var st unix.Stat_t
	if err := unix.Stat(z.root(), &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: z.root(), Err: err}
	}
	if st.Mtim == z.looked {
		return nil, nil
	}
	z.looked = st.Mtim
	dir, err := os.Open(z.root())
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(1000)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name != "core" && !strings.HasPrefix(name, "core.") })
	if len(names) == 0 {
		return nil, nil
	}
	root, err := os.OpenRoot(z.root())
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var newest fs.FileInfo
	for _, name := range names {
		if st, err := root.Lstat(name); err == nil && st.Mode().IsRegular() && st.Size() > 0 && (newest == nil || st.ModTime().After(newest.ModTime())) {
			newest = st
		}
	}
	if newest == nil {
		return nil, nil
	}
	f, err := root.Open(path.Base(newest.Name()))
	if err != nil {
		return nil, err
	}
	program, ok := programOf(f)
	if !ok { // a file of that name that is no core dump is the task's business
		f.Close()
		return nil, nil
	}
	return &Core{f, program}, root.Remove(newest.Name())
}

// programOf reads the name of the program from the head of a core dump, which anybody may have written.
func programOf(f io.ReaderAt) (string, bool) {
	var h [64]byte
	if _, err := f.ReadAt(h[:], 0); err != nil || !bytes.HasPrefix(h[:], []byte("\x7fELF\x02\x01\x01")) {
		return "", false
	}
	le := binary.LittleEndian
	if le.Uint16(h[16:]) != 4 { // ET_CORE
		return "", false
	}
	at, size, count := le.Uint64(h[32:]), le.Uint16(h[54:]), le.Uint16(h[56:])
	if size != 56 || at > 1<<20 {
		return "program", true
	}
	var ph [56]byte
	for i := range min(int(count), 16) {
		if _, err := f.ReadAt(ph[:], int64(at)+int64(i)*56); err != nil {
			break
		}
		if le.Uint32(ph[:]) != 4 { // PT_NOTE
			continue
		}
		off, n := le.Uint64(ph[8:]), le.Uint64(ph[32:])
		if off > 1<<30 {
			break
		}
		notes := make([]byte, min(n, 1<<16))
		got, _ := f.ReadAt(notes, int64(off))
		return nameInNotes(notes[:got]), true
	}
	return "program", true
}

func nameInNotes(notes []byte) string {
	le := binary.LittleEndian
	align := func(n uint32) uint64 { return (uint64(n) + 3) &^ 3 }
	for len(notes) >= 12 {
		name, desc, kind := align(le.Uint32(notes)), align(le.Uint32(notes[4:])), le.Uint32(notes[8:])
		notes = notes[12:]
		if name+desc > uint64(len(notes)) {
			break
		}
		if d := notes[name : name+desc]; kind == 3 && len(d) >= 56 { // NT_PRPSINFO; the name is its pr_fname
			text, _, _ := strings.Cut(string(d[40:56]), "\x00")
			clean := strings.Map(func(r rune) rune {
				if r > ' ' && r < 0x7f && r != '/' {
					return r
				}
				return '_'
			}, text)
			if clean != "" {
				return clean
			}
			break
		}
		notes = notes[name+desc:]
	}
	return "program"
}
