// Package archive packs a tree of files into tar and unpacks tar without trusting it.
//
// [Write] packs what is below an os.Root; [Extract] unpacks, refusing whatever leaves the tree, is a device, or exceeds the
// [Policy]'s bounds. With [Policy.Whiteouts] the archive is a layer of an OCI image, whose whiteouts delete what lower
// layers brought. Never unpack into a directory that somebody else writes at the same time.
//
// Stability: experimental.
package archive
