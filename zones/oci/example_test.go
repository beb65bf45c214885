//go:build linux && cgo

package oci_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci"
)

// A machine with the host's programs and a root directory of its own. As root; zones/host prepares all of this for you.
func Example() {
	d, err := oci.New(oci.Config{StateDir: "/run/example/oci"})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	ctx := context.Background()
	m := zones.Machine{
		ID:     "6b4eeebf-5d2f-4a8b-9f0e-8d1f0a3a4d55",
		Spec:   &zones.Spec{Brand: zones.BrandMinimal},
		RunDir: "/run/example/zone",
		Root:   zones.Root{Path: "/srv/example/root"},
		Mounts: []zones.Mount{{Source: "/usr", Target: "/usr", ReadOnly: true}},
		IDs:    zones.IDRange{First: 1 << 20, Size: 65536},
		Limits: zones.Limits{Memory: 256 << 20, Swap: 256 << 20, LWPs: 200},
	}
	h, err := d.Start(ctx, m)
	if err != nil {
		log.Fatal(err)
	}
	defer d.Destroy(ctx, m.ID)
	fmt.Println("keep this for Recover:", h.Version, len(h.Data))
	st, err := zones.Run(ctx, d, m.ID, zones.ExecRequest{Args: []string{"/usr/bin/uname", "-n"}, Stdout: os.Stdout})
	fmt.Println(st.Code, err)
}
