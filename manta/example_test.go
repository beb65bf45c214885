package manta_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/mobulacloud/mobula/manta"
)

func ExampleParsePath() {
	p, err := manta.ParsePath("//alice/stor/holiday%20photos/")
	fmt.Println(p, err)
	fmt.Println(p.Key("930896af-bf8c-48d4-885c-6573a94b1853"))
	_, err = manta.ParsePath("/alice/public/%2e%2e/stor")
	fmt.Println(err)
	// Output:
	// /alice/stor/holiday photos <nil>
	// /930896af-bf8c-48d4-885c-6573a94b1853/stor/holiday photos
	// manta: invalid path: "/alice/public/%2e%2e/stor"
}

func ExampleConditions() {
	c := manta.ParseConditions(http.Header{"If-Match": {"8a1b"}})
	fmt.Println(c.Check("8a1b", time.Now(), false) == manta.Proceed)
	fmt.Println(c.Check("77f0", time.Now(), false) == manta.PreconditionFailed)
	// Output:
	// true
	// true
}
