package overlay

import (
	"context"
	"fmt"

	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
)

// repair finishes what killed processes left: a snapshot half made is undone, a rollback is finished, layers that
// nothing stands on are deleted.
func (p *Pool) repair(ctx context.Context) error {
	return p.dir.Repair(ctx, p.repairOne, p.sweep)
}

func (p *Pool) repairOne(name string, r pooldir.Record) error {
	if r.Pending == nil {
		return nil
	}
	p.log.Info("settle what was under way", "dataset", name, "verb", r.Pending.Verb)
	switch r.Pending.Verb {
	case "snapshot":
		return p.unfreeze(p.dir.Dataset(name), r)
	case "rollback":
		return p.rollback(name, r)
	}
	return fmt.Errorf("unknown verb %q", r.Pending.Verb)
}
