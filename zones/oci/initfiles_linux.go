//go:build cgo

package oci

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// initFiles is a directory with this program under the name init, and the loader and libraries it was linked with, so that it runs in
// a root that has none or others. It is a copy: what a zone executes as its init is never a file of the host's own.
type initFiles struct {
	key  string
	dir  string
	args []string // inside
	lock *os.File // shared while a process may start zones with it
}

// outside is the command that runs it in the host's own tree.
func (f initFiles) outside() []string {
	if len(f.args) == 1 {
		return []string{f.dir + "/init"}
	}
	return []string{f.dir + "/ld.so", "--library-path", f.dir, f.dir + "/init"}
}

// installInit makes the directory below dir, or finds the one that an earlier run of the same build made.
func installInit(dir string) (files initFiles, err error) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return files, err
	}
	defer exe.Close()
	interp, copies, err := linkage(exe)
	if err != nil {
		return files, err
	}
	if files.key, err = buildKey(exe, copies); err != nil {
		return files, err
	}
	files.dir, files.args = filepath.Join(dir, files.key), []string{initDir + "/init"}
	if interp != "" {
		files.args = []string{initDir + "/ld.so", "--library-path", initDir, initDir + "/init"}
		copies["ld.so"] = interp
	}
	copies["init"] = "/proc/self/exe"
	for range 100 {
		// Taken before looking, so that nobody removes what is found.
		if files.lock, err = lockFile(files.dir+".lock", unix.LOCK_SH); err != nil {
			return files, err
		}
		if _, err = os.Stat(files.dir); err == nil {
			return files, nil
		}
		if err = copyAll(dir, files.dir, copies); err == nil || !errors.Is(err, fs.ErrExist) {
			break
		}
		files.lock.Close() // somebody else was quicker
	}
	if err != nil {
		files.lock.Close()
	}
	return files, err
}

// copyAll makes the directory to whole or not at all.
func copyAll(dir, to string, copies map[string]string) error {
	tmp, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	for name, from := range copies {
		if err := copyFile(filepath.Join(tmp, name), from); err != nil {
			return err
		}
	}
	return os.Rename(tmp, to)
}

// sweepInits removes the directories of other builds that no machine runs on and no process has.
func sweepInits(dir string, used map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".new-") { // left by a process that was killed, once it is old enough
			if st, err := e.Info(); err == nil && time.Since(st.ModTime()) > time.Hour {
				_ = os.RemoveAll(filepath.Join(dir, name))
			}
			continue
		}
		if !e.IsDir() || used[name] {
			continue
		}
		lock, err := lockFile(filepath.Join(dir, name+".lock"), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return err
		}
		err = os.RemoveAll(filepath.Join(dir, name))
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// lockFile opens and locks a file that is never removed, so that all lock the same one. Its closing unlocks.
func lockFile(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

// buildKey names the program's build, whatever file it is in (go run makes a new one each time), and the libraries.
func buildKey(exe *os.File, libs map[string]string) (string, error) {
	sum := sha256.New()
	f, err := elf.NewFile(exe)
	if err != nil {
		return "", err
	}
	if id := f.Section(".note.go.buildid"); id != nil && id.Size > 16 {
		if _, err := io.Copy(sum, id.Open()); err != nil {
			return "", err
		}
	} else { // built without one: the file itself
		libs = maps.Clone(libs)
		libs["init"] = exe.Name()
	}
	for _, name := range slices.Sorted(maps.Keys(libs)) {
		st, err := os.Stat(libs[name])
		if err != nil {
			return "", err
		}
		fmt.Fprintln(sum, name, libs[name], st.Size(), st.ModTime().UnixNano())
	}
	return hex.EncodeToString(sum.Sum(nil)[:12]), nil
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
	libs = map[string]string{}
	if interp == "" {
		return "", libs, nil // static
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
