package tools

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
)

// A spool keeps what a program reads until its length is known: in memory as long as it is little, then in a file that has no name any more.
type spool struct {
	dir   string
	limit int // bytes in memory
	mem   bytes.Buffer
	file  *os.File
	size  int64
}

// inMemory is what a program that has one spool keeps in memory.
const inMemory = 1 << 20

func (p *process) spool(limit int) *spool {
	return &spool{dir: cmp.Or(p.getenv("TMPDIR"), "/var/tmp"), limit: limit}
}

func (s *spool) Write(b []byte) (int, error) {
	if s.file == nil && s.mem.Len()+len(b) <= s.limit {
		s.size += int64(len(b))
		return s.mem.Write(b)
	}
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "m.*")
		if err != nil {
			return 0, err
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil {
			return 0, err
		}
		if _, err := f.Write(s.mem.Bytes()); err != nil {
			return 0, err
		}
		s.mem = bytes.Buffer{}
	}
	n, err := s.file.Write(b)
	s.size += int64(n)
	return n, err
}

// reader returns what was written, from its beginning.
func (s *spool) reader() (io.ReadSeeker, error) {
	if s.file == nil {
		return bytes.NewReader(s.mem.Bytes()), nil
	}
	_, err := s.file.Seek(0, io.SeekStart)
	return s.file, err
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close() // it was only read since
	}
}

// fill reads all of a program's input.
func (s *spool) fill(r io.Reader) error {
	if _, err := io.Copy(struct{ io.Writer }{s}, r); err != nil {
		return fmt.Errorf("save stdin: %w", err)
	}
	return nil
}
