package pool_test

import (
	"context"
	"fmt"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/pool"
	"github.com/mobulacloud/mobula/zones/zonestest"
)

// A pool over a driver, here the fake, keeps two zones warm.
func Example() {
	next := 0
	machines := &pool.Machines{
		Driver: zonestest.NewFake(),
		Prepare: func(_ context.Context, c pool.Class) (zones.Machine, error) { // a clone of the image, a network, …
			next++
			return zones.Machine{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", next), Spec: &zones.Spec{Brand: zones.BrandMinimal},
				RunDir: "/run/example", IDs: zones.IDRange{First: 100000, Size: 65536}, Limits: c.Limits}, nil
		},
		Release: func(context.Context, zones.Machine) error { return nil },
	}
	p, err := pool.New(pool.Config{Factory: machines, Max: 4, Workers: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()

	class := pool.Class{Image: "sparse", Limits: zones.Limits{Memory: 128 << 20}}
	p.Want(class, 2)
	lease, err := p.Get(ctx, class)
	if err != nil {
		fmt.Println(err)
		return
	}
	st, err := zones.Run(ctx, machines.Driver, lease.Zone().ID, zones.ExecRequest{Args: []string{"true"}})
	fmt.Println(st.Success(), err)
	lease.Return()
	stop()
	fmt.Println(<-done)
	// Output:
	// true <nil>
	// <nil>
}
