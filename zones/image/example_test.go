package image_test

import (
	"errors"
	"fmt"

	"github.com/mobulacloud/mobula/zones/image"
)

// A manifest is checked as a whole: every problem is named with its field.
func ExampleParseManifest() {
	_, err := image.ParseManifest([]byte(`{"v":2,"uuid":"nonsense","owner":"00000000-0000-0000-0000-000000000000","name":"base","version":"1",
		"type":"zone-dataset","os":"beos","files":[{"sha1":"da39a3ee5e6b4b0d3255bfef95601890afd80709","size":1,"compression":"gzip"}]}`))
	fmt.Println(errors.Is(err, image.ErrManifest))
	fmt.Println(err)
	// Output:
	// true
	// bad image manifest: uuid: "nonsense" is not a uuid
	// os: "beos" is none of smartos, windows, linux, bsd, illumos, other
}
