//go:build linux

package host

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

func header(t testing.TB, h sendHeader) []byte {
	t.Helper()
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	io.WriteString(&out, sendMagic)
	c := &chunkWriter{w: &out}
	c.Write(b)
	c.end()
	return out.Bytes()
}

func TestChunks(t *testing.T) {
	var out bytes.Buffer
	c := &chunkWriter{w: &out}
	want := bytes.Repeat([]byte("0123456789"), 300_000)
	if n, err := c.Write(want); n != len(want) || err != nil {
		t.Fatal(n, err)
	}
	c.end()
	whole := bytes.Clone(out.Bytes())
	out.WriteString("what follows")
	got, err := io.ReadAll(&chunkReader{r: &out})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if out.String() != "what follows" {
		t.Errorf("left %q", out.String())
	}
	if _, err := io.ReadAll(&chunkReader{r: bytes.NewReader(whole[:len(whole)-3])}); err != io.ErrUnexpectedEOF {
		t.Errorf("cut message: %v, want unexpected EOF", err)
	}
}

func FuzzReadHeader(f *testing.F) {
	s := &zones.Spec{UUID: "c0c0c0c0-0000-4000-8000-000000000001", Brand: zones.BrandJoyent, ImageUUID: "sparse"}
	f.Add(header(f, sendHeader{Version: 1, Spec: s, Created: time.Unix(0, 0), Datasets: []string{"root"}}))
	f.Add(header(f, sendHeader{Version: 1, Spec: s, Datasets: []string{"root", "../../x"}}))
	f.Add([]byte(sendMagic + "\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHeader(bytes.NewReader(b))
		if err == nil && (h.Spec == nil || len(h.Datasets) == 0 || h.Datasets[0] != "root") {
			t.Errorf("accepted %+v", h)
		}
	})
}
