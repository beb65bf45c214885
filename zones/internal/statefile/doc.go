// Package statefile keeps small files that are replaced whole: the records of zones, datasets and images.
//
// [Write] and [Remove] return when what they did outlives a power cut. Until then a reader, and whoever comes after a crash at any point,
// finds the file as it was or as it is to be, never a mixture and never nothing. Do not write to such a file in any other way, and do not
// use one temporary name from two writers at once: [Temp] is for who holds a lock of the file's, [TempFor] for who holds none.
//
// The file system is given ([FS]); statefiletest has one that loses at a power cut what was not synced.
//
// Stability: internal.
package statefile
