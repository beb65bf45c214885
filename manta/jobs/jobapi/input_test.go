package jobapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
)

// TestManyInputs streams more lines than a batch holds, in pieces of any size.
func TestManyInputs(t *testing.T) {
	w := newWorld(t)
	id := w.create("alice", "alice", simple)
	const n = 50_000
	var text bytes.Buffer
	for i := range n {
		fmt.Fprintf(&text, "/alice/stor/objects/%d\r\n", i)
	}
	r := w.request("alice", "POST", "/alice/jobs/"+id+"/live/in?end=true", io.NopCloser(&text)) // chunked
	if a := w.send(r); a.StatusCode != 204 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	i, batches := 0, 0
	for in, err := range w.records.Inputs(t.Context(), id, 0) {
		w.must(err)
		batches++
		for _, p := range in.Paths {
			if p != fmt.Sprintf("/alice/stor/objects/%d", i) {
				t.Fatalf("input %d is %q", i, p)
			}
			i++
		}
	}
	j, err := w.records.Get(t.Context(), id)
	w.must(err)
	if i != n || !j.InputDone() {
		t.Errorf("%d inputs, ended %v", i, j.InputDone())
	}
	t.Logf("%d records", batches)
}

// TestInputStreams has a client that says something and waits: it is stored before the request ends. What comes after the job was cancelled is refused.
func TestInputStreams(t *testing.T) {
	w := newWorld(t)
	id := w.create("alice", "alice", simple)
	from, err := w.records.Position(t.Context())
	w.must(err)
	pr, pw := io.Pipe()
	answered := make(chan answer, 1)
	go func() { answered <- w.send(w.request("alice", "POST", "/alice/jobs/"+id+"/live/in", pr)) }()
	write := func(s string) {
		t.Helper()
		_, err := io.WriteString(pw, s)
		w.must(err)
	}
	arrive := func(want ...string) {
		t.Helper()
		for e, err := range w.records.Watch(t.Context(), from) {
			w.must(err)
			from = e.Position
			got, err := w.records.RecentInputs(t.Context(), id, 10)
			w.must(err)
			if slices.Equal(got, want) {
				return
			}
		}
	}
	write("/a\n/b\n/ha")
	arrive("/a", "/b")
	write("lf\n")
	arrive("/a", "/b", "/half")
	w.must(w.records.Cancel(t.Context(), id))
	write("/late\n")
	pw.Close()
	if a := <-answered; a.StatusCode != 409 || a.code() != CodeInvalidJobState || !strings.Contains(a.body, "'cancelled'") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	arrive("/a", "/b", "/half")
}

// TestInputBreaksOff has a client go away in the middle: whole lines are stored, the last piece is not.
func TestInputBreaksOff(t *testing.T) {
	var got []string
	take := func(paths []string) error {
		got = append(got, paths...)
		return nil
	}
	broken := errors.New("broken")
	err := readLines(io.MultiReader(strings.NewReader("/a\n/b\n/c"), iotest.ErrReader(broken)), take)
	if !errors.Is(err, broken) || !slices.Equal(got, []string{"/a", "/b"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzReadLines: however the text is cut into reads, the lines are the same.
func FuzzReadLines(f *testing.F) {
	f.Add([]byte("/a\r\n\r\n/b\n\n/c"), uint64(1))
	f.Add([]byte("\r\r\n\n\x00\xff"), uint64(2))
	f.Add(bytes.Repeat([]byte("x"), jobs.MaxInput+2), uint64(3))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		var want []string
		tooLong := false
		for line := range strings.SplitSeq(string(text), "\n") {
			line = strings.TrimSuffix(line, "\r")
			if len(line) > jobs.MaxInput {
				tooLong = true
				break
			}
			if line != "" {
				want = append(want, line)
			}
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		var got []string
		err := readLines(&pieces{text, rng}, func(paths []string) error {
			got = append(got, paths...)
			return nil
		})
		if !slices.Equal(got, want) || (err != nil) != tooLong {
			t.Fatalf("%q, %v; want %q, too long %v", got, err, want, tooLong)
		}
		if e, ok := errors.AsType[*manta.Error](err); err != nil && (!ok || e.Status != 400) {
			t.Fatalf("error %v", err)
		}
	})
}

// pieces reads a few bytes at a time.
type pieces struct {
	rest []byte
	rng  *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), 1+p.rng.IntN(10))], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
