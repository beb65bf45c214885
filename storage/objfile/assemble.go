package objfile

import (
	"context"
	"crypto/md5"
	"fmt"
	"io"

	"github.com/mobulacloud/mobula/storage"
)

// Assemble implements [storage.Node]. Every source is verified as it is copied, and the MD5 of the whole is computed, which nothing but reading all of it can tell;
// as all bytes pass through this process anyway, and MD5 is what limits the speed, they are written from there rather than copied by the kernel.
func (s *Store) Assemble(ctx context.Context, target storage.ObjectID, sources []storage.ObjectID, size int64) (storage.Info, error) {
	if err := s.enter(ctx); err != nil {
		return storage.Info{}, err
	}
	defer s.leave()
	info, err := s.assemble(ctx, target, sources, size)
	if err != nil {
		return storage.Info{}, fmt.Errorf("assemble %s: %w", target, err)
	}
	return info, nil
}

func (s *Store) assemble(ctx context.Context, target storage.ObjectID, sources []storage.ObjectID, size int64) (storage.Info, error) {
	if size < 0 || target == (storage.ObjectID{}) {
		return storage.Info{}, fmt.Errorf("%w: size %d", storage.ErrInvalid, size)
	}
	var sum int64
	var crc uint32
	for _, id := range sources {
		e, err := s.find(id)
		if err != nil {
			return storage.Info{}, err
		}
		if e.size > size-sum {
			return storage.Info{}, fmt.Errorf("%w: the sources have more than %d bytes", storage.ErrChecksum, size)
		}
		sum += e.size
		crc = combine(crc, e.crc, e.size)
	}
	if sum != size {
		return storage.Info{}, fmt.Errorf("%w: the sources have %d bytes, not %d", storage.ErrChecksum, sum, size)
	}
	if e, err := s.find(target); err == nil { // done before, perhaps by a request whose answer was lost
		if e.size != size || e.crc != crc {
			return storage.Info{}, storage.ErrExist
		}
		return e.info(target), nil
	}
	w, err := s.create(ctx, target, size)
	if err != nil {
		return storage.Info{}, err
	}
	defer w.end()
	hash := md5.New()
	for _, id := range sources {
		r, _, err := s.open(ctx, id, 0, -1, false)
		if err != nil {
			return storage.Info{}, err
		}
		_, err = r.(io.WriterTo).WriteTo(tee(func(p []byte) error {
			if err := s.interrupted(ctx); err != nil {
				return err
			}
			hash.Write(p)
			return w.write(p)
		}))
		r.Close()
		if err != nil {
			return storage.Info{}, err
		}
	}
	sums := storage.Sums{Size: size, CRC32C: crc}
	hash.Sum(sums.MD5[:0])
	return w.commit(sums)
}

type tee func(p []byte) error

func (t tee) Write(p []byte) (int, error) { return len(p), t(p) }
