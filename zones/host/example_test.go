//go:build linux

package host_test

import (
	"context"
	"fmt"
	"os"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset/overlay"
	"github.com/mobulacloud/mobula/zones/host"
	"github.com/mobulacloud/mobula/zones/image"
	"github.com/mobulacloud/mobula/zones/oci"
)

// A zone of the built-in image, with nothing to download: made, used and removed. It needs root.
func Example() {
	ctx := context.Background()
	err := func() error {
		pool, err := overlay.Open(ctx, overlay.Config{Dir: "/var/lib/example/pool"})
		if err != nil {
			return err
		}
		images, err := image.Open(ctx, image.Config{Dir: "/var/lib/example/images", Pool: pool})
		if err != nil {
			return err
		}
		driver, err := oci.New(oci.Config{StateDir: "/run/example"})
		if err != nil {
			return err
		}
		h, err := host.Open(ctx, host.Config{Dir: "/var/lib/example/zones", Pool: pool, Images: images, Drivers: []zones.Driver{driver}})
		if err != nil {
			return err
		}
		defer h.Close()
		spec, err := zones.ParseSpec([]byte(`{"brand":"joyent","image_uuid":"sparse","max_physical_memory":128}`))
		if err != nil {
			return err
		}
		z, err := h.Create(ctx, spec)
		if err != nil {
			return err
		}
		p, err := h.Exec(ctx, z.UUID, zones.ExecRequest{Args: []string{"id"}, Stdout: os.Stdout})
		if err != nil {
			return err
		}
		if _, err := p.Wait(); err != nil {
			return err
		}
		return h.Delete(ctx, z.UUID)
	}()
	if err != nil {
		fmt.Println(err)
	}
}

// Filters are vmadm lookup's: any property, and what is inside it.
func ExampleParseFilter() {
	z := &zones.Zone{Spec: zones.Spec{Alias: "web1", NICs: []zones.NIC{{IP: "10.0.0.2"}}}, State: zones.StateRunning}
	f, err := host.ParseFilter("state=running", "alias=~^web", "nics.*.ip=10.0.0.2")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(f.Match(z))
	// Output: true <nil>
}
