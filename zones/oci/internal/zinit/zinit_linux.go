//go:build cgo

package zinit

// #cgo CFLAGS: -O2 -Wall
// #include "wire.h"
import "C"
