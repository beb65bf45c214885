//go:build !linux || !cgo

package oci

import (
	"fmt"

	"github.com/mobulacloud/mobula/zones"
)

// Driver is a stand-in where OS containers cannot run, so that programs that offer them where they can build everywhere.
type Driver struct{ zones.Driver }

// New gives zones.ErrNotSupported.
func New(Config) (*Driver, error) {
	return nil, fmt.Errorf("%w: OS containers need Linux and a program built with cgo", zones.ErrNotSupported)
}

// Close does nothing.
func (d *Driver) Close() error { return nil }
