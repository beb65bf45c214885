package authcache

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/sdc"
)

// A TokenConfig has the secret that all front doors of a store share. Its form is the original's, so that programs which make their own
// tokens go on working: whoever has the secret can be anybody. As JSON it is the original's section too: salt, key, iv and maxAge in milliseconds.
type TokenConfig struct {
	Salt string // hexadecimal; kept for configurations that have it, the format does not use it
	Key  string // AES-128 key, 32 hexadecimal digits
	IV   string // 32 hexadecimal digits

	// MaxAge is how long a token is good for; 7 days if 0.
	MaxAge time.Duration
}

type tokenConfigJSON struct {
	Salt   string `json:"salt"`
	Key    string `json:"key"`
	IV     string `json:"iv"`
	MaxAge int64  `json:"maxAge,omitzero"` // milliseconds
}

// MarshalJSON writes the original's section, secret and all.
func (t TokenConfig) MarshalJSON() ([]byte, error) {
	return json.Marshal(tokenConfigJSON{t.Salt, t.Key, t.IV, t.MaxAge.Milliseconds()})
}

// UnmarshalJSON reads the original's section. Fields of no meaning are an error.
func (t *TokenConfig) UnmarshalJSON(b []byte) error {
	var v tokenConfigJSON
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("token keys: %w", err)
	}
	*t = TokenConfig{v.Salt, v.Key, v.IV, time.Duration(v.MaxAge) * time.Millisecond}
	return nil
}

// LogValue keeps the secret out of logs.
func (TokenConfig) LogValue() slog.Value { return slog.StringValue("secret") }

// NewTokenConfig makes random keys, for a configuration that is to be kept.
func NewTokenConfig() TokenConfig {
	random := func(n int) string {
		b := make([]byte, n)
		rand.Read(b)
		return strings.ToUpper(hex.EncodeToString(b))
	}
	return TokenConfig{Salt: random(8), Key: random(aes.BlockSize), IV: random(aes.BlockSize)}
}

// DefaultTokenAge is how long a token is good for.
const DefaultTokenAge = 7 * 24 * time.Hour

// Limits of tokens: their length as headers carry them, and unpacked.
const (
	maxToken     = 8192
	maxTokenJSON = 256 << 10
)

type tokenCipher struct {
	block  cipher.Block
	iv     []byte
	maxAge time.Duration
}

func newTokenCipher(cfg TokenConfig) (*tokenCipher, error) {
	if cfg.Key == "" && cfg.IV == "" {
		age := cfg.MaxAge
		cfg = NewTokenConfig()
		cfg.MaxAge = age
	}
	if cfg.MaxAge < 0 {
		return nil, errors.New("authcache: TokenConfig.MaxAge must not be negative")
	}
	setDefault(&cfg.MaxAge, DefaultTokenAge)
	key, err := hex.DecodeString(cfg.Key)
	if err != nil || len(key) != aes.BlockSize {
		return nil, errors.New("authcache: TokenConfig.Key must be 32 hexadecimal digits")
	}
	iv, err := hex.DecodeString(cfg.IV)
	if err != nil || len(iv) != aes.BlockSize {
		return nil, errors.New("authcache: TokenConfig.IV must be 32 hexadecimal digits")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("authcache: token key: %w", err)
	}
	return &tokenCipher{block: block, iv: iv, maxAge: cfg.MaxAge}, nil
}

// tokenID is an account or user inside a token.
type tokenID struct {
	UUID string `json:"uuid"`
}

// tokenJSON is the inside of a token, of version 2 with the fields of version 1 below.
type tokenJSON struct {
	Time      int64           `json:"t"`
	Principal *tokenPrincipal `json:"p,omitempty"`
	Context   *tokenContext   `json:"c,omitempty"`
	Version   int             `json:"v"`

	Account1 string `json:"u,omitempty"` // uuid of an account
}

type tokenPrincipal struct {
	Account *tokenID        `json:"account"`
	User    *tokenID        `json:"user"`
	Roles   json.RawMessage `json:"roles"` // the original puts whole roles here, and reads none
}

type tokenContext struct {
	ActiveRoles []string `json:"activeRoles"`
	XAcctRoles  []string `json:"activeXAcctRoles"`
	FromJob     bool     `json:"fromjob,omitempty"`
}

// MintToken makes a token with which a later request is the caller's, with the roles that are active now. owner is the account at whose path it was asked for. fromJob marks it
// as one for the tasks of a compute job. An anonymous caller gets none: AuthorizationRequired (401).
func (c *Cache) MintToken(caller *Caller, owner *sdc.Account, fromJob bool) (string, error) {
	snap, err := c.snapshot()
	if err != nil {
		return "", err
	}
	if caller.Account == nil || caller.Anonymous {
		return "", errAnonymousToken
	}
	inside := tokenJSON{Time: time.Now().UnixMilli(), Version: 2,
		Principal: &tokenPrincipal{Account: &tokenID{caller.Account.UUID}, Roles: json.RawMessage("{}")},
		Context:   &tokenContext{ActiveRoles: []string{}, XAcctRoles: []string{}, FromJob: fromJob},
	}
	if caller.User != nil {
		inside.Principal.User = &tokenID{caller.User.UUID}
	}
	for _, id := range caller.ActiveRoles {
		// Kept apart so that a reader that knows nothing of cross-account roles takes none for one of its own.
		if role := snap.roles.get(id); role != nil && role.Account == owner.UUID {
			inside.Context.ActiveRoles = append(inside.Context.ActiveRoles, id)
		} else {
			inside.Context.XAcctRoles = append(inside.Context.XAcctRoles, id)
		}
	}
	token, err := c.tokens.seal(inside)
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	if len(token) > maxToken {
		return "", fmt.Errorf("mint token: %d bytes are more than a header may have", len(token))
	}
	return token, nil
}

func (t *tokenCipher) seal(inside tokenJSON) (string, error) {
	text, err := json.Marshal(inside)
	if err != nil {
		return "", err
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(text); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	pad := aes.BlockSize - buf.Len()%aes.BlockSize
	buf.Write(bytes.Repeat([]byte{byte(pad)}, pad))
	cipher.NewCBCEncrypter(t.block, t.iv).CryptBlocks(buf.Bytes(), buf.Bytes())
	return base64.StdEncoding.EncodeToString(buf.Bytes()), nil
}

// open undoes seal. Every failure is the same to its caller: which it was is no business of who made the token up.
func (t *tokenCipher) open(token string) (inside tokenJSON, ok bool) {
	if len(token) > maxToken {
		return inside, false
	}
	token = strings.TrimRight(token, "=")
	b, err := base64.RawStdEncoding.DecodeString(token)
	if err != nil || len(b) == 0 || len(b)%aes.BlockSize != 0 {
		return inside, false
	}
	cipher.NewCBCDecrypter(t.block, t.iv).CryptBlocks(b, b)
	pad := int(b[len(b)-1])
	if pad == 0 || pad > aes.BlockSize || !bytes.Equal(b[len(b)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return inside, false
	}
	z, err := gzip.NewReader(bytes.NewReader(b[:len(b)-pad]))
	if err != nil {
		return inside, false
	}
	text, err := io.ReadAll(io.LimitReader(z, maxTokenJSON+1))
	if err != nil || len(text) > maxTokenJSON {
		return inside, false
	}
	return inside, json.Unmarshal(text, &inside) == nil
}

// crack reads a token, or remembers what it says.
func (c *Cache) crack(scratch *scratch, token string, now time.Time) (*Token, error) {
	sum := scratch.hash(token)
	if t, ok := c.cracked.get(&sum, now.UnixNano()); ok {
		return &t, nil
	}
	inside, ok := c.tokens.open(token)
	if !ok || inside.Version != 1 && inside.Version != 2 {
		return nil, errInvalidToken
	}
	t := Token{Version: inside.Version, Issued: time.UnixMilli(inside.Time)}
	if age := now.Sub(t.Issued); age > c.tokens.maxAge || age < -c.cfg.MaxSkew {
		return nil, errInvalidToken
	}
	switch {
	case inside.Version == 1:
		t.Account = inside.Account1
	case inside.Principal != nil && inside.Principal.Account != nil:
		t.Account = inside.Principal.Account.UUID
		if inside.Principal.User != nil {
			t.User = inside.Principal.User.UUID
			if t.User == "" {
				return nil, errInvalidToken // a user that is nobody must not become the account
			}
		}
		if inside.Context != nil {
			t.hasRoles = true
			t.Roles = append(append(t.Roles, inside.Context.ActiveRoles...), inside.Context.XAcctRoles...)
			t.FromJob = inside.Context.FromJob
		}
	}
	if t.Account == "" {
		return nil, errInvalidToken
	}
	c.cracked.put(&sum, t, t.Issued.Add(c.tokens.maxAge).UnixNano())
	return &t, nil
}
