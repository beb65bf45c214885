package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// A Video is what there is to know of a file with one track of pictures.
type Video struct {
	Name      string `json:"name"`
	Codec     string `json:"codec"` // four letters
	Width     int    `json:"width"`
	Height    int    `json:"height"`
	Frames    int    `json:"frames"`
	Timescale int    `json:"timescale"` // units of time in a second
	Duration  int64  `json:"duration"`  // in units of time

	// TablesLast says that the tables are behind the pictures, as a camera writes them.
	TablesLast bool `json:"tables_last"`
}

// Seconds is how long the video is.
func (v *Video) Seconds() float64 { return float64(v.Duration) / float64(v.Timescale) }

// errFormat says that a file is none of the kind that is understood.
var errFormat = errors.New("not a video file that is understood")

// maxTables bounds what is read of a file: its tables, without the pictures.
const maxTables = 16 << 20

// Probe reads what a file says of itself. It skips the pictures.
func Probe(r io.ReadSeeker) (*Video, error) {
	end, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	v := &Video{}
	var tables []byte
	pictures, typed := false, false
	for at := int64(0); at < end; {
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			return nil, err
		}
		kind, head, size, err := readBox(r, end-at)
		if err != nil {
			return nil, err
		}
		switch kind {
		case "ftyp":
			typed = true
		case "mdat":
			pictures = true
		case "moov":
			if tables != nil || size-head > maxTables {
				return nil, fmt.Errorf("%w: its tables are too large, or twice", errFormat)
			}
			v.TablesLast = pictures
			tables = make([]byte, size-head)
			if _, err := io.ReadFull(r, tables); err != nil {
				return nil, err
			}
		}
		at += size
	}
	if !typed || tables == nil {
		return nil, fmt.Errorf("%w: it has no tables", errFormat)
	}
	if err := v.tables(tables); err != nil {
		return nil, err
	}
	if v.Codec == "" || v.Timescale == 0 {
		return nil, fmt.Errorf("%w: it has no pictures", errFormat)
	}
	return v, nil
}

// readBox reads the head of a box, of which at most left bytes are there.
func readBox(r io.Reader, left int64) (kind string, head, size int64, err error) {
	var b [16]byte
	if _, err := io.ReadFull(r, b[:8]); err != nil {
		return "", 0, 0, fmt.Errorf("%w: %w", errFormat, err)
	}
	head, size = 8, int64(binary.BigEndian.Uint32(b[:]))
	switch size {
	case 0: // to the end of the file
		size = left
	case 1:
		if _, err := io.ReadFull(r, b[8:]); err != nil {
			return "", 0, 0, fmt.Errorf("%w: %w", errFormat, err)
		}
		head, size = 16, int64(binary.BigEndian.Uint64(b[8:]))
	}
	if size < head || size > left {
		return "", 0, 0, fmt.Errorf("%w: a box of %d bytes where %d are left", errFormat, size, left)
	}
	return string(b[4:8]), head, size, nil
}

// nested are boxes that hold nothing but boxes.
var nested = map[string]bool{"trak": true, "mdia": true, "minf": true, "stbl": true}

// tables reads boxes of tables, and those in them.
func (v *Video) tables(b []byte) error {
	for len(b) > 0 {
		kind, head, size, err := readBox(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		body := b[head:size]
		b = b[size:]
		switch {
		case nested[kind]:
			err = v.tables(body)
		case kind == "mdhd":
			err = v.mediaHeader(body)
		case kind == "stsd":
			err = v.sampleDescription(body)
		case kind == "stsz":
			if len(body) < 12 {
				err = errFormat
			} else {
				v.Frames = int(binary.BigEndian.Uint32(body[8:]))
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

// mediaHeader reads how long the track is: version and flags, two times, time scale, duration. Version 1 has longer times.
func (v *Video) mediaHeader(b []byte) error {
	switch {
	case len(b) >= 24 && b[0] == 0:
		v.Timescale, v.Duration = int(binary.BigEndian.Uint32(b[12:])), int64(binary.BigEndian.Uint32(b[16:]))
	case len(b) >= 32 && b[0] == 1:
		v.Timescale, v.Duration = int(binary.BigEndian.Uint32(b[20:])), int64(binary.BigEndian.Uint64(b[24:]))
	default:
		return errFormat
	}
	return nil
}

// sampleDescription reads the first entry: how pictures are coded, and how large they are.
func (v *Video) sampleDescription(b []byte) error {
	const entry = 8 // after version, flags and the number of entries
	if len(b) < entry+36 {
		return errFormat
	}
	e := b[entry:]
	v.Codec = string(e[4:8])
	for _, c := range e[4:8] {
		if c < ' ' || c > '~' {
			return errFormat
		}
	}
	v.Width, v.Height = int(binary.BigEndian.Uint16(e[32:])), int(binary.BigEndian.Uint16(e[34:]))
	return nil
}

// File returns the video as a file, with a number of bytes of noise for pictures.
func (v *Video) File(size int64) io.Reader {
	brand := box("ftyp", []byte("isom"), u32(512), []byte("isomiso2mp41"))
	head := append(append(u32(1), "mdat"...), binary.BigEndian.AppendUint64(nil, uint64(size+16))...)
	pictures := io.MultiReader(bytes.NewReader(head), io.LimitReader(rand.NewChaCha8([32]byte{byte(v.Frames), byte(v.Width)}), size))
	moov := bytes.NewReader(box("moov",
		box("mvhd", make([]byte, 100)),
		box("trak",
			box("mdia",
				box("mdhd", u32(0), u32(0), u32(0), u32(uint32(v.Timescale)), u32(uint32(v.Duration)), u32(0)),
				box("hdlr", u32(0), u32(0), []byte("vide"), make([]byte, 13)),
				box("minf", box("stbl",
					box("stsd", u32(0), u32(1), box(v.Codec, make([]byte, 24), u16(uint16(v.Width)), u16(uint16(v.Height)), make([]byte, 50))),
					box("stsz", u32(0), u32(uint32(size)/uint32(max(v.Frames, 1))), u32(uint32(v.Frames))),
				))))))
	if v.TablesLast {
		return io.MultiReader(bytes.NewReader(brand), pictures, moov)
	}
	return io.MultiReader(bytes.NewReader(brand), moov, pictures)
}

// box puts a box together.
func box(kind string, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	return append(append(u32(uint32(len(body)+8)), kind...), body...)
}

func u16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
