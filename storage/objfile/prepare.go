package objfile

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

// preparedSegment is a file of zeros that waits to become a segment.
type preparedSegment struct{ f diskfs.File }

// prepareLoop keeps a segment in waiting whose blocks have been written with zeros. Syncing data into blocks that were written before needs no change of the
// file system's metadata, which halves the time of a sync (100 instead of 200 µs on ext4 on a virtual disk). A store that is hardly written never gets here.
func (s *Store) prepareLoop() {
	defer s.background.Done()
	for {
		select {
		case <-s.stop:
			return
		case <-s.prepare:
		}
		if s.next.Load() != nil || s.readOnlyError() != nil {
			continue
		}
		if avail, err := s.available(); err != nil || avail < 4*s.cfg.SegmentSize {
			continue // not on the last of the space
		}
		f, err := s.prepareSegment()
		if err != nil {
			s.cfg.Log.Debug("no segment prepared", "err", err) // roll makes one itself
			continue
		}
		if f != nil {
			s.next.Store(&preparedSegment{f})
		}
	}
}

func (s *Store) prepareSegment() (_ diskfs.File, err error) {
	if err := s.disk.Remove(nextSegment); err != nil && !isNotExist(err) {
		return nil, err
	}
	f, err := s.disk.Create(nextSegment)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			err = errors.Join(err, s.disk.Remove(nextSegment))
		}
	}()
	if err := f.Preallocate(s.cfg.SegmentSize); err != nil {
		return nil, err
	}
	direct := f.SetDirect(true)
	zeros := alignedBuffer(256 << 10)
	for off := int64(0); off < s.cfg.SegmentSize; off += int64(len(zeros)) {
		select {
		case <-s.stop:
			return nil, errors.New("closing")
		default:
		}
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), s.cfg.SegmentSize-off)], off); err != nil {
			return nil, err
		}
	}
	if direct && !f.SetDirect(false) {
		return nil, fmt.Errorf("leave direct mode: %w", errors.ErrUnsupported)
	}
	return f, f.Sync()
}

// alignedBuffer returns n bytes as direct input and output wants them.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+diskfs.Align)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (diskfs.Align - 1)
	return b[skip : skip+n : skip+n]
}
