// Package image keeps the images that machines start from: imgadm of SmartOS.
//
// A [Manifest] describes an image (version 2 of the format); a [Source] offers images ([Dir], [HTTP]); a [Store] has them installed on a
// dataset pool, each as a dataset with a snapshot "final" that zones are cloned from. Open a Store first, then Import,
// Install or InstallContainer. The built-in image "sparse" ([SparseUUID]) needs none of it: its /usr is the host's. Never unpack an image by other means:
// archives are hostile until the checks here have seen them.
//
// Files: manifest.go and validate.go; source.go, http.go (sources); compress.go; store_linux.go (list, get, delete, verify), install_linux.go
// (files onto datasets), container_linux.go (docker-save and OCI layouts), create_linux.go (an image of a zone), sparse_linux.go,
// disk.go (disk images), user_linux.go, errors.go.
//
// Stability: experimental.
package image
