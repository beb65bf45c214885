//go:build !linux

package dataset

import (
	"fmt"
	"os"
)

// OpenOptions is how a tree is mounted.
type OpenOptions struct {
	UserNS                          *os.File
	ReadOnly, NoSUID, NoDev, NoExec bool
}

// Mount is a mounted tree. It exists on Linux only.
type Mount struct{}

// Open fails with ErrUnsupported: mounts are Linux's.
func (r Root) Open(OpenOptions) (*Mount, error) {
	return nil, fmt.Errorf("mount a dataset: %w", ErrUnsupported)
}

// OpenRoot is never reached.
func (m *Mount) OpenRoot() (*os.Root, error) { return nil, ErrUnsupported }

// Close does nothing.
func (m *Mount) Close() error { return nil }
