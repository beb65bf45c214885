package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow bounds the memory a decompressor takes because a file says so; xz -9 asks for 64 MiB.
const maxWindow = 128 << 20

var magics = []struct {
	name  string
	magic []byte
}{
	{"gzip", []byte{0x1f, 0x8b}},
	{"bzip2", []byte("BZh")},
	{"xz", []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
	{"zstd", []byte{0x28, 0xb5, 0x2f, 0xfd}},
}

// sniff names the compression of what r holds, "none" if it is none of ours.
func sniff(r *bufio.Reader) string {
	head, _ := r.Peek(8)
	for _, m := range magics {
		if bytes.HasPrefix(head, m.magic) {
			return m.name
		}
	}
	return "none"
}

// Decompress undoes a compression of the manifest's names; "" finds out itself.
func Decompress(in io.Reader, compression string) (io.ReadCloser, error) {
	r := bufio.NewReaderSize(in, 128<<10)
	found := sniff(r)
	if compression == "" {
		compression = found
	}
	if compression != found && compression != "none" {
		return nil, fmt.Errorf("%w: the file is not compressed with %s", ErrRefused, compression)
	}
	switch compression {
	case "none":
		return io.NopCloser(r), nil
	case "gzip":
		return gzip.NewReader(r)
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(r)), nil
	case "xz":
		if err := checkXZ(r); err != nil {
			return nil, err
		}
		x, err := xz.ReaderConfig{SingleStream: true}.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrRefused, err)
		}
		return io.NopCloser(x), nil
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("%w: compression %.20q", ErrRefused, compression)
}

// checkXZ refuses a dictionary beyond maxWindow, which the library would allocate unseen. The first block header is at byte 12:
// size, flags, optional sizes, then filters, of which LZMA2 (0x21) has one byte of properties.
func checkXZ(r *bufio.Reader) error {
	head, _ := r.Peek(12 + 64)
	if len(head) < 16 {
		return fmt.Errorf("%w: xz cut short", ErrRefused)
	}
	block := head[12:]
	at := 2
	for flag := byte(0x40); flag != 0 && flag >= 0x40; flag <<= 1 {
		if block[1]&flag == 0 {
			continue
		}
		for at < len(block) && block[at]&0x80 != 0 {
			at++
		}
		at++
	}
	if at+2 < len(block) && block[at] == 0x21 && block[at+1] == 1 {
		bits := block[at+2] & 0x3f
		if bits > 40 || int64(2|bits&1)<<(bits/2+11) > maxWindow {
			return fmt.Errorf("%w: xz dictionary too large", ErrRefused)
		}
	}
	return nil
}

// compressor wraps w; closing it finishes the compressed stream and leaves w open.
func compressor(w io.Writer, compression string) (io.WriteCloser, error) {
	switch compression {
	case "none":
		return nopCloser{w}, nil
	case "gzip", "":
		return gzip.NewWriter(w), nil
	case "xz":
		return xz.NewWriter(w)
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(2))
	}
	return nil, fmt.Errorf("cannot compress with %q", compression)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
