package datasettest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/mobulacloud/mobula/zones/dataset"
)

func fullStream(s *suite) {
	ctx, p := s.Context(), s.pool
	s.create("a")
	s.must(s.in("a", func(r *os.Root) error {
		return errors.Join(r.MkdirAll("d/e", 0o700), r.WriteFile("d/e/f", bytes.Repeat([]byte("abc"), 100_000), 0o640),
			r.Symlink("/etc/passwd", "link"), r.Link("d/e/f", "hard"), r.Lchown("link", 7, 8), r.Chown("d", 9, 10))
	}))
	s.snap("a", "s")
	s.write("a", "later", "x")
	var b bytes.Buffer
	s.must(p.Send(ctx, &b, dataset.Ref{Dataset: "a", Snapshot: "s"}, ""))
	b.WriteString("what follows")
	i, err := p.Receive(ctx, &b, "b", "t", dataset.Options{})
	s.must(err)
	if b.String() != "what follows" {
		s.Errorf("receive left %q", b.String())
	}
	if i.Name != "b" || len(i.Snapshots) != 1 || i.Snapshots[0].Name != "t" {
		s.Errorf("received = %+v", i)
	}
	s.must(s.in("b", func(r *os.Root) error {
		to, err := r.Readlink("link")
		if err != nil || to != "/etc/passwd" {
			return fmt.Errorf("link = %q, %v", to, err)
		}
		if f, err := r.ReadFile("hard"); err != nil || len(f) != 300_000 {
			return fmt.Errorf("hard link has %d bytes, %v", len(f), err)
		}
		fi, err := r.Stat("d/e/f")
		if err != nil || fi.Mode() != 0o640 {
			return fmt.Errorf("mode = %v, %v", fi.Mode(), err)
		}
		if _, err := r.Lstat("later"); err == nil {
			return errors.New("what was written after the snapshot was sent")
		}
		return r.WriteFile("new", nil, 0o644)
	}))
}

func cutStream(s *suite) {
	s.create("a")
	s.write("a", "f", strings.Repeat("x", 50_000))
	s.snap("a", "s")
	var b bytes.Buffer
	s.must(s.pool.Send(s.Context(), &b, dataset.Ref{Dataset: "a", Snapshot: "s"}, ""))
	for _, n := range []int{0, 5, 100, b.Len() / 2, b.Len() - 1} {
		_, err := s.pool.Receive(s.Context(), bytes.NewReader(b.Bytes()[:n]), "b", "t", dataset.Options{})
		s.want(err, dataset.ErrBadStream)
	}
	_, err := s.pool.Receive(s.Context(), strings.NewReader(strings.Repeat("rubbish", 1000)), "b", "t", dataset.Options{})
	s.want(err, dataset.ErrBadStream)
	s.wantList("a")
}

func incrementalStream(s *suite) {
	ctx, p := s.Context(), s.pool
	s.create("a")
	s.write("a", "f", "1")
	s.snap("a", "one")
	var full, more bytes.Buffer
	s.must(p.Send(ctx, &full, dataset.Ref{Dataset: "a", Snapshot: "one"}, ""))
	s.write("a", "f", "2")
	s.write("a", "g", strings.Repeat("y", 10_000))
	s.snap("a", "two")
	err := p.Send(ctx, &more, dataset.Ref{Dataset: "a", Snapshot: "two"}, "one")
	if !p.Capabilities().IncrementalSend {
		s.want(err, dataset.ErrUnsupported)
		s.Skip("the pool declares no incremental send")
	}
	s.must(err)
	_, err = p.Receive(ctx, bytes.NewReader(more.Bytes()), "b", "two", dataset.Options{})
	s.want(err, dataset.ErrBadStream) // its base is not there
	_, err = p.Receive(ctx, bytes.NewReader(full.Bytes()), "b", "one", dataset.Options{})
	s.must(err)
	s.write("b", "mine", "lost")
	_, err = p.Receive(ctx, bytes.NewReader(more.Bytes()[:more.Len()-3]), "b", "two", dataset.Options{})
	s.want(err, dataset.ErrBadStream)
	s.wantTree("b", "f=1", "mine=lost")
	_, err = p.Receive(ctx, bytes.NewReader(more.Bytes()), "b", "two", dataset.Options{})
	s.must(err)
	s.wantTree("b", "f=2", "g="+strings.Repeat("y", 10_000))
	s.wantSnapshots("b", "one", "two")
	s.must(p.Rollback(ctx, "b", "one"))
	s.wantTree("b", "f=1")
}
