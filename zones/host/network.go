package host

import (
	"context"

	"github.com/mobulacloud/mobula/zones"
)

// Network is what a host needs to connect zones. [NetworkOf] makes one of package network; every method may be repeated.
type Network interface {
	// Attach brings a zone's network to what its spec says, from whatever it is, and gives what a driver is handed.
	Attach(ctx context.Context, r NetworkRequest) (NetworkAttachment, error)
	// Detach removes all of a zone's network; a zone that never had one: nil.
	Detach(ctx context.Context, zone string) error
	// Usage reads the meters of a zone's interfaces.
	Usage(ctx context.Context, zone string) ([]zones.NetworkUsage, error)
	// Sweep removes the networks of all zones that keep does not keep.
	Sweep(ctx context.Context, keep func(zone string) bool) error
}

// NetworkRequest is a zone that is to be connected.
type NetworkRequest struct {
	Spec *zones.Spec
	// Owner is the user and group id that opens a VM's taps.
	Owner uint32
}

// NetworkAttachment is a zone's network as a driver takes it: a namespace for an OS container, taps for a VM.
type NetworkAttachment struct {
	NetNS      string
	Interfaces []zones.Interface
}
