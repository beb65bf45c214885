//go:build linux

package kvm_test

import (
	"context"
	"fmt"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/kvm"
)

// A VM from a disk image. It needs root and QEMU, so it is not run here.
func Example() {
	ctx := context.Background()
	driver, err := kvm.Open(ctx, kvm.Config{StateDir: "/run/mobula/kvm"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer driver.Close() // the machine runs on
	fmt.Println("runs on", driver.Capabilities().Isolation)

	const id = "9a343ca8-b42a-4a27-a9c5-800f57d1e8ed"
	handle, err := driver.Start(ctx, zones.Machine{
		ID: id, RunDir: "/run/mobula/machines/" + id, IDs: zones.IDRange{First: 1000000, Size: 65536},
		Spec:   &zones.Spec{Brand: zones.BrandKVM, RAM: 512, VCPUs: 1},
		Disks:  []zones.Disk{{Path: "/var/lib/mobula/disk0.raw", Format: "raw"}},
		Limits: zones.Limits{Memory: 2 << 30},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("store this:", handle.ID, handle.Version) // kvm.Driver.Recover takes it back after a restart
	if err := driver.Stop(ctx, id, time.Minute); err != nil {
		fmt.Println(err)
	}
	if err := driver.Destroy(ctx, id); err != nil {
		fmt.Println(err)
	}
}
