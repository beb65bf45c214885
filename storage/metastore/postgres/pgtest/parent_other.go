//go:build !linux

package pgtest

import "syscall"

func diesWithParent(*syscall.SysProcAttr) {}
