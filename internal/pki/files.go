package pki

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

const tempPrefix = ".tmp-"

// openDir opens a directory for secrets, making it if need be. What a crash left half-written there goes; younger files may be another
// process's.
func openDir(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	left, err := fs.Glob(root.FS(), tempPrefix+"*")
	for _, name := range left {
		if info, err := root.Lstat(name); err == nil && time.Since(info.ModTime()) > time.Hour {
			_ = root.Remove(name) // the next start tries again
		}
	}
	return root, err
}

// readSecret reads a file that only its owner may read.
func readSecret(root *os.Root, name string) ([]byte, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s/%s holds a private key and has mode %v: make it 0600", root.Name(), name, info.Mode().Perm())
	}
	return root.ReadFile(name)
}

// writeSecret makes or replaces a file in one step that survives a power cut.
func writeSecret(root *os.Root, name string, data []byte) error {
	temp, err := writeTemp(root, data)
	if err != nil {
		return err
	}
	if err := root.Rename(temp, name); err != nil {
		return errors.Join(err, root.Remove(temp))
	}
	return syncDir(root)
}

// createSecret is writeSecret for a file that must not exist yet ([fs.ErrExist]). Of several processes, one wins.
func createSecret(root *os.Root, name string, data []byte) error {
	temp, err := writeTemp(root, data)
	if err != nil {
		return err
	}
	err = root.Link(temp, name)
	if err := errors.Join(err, root.Remove(temp)); err != nil {
		return err
	}
	return syncDir(root)
}

func writeTemp(root *os.Root, data []byte) (name string, err error) {
	name = tempPrefix + rand.Text()
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, root.Remove(name))
	}
	return name, nil
}

func syncDir(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeFile removes a file that may be gone already.
func removeFile(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(root)
}
