package pooldir

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/archive"
	"github.com/mobulacloud/mobula/zones/dataset/sendstream"
)

// Unpack fills an empty tree from a full stream of either format, which its first bytes tell, and gives the sender's
// uuid, if the format has one. Buffering would read past the stream's end, and Receive must not.
func Unpack(ctx context.Context, in io.Reader, root *os.Root) (stream string, err error) {
	var magic [len(sendstream.Magic)]byte
	if _, err := io.ReadFull(in, magic[:]); err != nil {
		return "", fmt.Errorf("%w: no header: %w", dataset.ErrBadStream, err)
	}
	whole := io.MultiReader(bytes.NewReader(magic[:]), in)
	if string(magic[:]) == sendstream.Magic {
		res, err := sendstream.Apply(ctx, whole, root, sendstream.Options{})
		return hex.EncodeToString(res.UUID[:]), StreamError(err)
	}
	end := &endMark{r: whole}
	if _, err := archive.Extract(ctx, end, root, archive.Policy{}); err != nil {
		return "", StreamError(err)
	}
	if !end.seen() {
		return "", fmt.Errorf("%w: cut short", dataset.ErrBadStream)
	}
	return "", nil
}

// StreamError says ErrBadStream of whatever is wrong with a stream rather than with us.
func StreamError(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return err
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok && !errors.Is(err, archive.ErrRefused) && !errors.Is(err, sendstream.ErrBad) {
		return err
	}
	return fmt.Errorf("%w: %w", dataset.ErrBadStream, err)
}

// endMark watches for the two empty blocks that end a tar archive; Go's reader takes an early end of file for them.
type endMark struct {
	r    io.Reader
	tail []byte
}

func (e *endMark) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if n >= 1024 {
		e.tail = append(e.tail[:0], p[n-1024:n]...)
	} else if n > 0 {
		e.tail = append(e.tail, p[:n]...)
		if len(e.tail) > 1024 {
			e.tail = e.tail[len(e.tail)-1024:]
		}
	}
	return n, err
}

func (e *endMark) seen() bool {
	for _, b := range e.tail {
		if b != 0 {
			return false
		}
	}
	return len(e.tail) == 1024
}

// DiskUsage adds up the blocks of a tree, hard links once.
func DiskUsage(ctx context.Context, path string) (int64, error) {
	var total int64
	seen := map[uint64]bool{}
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it is in use
			}
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		total += st.Blocks * 512
		return nil
	})
	return total, err
}
