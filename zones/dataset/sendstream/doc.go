// Package sendstream reads the streams that btrfs sends and applies them to any directory.
//
// [NewReader] parses version 1 of the format, checksums included; [Apply] carries a stream out below an os.Root, so a dataset sent
// by a btrfs pool can be received by a pool on another file system, and a hostile stream cannot leave its tree. Format facts: the
// kernel's fs/btrfs/send.h. It stands in for "btrfs receive"; no tool is run.
//
// Stability: experimental.
package sendstream
