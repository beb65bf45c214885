package front

import (
	"context"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage/durable"
)

// Recover completes the puts that a crash interrupted, and from then on lets the record of a put be written beside its bytes. It is for a front whose
// storage nodes are in the same process: they must be known, and the doors still shut.
func (f *Front) Recover(ctx context.Context) error {
	return f.Namespace.Recover(ctx, func(ctx context.Context, e *manta.Entry) (bool, error) {
		id, err := e.BytesID()
		if err != nil {
			return false, err
		}
		return f.Storage.Exists(ctx, durable.Location{ID: id, Size: e.Size, Sharks: e.Sharks})
	})
}
