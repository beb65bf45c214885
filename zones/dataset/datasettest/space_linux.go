package datasettest

import (
	"os"

	"github.com/mobulacloud/mobula/zones/dataset"
)

// fill writes until it is refused or n bytes are on disk.
func (s *suite) fill(name string, n int) error {
	s.Helper()
	return s.in(name, func(r *os.Root) error {
		f, err := r.Create("big")
		if err != nil {
			return err
		}
		defer f.Close()
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = byte(i * 7)
		}
		for ; n > 0; n -= len(block) {
			if _, err := f.Write(block); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
		}
		return f.Close()
	})
}

func quota(s *suite) {
	if !s.pool.Capabilities().Quota {
		s.Skip("the pool declares no quota")
	}
	ctx, p := s.Context(), s.pool
	s.create("image")
	s.must(s.fill("image", 8<<20))
	s.snap("image", "s")
	_, err := p.Clone(ctx, dataset.Ref{Dataset: "image", Snapshot: "s"}, "a", dataset.Options{Quota: 4 << 20})
	s.must(err)
	if i, _ := p.Get(ctx, "a"); i.Quota != 4<<20 {
		s.Errorf("quota = %d", i.Quota)
	}
	s.must(s.in("a", func(r *os.Root) error { return r.WriteFile("small", []byte("x"), 0o644) }))
	if err := s.fill("a", 16<<20); err == nil {
		s.Error("16 MiB fit into a quota of 4 MiB")
	}
	s.must(p.SetQuota(ctx, "a", 0))
	s.must(s.fill("a", 16<<20))
	s.must(p.SetQuota(ctx, "a", 64<<20))
	s.snap("a", "s")
	s.must(p.Rollback(ctx, "a", "s"))
	if err := s.fill("a", 100<<20); err == nil {
		s.Error("the quota is lost with a rollback")
	}
}

func noQuota(s *suite) {
	if s.pool.Capabilities().Quota {
		s.Skip("the pool has quotas")
	}
	_, err := s.pool.Create(s.Context(), "a", dataset.Options{Quota: 1 << 20})
	s.want(err, dataset.ErrUnsupported)
	_, err = s.pool.Create(s.Context(), "a", dataset.Options{Within: "b"})
	s.want(err, dataset.ErrUnsupported)
	s.wantList()
	s.create("a")
	s.want(s.pool.SetQuota(s.Context(), "a", 1<<20), dataset.ErrUnsupported)
	s.must(s.pool.SetQuota(s.Context(), "a", 0))
}

func within(s *suite) {
	if !s.pool.Capabilities().SharedQuota {
		s.Skip("the pool declares no shared quota")
	}
	_, err := s.pool.Create(s.Context(), "a", dataset.Options{Quota: 8 << 20})
	s.must(err)
	_, err = s.pool.Create(s.Context(), "data", dataset.Options{Within: "a"})
	s.must(err)
	s.must(s.fill("a", 5<<20))
	if err := s.fill("data", 5<<20); err == nil {
		s.Error("5 and 5 MiB fit into a quota of 8 MiB")
	}
	s.must(s.pool.Delete(s.Context(), "a"))
	s.wantList("data")
}

func usage(s *suite) {
	s.create("a")
	before, err := s.pool.Usage(s.Context(), "a")
	s.must(err)
	s.must(s.fill("a", 4<<20))
	full, err := s.pool.Usage(s.Context(), "a")
	s.must(err)
	if grown := full.Used - before.Used; grown < 4<<20 || grown > 5<<20 {
		s.Errorf("4 MiB written, usage grew by %d", grown)
	}
	s.must(s.in("a", func(r *os.Root) error { return r.Remove("big") }))
	after, err := s.pool.Usage(s.Context(), "a")
	s.must(err)
	if after.Used > before.Used+1<<20 {
		s.Errorf("usage after removal = %d, before the write %d", after.Used, before.Used)
	}
}
