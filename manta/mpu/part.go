package mpu

import (
	"context"
	"fmt"
	"strconv"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
)

// PartNumber reads the number of a part: 0 to 9999 in decimal, without more zeros than it needs.
func PartNumber(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n < MaxParts && strconv.Itoa(n) == s
}

// A Part is the place of one part of an upload. To put a part, write its bytes to Upload.Sharks and then its entry with Options as
// given: that fails with namespace.ErrConcurrent when the upload was finalized in the meantime.
type Part struct {
	Upload  *Upload
	Key     manta.Key
	Options namespace.Options
}

// Part looks up the place of a part. It returns ErrFinal when the upload takes no more parts.
func (s *Service) Part(ctx context.Context, u *Upload, number int) (*Part, error) {
	if u.State != StateCreated {
		return nil, fmt.Errorf("%w: %s", ErrFinal, u.ID)
	}
	key := u.Dir().Join(strconv.Itoa(number))
	st, err := s.cfg.Namespace.Look(ctx, key, true)
	if err != nil {
		return nil, err
	}
	if st.NoParent != nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, u.ID)
	}
	// The record that counts is the one read with the part, not the one read before.
	now, err := parse(&namespace.State{Key: u.Dir(), Entry: st.Parent})
	if err != nil {
		return nil, err
	}
	if now.State != StateCreated {
		return nil, fmt.Errorf("%w: %s", ErrFinal, u.ID)
	}
	return &Part{Upload: u, Key: key, Options: namespace.Options{Seen: st, SameParent: true}}, nil
}
