package zones_test

import (
	"errors"
	"fmt"

	"github.com/mobulacloud/mobula/zones"
)

// A payload of vmadm create becomes a Spec.
func ExampleParseSpec() {
	spec, err := zones.ParseSpec([]byte(`{"brand": "joyent-minimal", "image_uuid": "sparse", "max_physical_memory": "512", "cpu_cap": 150}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	spec.SetDefaults()
	l := spec.Limits()
	fmt.Println(l.Memory>>20, "MiB,", l.CPUCap, "% of a CPU,", l.LWPs, "threads")
	// Output: 512 MiB, 150 % of a CPU, 2000 threads
}

// Every problem is reported at once, by property.
func ExampleValidationError() {
	_, err := zones.ParseSpec([]byte(`{"brand": "lx", "vcpus": 4, "cpu_cap": -1, "nics": [{"nic_tag": "admin"}]}`))
	if ve, ok := errors.AsType[*zones.ValidationError](err); ok {
		fmt.Println("bad:", ve.BadProperties, "values:", ve.BadValues, "missing:", ve.MissingProperties)
	}
	// Output: bad: [vcpus] values: [cpu_cap] missing: [image_uuid nics.0.ip]
}

// An update is checked by itself, then applied to a zone; what changed says when it takes hold.
func ExampleUpdate() {
	spec := &zones.Spec{Brand: zones.BrandMinimal, ImageUUID: zones.SparseImage, Tags: map[string]any{"role": "web"}}
	spec.SetDefaults()
	u, err := zones.ParseUpdate(spec.Brand, []byte(`{"cpu_cap": 300, "set_tags": {"role": "db"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, changes, live, err := u.Apply(spec)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range changes {
		fmt.Println(c.Action, c.Path, c.From, "→", c.To)
	}
	fmt.Println("takes hold:", live)
	// Output:
	// added [cpu_cap] <nil> → 300
	// changed [tags role] web → db
	// takes hold: now
}
