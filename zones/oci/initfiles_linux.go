//go:build cgo

package oci

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// initFiles is a directory with this program under the name init, and the loader and libraries it was linked with, so that it runs in
// a root that has none or others. It is a copy: what a zone executes as its init is never a file of the host's own.
type initFiles struct {
	dir  string
	args []string // inside
}

// installInit makes the directory below dir, or finds the one that an earlier run of the same program made.
func installInit(dir string) (initFiles, error) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return initFiles{}, err
	}
	defer exe.Close()
	st, err := exe.Stat()
	if err != nil {
		return initFiles{}, err
	}
	sys := st.Sys().(*syscall.Stat_t)
	key := fmt.Sprintf("%x-%x-%x-%x", sys.Dev, sys.Ino, st.Size(), st.ModTime().UnixNano())
	files := initFiles{dir: filepath.Join(dir, key), args: []string{initDir + "/init"}}
	interp, libs, err := linkage(exe)
	if err != nil {
		return initFiles{}, err
	}
	if interp != "" {
		files.args = []string{initDir + "/ld.so", "--library-path", initDir, initDir + "/init"}
	}
	if _, err := os.Stat(files.dir); err == nil {
		return files, nil
	}
	tmp, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return initFiles{}, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return initFiles{}, err
	}
	copies := map[string]string{"init": "/proc/self/exe"}
	if interp != "" {
		copies["ld.so"] = interp
	}
	for name, path := range libs {
		copies[name] = path
	}
	for name, from := range copies {
		if err := copyFile(filepath.Join(tmp, name), from); err != nil {
			return initFiles{}, err
		}
	}
	if err := os.Rename(tmp, files.dir); err != nil && !os.IsExist(err) {
		return initFiles{}, err
	}
	return files, nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o555)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(to, 0o555) // whatever the umask
	}
	return err
}

// linkage finds the loader that the program names and the files that it was loaded with, by the names it asks for.
func linkage(exe io.ReaderAt) (interp string, libs map[string]string, err error) {
	f, err := elf.NewFile(exe)
	if err != nil {
		return "", nil, err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			if err != nil {
				return "", nil, err
			}
			interp = strings.TrimRight(string(b), "\x00")
		}
	}
	if interp == "" {
		return "", nil, nil // static
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return "", nil, err
	}
	loaded := map[string]string{}
	for line := range strings.SplitSeq(string(maps), "\n") {
		if i := strings.IndexByte(line, '/'); i >= 0 && strings.Contains(line, ".so") {
			path := line[i:]
			loaded[filepath.Base(path)] = path
		}
	}
	// A library's file may be named otherwise than what is asked for, so take what its own name says.
	libs = map[string]string{}
	for _, path := range loaded {
		lib, err := elf.Open(path)
		if err != nil {
			continue
		}
		name := filepath.Base(path)
		if so, err := lib.DynString(elf.DT_SONAME); err == nil && len(so) == 1 {
			name = so[0]
		}
		lib.Close()
		libs[name] = path
	}
	return interp, libs, nil
}
