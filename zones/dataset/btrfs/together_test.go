//go:build linux

package btrfs

import (
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/zones/dataset"
)

// Datasets with quotas come and go at the same time: what one deletion clears away is nothing that another creation has just made.
func TestQuotasComeAndGo(t *testing.T) {
	p, _ := loopPool(t, nil)
	defer p.Unmount()
	var g errgroup.Group
	for worker := range 4 {
		g.Go(func() error {
			for i := range 40 {
				name := fmt.Sprintf("d-%d-%d", worker, i)
				if _, err := p.Create(t.Context(), name, dataset.Options{Quota: 1 << 20, Volatile: true}); err != nil {
					return err
				}
				if err := p.Delete(t.Context(), name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
