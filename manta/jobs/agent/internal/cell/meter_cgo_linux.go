//go:build cgo

package cell

import "github.com/mobulacloud/mobula/zones/oci"

func openMeter(d *oci.Driver, id string) (meter, error) {
	m, err := d.Meter(id)
	if err != nil {
		return nil, err
	}
	return m, nil
}
