package dataset

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Root says where a dataset's tree is: in one directory, or in layers that an overlay mount joins.
// Paths are absolute. The zero Root is invalid.
type Root struct {
	// Dir is the tree itself; then the other fields are empty.
	Dir string `json:"dir,omitempty"`
	// Lower are read-only layers, the topmost first.
	Lower []string `json:"lower,omitempty"`
	// Upper is the writable layer and Work the directory overlayfs needs beside it; both are empty for a read-only tree.
	Upper string `json:"upper,omitempty"`
	Work  string `json:"work,omitempty"`
	// ReadOnly: the tree is a snapshot.
	ReadOnly bool `json:"read_only,omitempty"`
}

// Validate checks that the root is of one of the two forms.
func (r Root) Validate() error {
	if r.Dir != "" {
		if len(r.Lower) > 0 || r.Upper != "" || r.Work != "" {
			return errors.New("root: both a directory and layers")
		}
		if !filepath.IsAbs(r.Dir) {
			return fmt.Errorf("root: %q is not absolute", r.Dir)
		}
		return nil
	}
	if len(r.Lower) == 0 {
		return errors.New("root: neither a directory nor layers")
	}
	if (r.Upper == "") != (r.Work == "") {
		return errors.New("root: upper and work come together")
	}
	for _, p := range append([]string{r.Upper, r.Work}, r.Lower...) {
		if p != "" && !filepath.IsAbs(p) {
			return fmt.Errorf("root: %q is not absolute", p)
		}
	}
	return nil
}
