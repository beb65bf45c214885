// Package diskfs is the seam between storage/objfile and the disk: the few file-system operations that a crash-safe store needs.
//
// [OS] is the real thing below one directory, through os.Root, so that no name leaves the directory. The crash and fault file systems of
// storage/storagetest implement the same [FS], so the engine that is tested is the engine that runs. A general seam such as afero
// does not do here: what makes a store durable (files without a name, links, the sync of a directory, space that is set aside) is what it lacks.
//
// Names are slash-separated and relative, as in io/fs.
//
// Stability: experimental.
package diskfs
