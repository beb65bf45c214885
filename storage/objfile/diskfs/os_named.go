package diskfs

import (
	"crypto/rand"
	"io/fs"
	"os"
	"path"
)

// TempPrefix begins the name of every temporary file; a program that starts removes what its predecessor left under it.
const TempPrefix = ".tmp-"

func (o *OS) createNamed(dir string, perm fs.FileMode) (Temp, error) {
	name := path.Join(dir, TempPrefix+rand.Text())
	f, err := o.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm|0o200)
	if err != nil {
		return nil, err
	}
	return &named{osFile: osFile{f}, o: o, name: name, perm: perm}, nil
}

// named is a Temp on file systems where a file must have a name.
type named struct {
	osFile
	o    *OS
	name string
	perm fs.FileMode
}

// Link implements [Temp]. A link and not a rename, because a rename would replace what has the name.
func (f *named) Link(name string) error {
	if err := f.File.Chmod(f.perm); err != nil {
		return err
	}
	return f.o.root.Link(f.name, name)
}

func (f *named) Close() error {
	err := f.File.Close()
	if rerr := f.o.root.Remove(f.name); err == nil {
		err = rerr
	}
	return err
}
