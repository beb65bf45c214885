package diskfs

import (
	"errors"
	"io/fs"
	"path"
)

// RemoveAll removes a directory with all that is in it. What is not there is no error.
func RemoveAll(f FS, name string) error {
	st, err := f.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.IsDir() {
		var names []string
		for n, err := range f.Names(name) {
			if err != nil {
				return err
			}
			names = append(names, n)
		}
		for _, n := range names {
			if err := RemoveAll(f, path.Join(name, n)); err != nil {
				return err
			}
		}
	}
	return f.Remove(name)
}
