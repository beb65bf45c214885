package firewall_test

import (
	"fmt"
	"net/netip"

	"github.com/mobulacloud/mobula/zones/network/firewall"
)

func Example() {
	rule, err := firewall.Parse("from subnet 10.0.0.0/8 to tag role=db allow tcp ports 5432, 6432-6440")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(rule)

	db := firewall.Machine{UUID: "9a343ca8-b42a-4a27-a9c5-800f57d1e8ed", Tags: map[string]string{"role": "db"}}
	policy := firewall.Compile(db, nil, []firewall.Entry{{UUID: "r1", Enabled: true, Rule: rule}})
	for _, peer := range []string{"10.1.2.3", "192.0.2.1"} {
		action, by := policy.Decide(firewall.Packet{
			Direction: firewall.In, Peer: netip.MustParseAddr(peer), Protocol: firewall.TCP, Port: 6433,
		})
		fmt.Printf("%s: %s %s\n", peer, action, by)
	}
	// Output:
	// FROM subnet 10.0.0.0/8 TO tag "role" = "db" ALLOW tcp PORTS 5432, 6432 - 6440
	// 10.1.2.3: ALLOW r1
	// 192.0.2.1: BLOCK
}
