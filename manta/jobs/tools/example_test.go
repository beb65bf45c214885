package tools_test

import (
	"fmt"

	"github.com/mobulacloud/mobula/manta/jobs/tools"
)

// What an agent links into a zone, and how the binary knows itself there.
func Example() {
	for _, name := range tools.Names()[:3] {
		fmt.Println(name, tools.Is("/opt/mobula/bin/"+name))
	}
	fmt.Println(tools.Is("/usr/sbin/storagenode"))
	// Output:
	// ctrun true
	// maggr true
	// mcat true
	// false
}
