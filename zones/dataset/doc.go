// Package dataset keeps the file systems of machines in pools, with quota, snapshot, clone, rollback, send and receive:
// what zfs was to SmartOS.
//
// Open a pool with one of the drivers (dataset/btrfs, dataset/overlay), ask it for its [Capabilities], and call
// [Pool]'s verbs. [Pool.Root] says where a dataset's tree is and [Root.Open] mounts it, id-mapped if asked, without leaving a
// mount behind when the process dies. Never reach into a pool's directory by hand and never delete a dataset
// that somebody still has mounted.
//
// Files: pool.go (the contract), capabilities.go, name.go, errors.go, root.go with mount_linux.go (how a tree is
// reached). Beside it: dataset/archive (tar of a tree, extracted without trust), dataset/sendstream (btrfs send streams
// applied to any directory), dataset/datasettest (the suite that every pool passes).
//
// Stability: experimental.
package dataset
