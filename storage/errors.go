package storage

import "errors"

// Errors of storage nodes and of what is built on them; test with errors.Is.
var (
	ErrNotFound    = errors.New("storage: no such object")
	ErrExist       = errors.New("storage: object exists with other content")
	ErrCorrupt     = errors.New("storage: stored copy is damaged")
	ErrChecksum    = errors.New("storage: content differs from what was announced")
	ErrNoSpace     = errors.New("storage: not enough space")
	ErrReadOnly    = errors.New("storage: node takes no writes")
	ErrUnavailable = errors.New("storage: node cannot be reached") // another node may do
	ErrInvalid     = errors.New("storage: invalid argument")
	ErrClosed      = errors.New("storage: closed")
)
