package mpu

import (
	"context"
	"errors"
	"fmt"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// Abort ends an upload without an object. An upload that was aborted before is no error; one that was committed, or is about to be, is ErrCommitted.
func (s *Service) Abort(ctx context.Context, u *Upload) error {
	if u.State == StateFinalizing && u.Type == TypeCommit {
		return fmt.Errorf("%w: %s", ErrCommitted, u.ID)
	}
	if u.final != nil {
		return nil
	}
	if u.State == StateCreated {
		u.State, u.Type = StateFinalizing, TypeAbort
		if err := s.save(ctx, u); err != nil {
			return err
		}
	}
	return s.end(ctx, u)
}

// end writes the finalizing record of an abort.
func (s *Service) end(ctx context.Context, u *Upload) error {
	op, f := s.finalOp(u, "")
	if _, err := s.cfg.Store.Commit(ctx, metastore.Batch{op}); err != nil && !errors.Is(err, metastore.ErrConflict) {
		return fmt.Errorf("abort upload %s: %w", u.ID, err)
	}
	u.final = f
	return nil
}
