package httpsig

import (
	"crypto"
	_ "crypto/sha1" // for signatures of old clients and agents
	_ "crypto/sha256"
	_ "crypto/sha512"
	"strings"
)

// An algorithm is a family of keys and a hash.
type algorithm struct {
	family   string // rsa, dsa, ecdsa, ed25519, hmac
	hash     crypto.Hash
	accepted bool
}

var hashes = map[string]crypto.Hash{"sha1": crypto.SHA1, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}

// accepted algorithms, in the order in which an error lists them.
var accepted = []string{
	"rsa-sha1", "rsa-sha256", "rsa-sha384", "rsa-sha512", "dsa-sha1", "dsa-sha256",
	"ecdsa-sha256", "ecdsa-sha384", "ecdsa-sha512", "ed25519-sha512",
}

// algorithms has every name that a header may carry. The original's parser takes any family with any hash, and its server then
// accepts some of them: the two refusals differ in code.
var algorithms = func() map[string]algorithm {
	m := make(map[string]algorithm)
	for _, family := range []string{"rsa", "dsa", "ecdsa", "ed25519", "hmac"} {
		for name, hash := range hashes {
			m[family+"-"+name] = algorithm{family: family, hash: hash}
		}
	}
	for _, name := range accepted {
		a := m[name]
		a.accepted = true
		m[name] = a
	}
	return m
}()

// lookup finds an algorithm by its name in any case.
func lookup(name string) (algorithm, bool) {
	a, ok := algorithms[name]
	if !ok && len(name) <= len("ed25519-sha512") {
		a, ok = algorithms[strings.ToLower(name)]
	}
	return a, ok
}

// Algorithms returns the names of the accepted algorithms in upper case, as an error message lists them.
func Algorithms() string { return strings.ToUpper(strings.Join(accepted, ", ")) }

// CheckAlgorithm returns an [Error] of kind [BadAlgorithm] unless signatures by this algorithm are accepted. HMAC never is: a shared secret would
// have to be kept in the clear.
func CheckAlgorithm(name string) error {
	if a, ok := lookup(name); ok && a.accepted {
		return nil
	}
	return &Error{Kind: BadAlgorithm, Message: strings.ToUpper(name) + " is not a supported signing algorithm. Supported algorithms are " + Algorithms()}
}
