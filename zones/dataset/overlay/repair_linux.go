package overlay

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// repair finishes what killed processes left: a snapshot half made is undone, a rollback is finished, layers that
// nothing stands on are deleted.
func (p *Pool) repair(ctx context.Context) error {
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := p.dir.All()
	if err != nil {
		return err
	}
	for name, r := range all {
		dir := p.dir.Dataset(name)
		if r.Pending != nil {
			p.log.Info("settle what was under way", "dataset", name, "verb", r.Pending.Verb)
			switch r.Pending.Verb {
			case "snapshot":
				err = p.unfreeze(dir, r)
			case "rollback":
				err = p.rollback(name, r)
			default:
				err = fmt.Errorf("unknown verb %q", r.Pending.Verb)
			}
			if err != nil {
				return fmt.Errorf("repair dataset %s: %w", name, err)
			}
		}
		if stray, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(stray) > 0 {
			for _, s := range stray {
				os.Remove(s)
			}
		}
	}
	return p.sweep()
}
