// Package overlay is a [dataset.Pool] on any file system that can carry overlayfs layers: ext4, xfs, btrfs, tmpfs.
//
// [Open] is the first call. A dataset is a stack of read-only layers under a writable one; a snapshot freezes the writable layer and puts a
// fresh one on top, a clone starts with a stack of its own on the same layers, so both take the same time whatever the size. There are no
// quotas, no snapshots of a dataset in use, and no incremental streams: [Pool.Capabilities] says so, and asking for them
// fails. Deleting a snapshot gives its space back only when nothing stands on its layer.
//
// Trees are reached through dataset.Root.Open, which mounts the stack; never write into a layer's directory.
//
// Files: pool_linux.go (opening, create, delete), snapshot_linux.go, stream_linux.go, layers_linux.go, repair_linux.go.
//
// Stability: experimental.
package overlay
