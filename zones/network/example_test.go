//go:build linux

package network_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/network"
	"github.com/mobulacloud/mobula/zones/network/firewall"
)

// A zone on a network that ends on this host, behind NAT, with a firewall that lets the web in. It needs root, so it is not
// run here.
func Example() {
	ctx := context.Background()
	n, err := network.Open(ctx, network.Config{Dir: "/run/mobula/netns"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer n.Close()
	subnet := netip.MustParsePrefix("10.88.0.1/24")
	if err := n.PutTag(ctx, network.Tag{Name: "internal"}); err != nil {
		fmt.Println(err)
		return
	}
	if err := n.PutGateway(ctx, network.Gateway{Tag: "internal", Addresses: []netip.Prefix{subnet}, NAT: true}); err != nil {
		fmt.Println(err)
		return
	}
	rule, err := firewall.Parse("FROM any TO all vms ALLOW tcp (PORT 80 AND PORT 443)")
	if err != nil {
		fmt.Println(err)
		return
	}
	const zone = "9a343ca8-b42a-4a27-a9c5-800f57d1e8ed"
	policy := firewall.Compile(firewall.Machine{UUID: zone}, nil, []firewall.Entry{{UUID: "web", Enabled: true, Rule: rule}})
	a, err := n.Attach(ctx, network.Request{
		Zone:   zone,
		NICs:   []zones.NIC{{MAC: "90:b8:d0:12:34:56", NICTag: "internal", IPs: []string{"10.88.0.2/24"}, Gateway: "10.88.0.1"}},
		Policy: &policy,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("run the zone in", a.NetNS)
}
