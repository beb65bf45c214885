// Package btrfs is a [dataset.Pool] on btrfs: a directory of a btrfs file system, or a sparse loop file that the pool makes, mounts and grows.
//
// [Open] is the first call. Datasets are subvolumes, clones and snapshots are btrfs snapshots, quotas are quota groups (simple quotas where the
// kernel has them, 6.7, else full ones), send and receive speak the btrfs stream format, version 1; receiving parses the stream
// itself. All of it goes through the kernel's ioctls. One tool is run, mkfs.btrfs, to make a new loop file.
//
// Files: pool.go and loop_linux.go (opening, the file system below), create_linux.go, snapshot_linux.go, stream_linux.go (verbs),
// quota_linux.go, ioctl_linux.go, repair_linux.go (what Open finishes).
//
// Stability: experimental.
package btrfs
