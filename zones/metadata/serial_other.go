//go:build !linux

package metadata

import (
	"context"
	"errors"
	"io"
)

// dialSerial is Linux's.
func dialSerial(context.Context) (io.ReadWriteCloser, error) { return nil, errors.ErrUnsupported }
