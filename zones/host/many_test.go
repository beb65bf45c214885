//go:build linux

package host

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// Fifty zones at once, each with an interface: created, used and deleted, four at a time. Afterwards the system holds what it held after the
// first one.
func TestFiftyZones(t *testing.T) {
	const zonesAtOnce = 50
	l := newLab(t, lab{btrfs: true, network: true})
	o := l.must(t)
	ctx := t.Context()
	make := func(i int) *zones.Spec {
		return spec(t, fmt.Sprintf(`"alias":"z%d","max_lwps":50,"nics":[{"nic_tag":"external","ip":"10.76.0.%d","netmask":"255.255.255.0"}]`, i, i+10))
	}
	warm, err := o.Create(ctx, make(200)) // image, bridge and tables are made once
	if err != nil {
		t.Fatal(err)
	}
	o.sh(t, warm.UUID, "true")
	if err := o.Delete(ctx, warm.UUID); err != nil {
		t.Fatal(err)
	}
	before, files, memory := census(t, l), openFiles(), heap()
	if before["interfaces"] == 0 || before["mounts"] == 0 || before["loop devices"] != 1 {
		t.Errorf("the census sees neither bridge nor pool: %v", before)
	}
	ids := [zonesAtOnce]string{}
	errs := [zonesAtOnce]error{}
	parallel(zonesAtOnce, func(i int) {
		z, err := o.Create(ctx, make(i))
		if err != nil {
			errs[i] = err
			return
		}
		ids[i] = z.UUID
		out, err := o.try(ctx, z.UUID, "hostname > /root/me; grep -c net0 /proc/net/dev; cat /root/me")
		if want := "1\n" + z.UUID + "\n"; err == nil && out != want {
			err = fmt.Errorf("zone %d prints %q, want %q", i, out, want)
		}
		errs[i] = err
	})
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	list, err := o.List(ctx, Filter{})
	if err != nil || len(list) != zonesAtOnce {
		t.Fatalf("%d zones, %v", len(list), err)
	}
	seen := map[uint32]bool{}
	for _, z := range list {
		if z.State != zones.StateRunning {
			t.Errorf("%s is %s", z.UUID, z.State)
		}
		r, err := o.load(z.UUID)
		if err != nil || seen[r.IDs.First] {
			t.Errorf("ids of %s: %v, %v; two zones share them", z.UUID, r.IDs, err)
		}
		seen[r.IDs.First] = true
	}
	parallel(zonesAtOnce, func(i int) { errs[i] = o.Delete(ctx, ids[i]) })
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	// The kernel and the runtime let go of the last of it a moment later.
	deadline := time.Now().Add(10 * time.Second)
	for {
		after, same := census(t, l), true
		for k, n := range after {
			same = same && n <= before[k]
		}
		if same {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("left over:\nbefore %v\nafter  %v\nopen before: %q\nopen after:  %q", before, after, files, openFiles())
		}
		time.Sleep(20 * time.Millisecond)
	}
	more := heap() - memory
	t.Logf("%d bytes of memory more than before", more)
	if more > 1<<20 {
		t.Errorf("%d bytes of memory are still held", more)
	}
	if left, _ := o.pool.List(ctx); len(left) != 1 {
		t.Errorf("datasets left: %d", len(left)-1)
	}
}

// parallel runs f for 0 to n-1, four at a time.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
