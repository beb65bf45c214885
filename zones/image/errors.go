package image

import (
	"errors"
	"fmt"
	"io/fs"
)

// The states a caller can act on.
var (
	// ErrNotExist says that no such image is installed, or offered. It matches fs.ErrNotExist.
	ErrNotExist = fmt.Errorf("no such image: %w", fs.ErrNotExist)
	// ErrExist says that the image is installed already. It matches fs.ErrExist.
	ErrExist = fmt.Errorf("image is installed: %w", fs.ErrExist)
	// ErrDependents says that zones or images stand on the image.
	ErrDependents = errors.New("image has dependents")
	// ErrManifest says that a manifest is not valid; the error names every problem.
	ErrManifest = errors.New("bad image manifest")
	// ErrChecksum says that a file is not the one that the manifest describes.
	ErrChecksum = errors.New("image file does not match its manifest")
	// ErrRefused says that an archive holds what no image may, or more than the limits.
	ErrRefused = errors.New("image refused")
	// ErrOrigin says that the image's origin is not installed.
	ErrOrigin = errors.New("origin image is not installed")
	// ErrCorrupt says that an installed image is not what was installed.
	ErrCorrupt = errors.New("installed image was changed")
)
