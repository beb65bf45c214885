package datasettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/zones/dataset"
)

func reopened(s *suite) {
	ctx := s.Context()
	s.create("a")
	s.write("a", "f", "1")
	s.snap("a", "s")
	s.write("a", "f", "2")
	_, err := s.pool.Clone(ctx, dataset.Ref{Dataset: "a", Snapshot: "s"}, "b", dataset.Options{})
	s.must(err)
	before, err := s.pool.List(ctx)
	s.must(err)
	s.reopen()
	after, err := s.pool.List(ctx)
	s.must(err)
	if d := cmp.Diff(before, after); d != "" {
		s.Errorf("list after opening again (-before +after):\n%s", d)
	}
	s.wantTree("a", "f=2")
	s.wantTree("b", "f=1")
	s.must(s.pool.Rollback(ctx, "a", "s"))
	s.wantTree("a", "f=1")
}

func cancelled(s *suite) {
	s.create("a")
	s.snap("a", "s")
	var b bytes.Buffer
	s.must(s.pool.Send(s.Context(), &b, dataset.Ref{Dataset: "a", Snapshot: "s"}, ""))
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	_, err := s.pool.Receive(ctx, &b, "b", "s", dataset.Options{})
	s.want(err, context.Canceled)
	s.want(s.pool.Send(ctx, &bytes.Buffer{}, dataset.Ref{Dataset: "a", Snapshot: "s"}, ""), context.Canceled)
	s.wantList("a")
}

func concurrent(s *suite) {
	s.create("image")
	s.write("image", "f", "1")
	s.snap("image", "s")
	var wg sync.WaitGroup
	errs := make([]error, 12)
	for i := range errs {
		wg.Go(func() {
			name := fmt.Sprintf("z%02d", i)
			_, err := s.pool.Clone(s.Context(), dataset.Ref{Dataset: "image", Snapshot: "s"}, name, dataset.Options{Volatile: i%2 == 0})
			if err == nil {
				_, err = s.pool.Snapshot(s.Context(), name, "x")
			}
			if err == nil && i%3 == 0 {
				err = s.pool.Delete(s.Context(), name)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	s.must(errors.Join(errs...))
	l, err := s.pool.List(s.Context())
	s.must(err)
	if len(l) != 9 {
		s.Errorf("%d datasets, want 9", len(l))
	}
}
