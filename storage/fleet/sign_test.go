package fleet

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/storage"
)

// A node that was down for long is probed seldom. When it reports, which it does as soon as it has started, it is asked at once.
func TestReportOfADownNodeIsProbedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		defer w.run()()
		w.nodes["1.stor"].Kill()
		w.fleet.Observe("1.stor", fmt.Errorf("%w: test", storage.ErrUnavailable))
		time.Sleep(10 * time.Minute) // of fake time: the delay is at its longest
		if s := w.fleet.Nodes()[0]; s.Down == "" {
			t.Fatal("a killed node is up")
		}
		w.nodes["1.stor"].Revive()
		w.report("1.stor")
		began := time.Now()
		for w.fleet.Nodes()[0].Down != "" && time.Since(began) < time.Minute {
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the node was taken up %v after its report", took)
		}
	})
}
