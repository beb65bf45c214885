package objfile

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/mobulacloud/mobula/storage"
)

// OpenFile returns the very file that holds an object, open for reading, for a program on this server that wants the object as a file: the file is exactly the object's
// bytes. They are not verified on this way; call Verify before where that matters. The file stays readable after a Delete for as long as it is open. An object
// that is packed in the journal has no file: errors.ErrUnsupported.
func (s *Store) OpenFile(ctx context.Context, id storage.ObjectID) (*os.File, storage.Info, error) {
	if err := s.enter(ctx); err != nil {
		return nil, storage.Info{}, err
	}
	defer s.leave()
	for {
		e, err := s.find(id)
		if err != nil {
			return nil, storage.Info{}, err
		}
		if !e.file {
			return nil, storage.Info{}, fmt.Errorf("open file of %s: packed in the journal: %w", id, errors.ErrUnsupported)
		}
		f, err := s.disk.Open(objectPath(id))
		if isNotExist(err) {
			if err := s.gone(id, e, "its file is missing"); err != errMoved {
				return nil, storage.Info{}, err
			}
			continue
		}
		if err != nil {
			return nil, storage.Info{}, readError(id, err)
		}
		real, ok := f.(interface{ OSFile() *os.File })
		if !ok {
			f.Close()
			return nil, storage.Info{}, fmt.Errorf("open file of %s: not on a real disk: %w", id, errors.ErrUnsupported)
		}
		return real.OSFile(), e.info(id), nil
	}
}
