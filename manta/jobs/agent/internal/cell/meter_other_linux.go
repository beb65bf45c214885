//go:build !cgo

package cell

import (
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci"
)

func openMeter(*oci.Driver, string) (meter, error) { return nil, zones.ErrNotSupported }
