package pebble

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	lsm "github.com/cockroachdb/pebble/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A backup is a line that names its format, then a zstd stream (with its checksums) of entries: the length of a key and of a value, as
// uvarints, and both. An empty key ends it; its value is the number of entries in 8 bytes.
const backupMagic = "mobula metastore backup 1\n"

// Backup writes the store as of now, while reads and writes go on. A backup that was cut short does not restore.
func (s *Store) Backup(ctx context.Context, w io.Writer) (err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	// The snapshot has whole batches only. What it has is durable after one more sync, of any write at all.
	snapshot := s.db.NewSnapshot()
	defer snapshot.Close()
	mark := s.db.NewBatch()
	defer mark.Close()
	if err := errors.Join(mark.LogData([]byte("backup"), nil), s.apply(mark)); err != nil {
		return err
	}
	if _, err := io.WriteString(w, backupMagic); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	it, err := snapshot.NewIter(nil)
	if err != nil {
		return err
	}
	defer it.Close()
	var frame []byte
	n := uint64(0)
	for it.First(); it.Valid(); it.Next() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read for backup: %w", err)
		}
		frame = appendFrame(frame[:0], it.Key(), v)
		if _, err := z.Write(frame); err != nil {
			return fmt.Errorf("write backup: %w", err)
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("read for backup: %w", err)
	}
	if _, err := z.Write(appendFrame(frame[:0], nil, binary.BigEndian.AppendUint64(nil, n))); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

func appendFrame(dst, key, value []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(append(dst, key...), value...)
}

// BackupFile writes a backup to a file, which appears whole and durable or not at all; one that is there is replaced.
func (s *Store) BackupFile(ctx context.Context, path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := s.Backup(ctx, w); err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Restore makes a new store in dir of a backup. dir must not exist; it appears when all is there and durable. Watch
// positions of the original are metastore.ErrPositionGone in the new store.
func Restore(ctx context.Context, r io.Reader, dir string, c Config) (err error) {
	if err := c.fill(); err != nil {
		return err
	}
	fs := c.FS
	if _, err := fs.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: restore into %s, which is there already", metastore.ErrInvalid, dir)
	}
	// Left over from a restore that was cut short.
	part := dir + ".restoring"
	if err := fs.RemoveAll(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("restore: %w", err)
	}
	s := &Store{config: c}
	options := s.options()
	db, err := lsm.Open(part, options)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	s.db = db
	err = s.restore(ctx, bufio.NewReaderSize(r, 1<<20))
	if err == nil {
		err = db.Flush()
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return errors.Join(fmt.Errorf("restore: %w", err), fs.RemoveAll(part))
	}
	if err := fs.Rename(part, dir); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	parent, err := fs.OpenDir(fs.PathDir(dir))
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return errors.Join(parent.Sync(), parent.Close())
}

func (s *Store) restore(ctx context.Context, r *bufio.Reader) error {
	line, err := r.ReadString('\n')
	if err != nil || line != backupMagic {
		return fmt.Errorf("%w: not a backup that this program knows", metastore.ErrInvalid)
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return err
	}
	defer z.Close()
	in := bufio.NewReaderSize(z, 1<<20)
	batch := s.db.NewBatch()
	defer func() { batch.Close() }()
	for n := uint64(0); ; n++ {
		key, value, err := readFrame(in)
		if err != nil {
			return fmt.Errorf("read backup: %w", err)
		}
		switch {
		case len(key) == 0:
			if len(value) != 8 || binary.BigEndian.Uint64(value) != n {
				return fmt.Errorf("read backup: %w", errCorrupt)
			}
			return batch.Commit(lsm.Sync)
		case key[0] == kindCounter:
			err = batch.Merge(key, value, nil)
		case string(key) == string(metaKey("log")):
			var m logMeta
			if err = json.Unmarshal(value, &m); err == nil {
				// Numbers go on, positions do not.
				m.Epoch = newEpoch()
				value, err = json.Marshal(m)
			}
			fallthrough
		default:
			err = errors.Join(err, batch.Set(key, value, nil))
		}
		if err != nil {
			return fmt.Errorf("read backup: %w", err)
		}
		if batch.Len() > 1<<20 {
			if err := errors.Join(ctx.Err(), batch.Commit(lsm.NoSync)); err != nil {
				return err
			}
			batch.Close()
			batch = s.db.NewBatch()
		}
	}
}

// maxFrame is above any key or value that a store writes.
const maxFrame = 2 << 20

func readFrame(r *bufio.Reader) (key, value []byte, err error) {
	k, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, nil, unexpected(err)
	}
	v, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, nil, unexpected(err)
	}
	if k > maxFrame || v > maxFrame {
		return nil, nil, errCorrupt
	}
	both := make([]byte, k+v)
	if _, err := io.ReadFull(r, both); err != nil {
		return nil, nil, unexpected(err)
	}
	return both[:k], both[k:], nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
