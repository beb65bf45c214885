package sdc

import "time"

// A Key is an SSH public key with which an account or a user signs requests.
type Key struct {
	Owner string `json:"owner"` // uuid of the account or user
	Name  string `json:"name"`  // unique for its owner; the fingerprint when nothing else was given

	// Fingerprint is the MD5 fingerprint in colon form (aa:bb:…), which names the key in a key id and is unique for its owner.
	Fingerprint string `json:"fingerprint"`

	// SHA256 is the SHA-256 fingerprint as ssh prints it (SHA256:…).
	SHA256 string `json:"fingerprint_sha256"`

	// OpenSSH is the key as one line of an authorized_keys file: type, base64, comment.
	OpenSSH string `json:"openssh"`

	Created time.Time `json:"created_at"`
}
