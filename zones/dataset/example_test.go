package dataset_test

import (
	"errors"
	"fmt"

	"github.com/mobulacloud/mobula/zones/dataset"
)

// A pool refuses names before it touches anything; the error says what kind it is.
func ExampleValidName() {
	err := dataset.ValidName("../etc")
	fmt.Println(err)
	fmt.Println(errors.Is(err, dataset.ErrBadName))
	fmt.Println(dataset.Ref{Dataset: "zone-1", Snapshot: "before-upgrade"})
	// Output:
	// dataset "../etc": bad dataset name: byte 0
	// true
	// zone-1@before-upgrade
}
