package mpu

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
)

// join makes the target by reading the parts and writing them anew. It is for when they cannot be assembled where they lie: one of their nodes is down, or
// repair has moved a copy. cause is why.
func (s *Service) join(ctx context.Context, u *Upload, parts int, size int64, cause error) (durable.Stored, error) {
	s.log.Info("parts are copied, since they cannot be joined where they lie", "upload", u.ID, "err", cause)
	id := s.target(u)
	up, err := s.cfg.Storage.Create(ctx, durable.CreateRequest{ID: id, Size: size, Copies: len(u.Sharks)})
	if err != nil {
		return durable.Stored{}, fmt.Errorf("join upload %s: %w", u.ID, err)
	}
	defer up.Cancel()
	for i := range parts {
		if err := s.copyPart(ctx, up, u, i); err != nil {
			return durable.Stored{}, fmt.Errorf("join upload %s: part %d: %w", u.ID, i, err)
		}
	}
	stored, err := up.Commit(ctx)
	if err != nil {
		return stored, fmt.Errorf("join upload %s: %w", u.ID, err)
	}
	// Some of the upload's own nodes may have assembled the target before another failed.
	spare := slices.DeleteFunc(slices.Clone(u.Sharks), func(shark storage.Shark) bool { return slices.Contains(stored.Sharks, shark) })
	if len(spare) > 0 {
		if err := s.cfg.Storage.Delete(ctx, durable.Location{ID: id, Sharks: spare}); err != nil {
			s.log.Warn("a spare copy may stay behind", "object", id.String(), "err", err)
		}
	}
	return stored, nil
}

func (s *Service) copyPart(ctx context.Context, to io.Writer, u *Upload, n int) error {
	st, err := s.cfg.Namespace.Look(ctx, u.Dir().Join(strconv.Itoa(n)), false)
	if err != nil {
		return err
	}
	if st.Entry == nil {
		return ErrNotFound
	}
	if st.Entry.Size == 0 {
		return nil
	}
	loc, err := location(st.Entry)
	if err != nil {
		return err
	}
	r, err := s.cfg.Storage.Open(ctx, loc, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(to, r)
	return err
}

// location returns where a part's bytes are.
func location(e *manta.Entry) (durable.Location, error) {
	id, err := e.BytesID()
	return durable.Location{ID: id, Size: e.Size, Sharks: e.Sharks}, err
}
