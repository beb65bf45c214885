package pki

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Errors of tokens; test with errors.Is.
var (
	ErrTokenFormat  = errors.New("pki: not a join token, or not all of one")
	ErrTokenInvalid = errors.New("pki: join token is not valid") // unknown or forged
	ErrTokenUsed    = errors.New("pki: join token has been used")
	ErrTokenExpired = errors.New("pki: join token has expired")
)

// A Token lets one machine join once. It is a secret: what fmt and slog show of it is only its id; Reveal gives
// the string to hand over.
type Token struct {
	id     [idSize]byte
	secret [sha256.Size]byte
	ca     [sha256.Size]byte // fingerprint of the authority
}

const (
	idSize      = 8
	sumSize     = 4 // tells a slip of the hand from a wrong token
	tokenSize   = idSize + 2*sha256.Size + sumSize
	tokenPrefix = "mobula1-"
)

// Reveal returns the token as one string without spaces, about 110 characters.
func (t Token) Reveal() string {
	b := make([]byte, 0, tokenSize)
	b = append(append(append(b, t.id[:]...), t.secret[:]...), t.ca[:]...)
	sum := sha256.Sum256(b)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:sumSize]...))
}

// ParseToken reads what Reveal wrote, with space around it. The error is [ErrTokenFormat] and quotes nothing.
func ParseToken(s string) (Token, error) {
	s, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	if !ok || len(s) != base64.RawURLEncoding.EncodedLen(tokenSize) {
		return Token{}, ErrTokenFormat
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != tokenSize {
		return Token{}, ErrTokenFormat
	}
	body, sum := b[:tokenSize-sumSize], b[tokenSize-sumSize:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:sumSize]) {
		return Token{}, ErrTokenFormat
	}
	var t Token
	copy(t.id[:], body)
	copy(t.secret[:], body[idSize:])
	copy(t.ca[:], body[idSize+sha256.Size:])
	return t, nil
}

// ID names the token without giving it away.
func (t Token) ID() string { return hex.EncodeToString(t.id[:]) }

// String returns a form that is safe to show.
func (t Token) String() string { return "join token " + t.ID() }

// GoString returns a form that is safe to show.
func (t Token) GoString() string { return t.String() }

// Format shows the safe form whatever the verb.
func (t Token) Format(f fmt.State, _ rune) { f.Write([]byte(t.String())) }

// LogValue returns a form that is safe to show.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// A TokenRecord is what an authority remembers of a token: enough to recognise it, not to use it.
type TokenRecord struct {
	ID      string    `json:"id"`
	Hash    []byte    `json:"hash"` // SHA-256 of the secret
	Role    Role      `json:"role"`
	Name    string    `json:"name"`
	Expires time.Time `json:"expires"`
	UsedBy  []byte    `json:"used_by,omitempty"` // SHA-256 of the public key that joined with it
}

// Identity returns whom the token lets in.
func (r TokenRecord) Identity() Identity { return Identity{r.Role, r.Name} }

// newToken makes a token and its record.
func newToken(ca [sha256.Size]byte, id Identity, expires time.Time) (Token, TokenRecord) {
	t := Token{ca: ca}
	rand.Read(t.id[:])
	rand.Read(t.secret[:])
	hash := sha256.Sum256(t.secret[:])
	return t, TokenRecord{ID: t.ID(), Hash: hash[:], Role: id.Role, Name: id.Name, Expires: expires}
}

// proves reports whether secret is that of the record, in constant time.
func (r TokenRecord) proves(secret []byte) bool {
	hash := sha256.Sum256(secret)
	return subtle.ConstantTimeCompare(hash[:], r.Hash) == 1
}

// Tokens remembers tokens. All methods may be called by any number of goroutines, and processes, at once.
type Tokens interface {
	// Add stores a record for good before it returns.
	Add(ctx context.Context, r TokenRecord) error

	// Get returns a record with what Claim noted, or an error that is [ErrTokenInvalid].
	Get(ctx context.Context, id string) (TokenRecord, error)

	// Claim notes, for good before it returns, that the token was used by the holder of a key. The first key wins: for another one the error is
	// [ErrTokenUsed], for the same one again it is nil.
	Claim(ctx context.Context, id string, key []byte) error

	// Delete forgets a token. One that is not there is no error.
	Delete(ctx context.Context, id string) error

	// List returns all records.
	List(ctx context.Context) ([]TokenRecord, error)
}
