package aperture_test

import (
	"fmt"

	"github.com/mobulacloud/mobula/sdc/aperture"
)

func Example() {
	rule, err := aperture.Parse("can getobject, getdirectory /demo/stor/logs/* when sourceip = 10.0.0.0/8", aperture.Types{"sourceip": aperture.IP})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(rule)
	for _, ip := range []string{"10.1.2.3", "192.0.2.1"} {
		ok, err := rule.Evaluate(aperture.Request{Action: "getobject", Resource: "/demo/stor/logs/today", Conditions: aperture.Values{"sourceip": ip}})
		fmt.Println(ip, ok, err)
	}
	// Output:
	// CAN getobject AND getdirectory /demo/stor/logs/* WHEN sourceip = 10.0.0.0/8
	// 10.1.2.3 true <nil>
	// 192.0.2.1 false <nil>
}
