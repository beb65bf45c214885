// Package cell keeps the zones that tasks run in: a pool of OS containers with a file system, a loopback and a window onto input objects each.
//
// [Open] clears away what an earlier process left, and makes the pool; [Cells.Run] keeps zones warm; [Cells.Get] hands one out, a [Cell], which is its
// taker's until Return or Discard. Nobody gets a zone that another has used: the pool resets it.
//
// A zone's root is a clone of the sparse image in a dataset pool of this package's own (btrfs in a loop file, with quotas; where that cannot be, overlays without).
// It has no network but a loopback, on whose port 80 this process listens from outside, and sees a directory of this process's at /manta, read-only, where
// inputs appear. What is packed in a journal is a file there; a whole file of the store is shown without a copy by mounting it over.
//
// All that must not outlive the process lies in places that the next start can find without being told: machines of a driver of our own, datasets and mounts below our own
// directories, one control group.
//
// Stability: experimental.
package cell
