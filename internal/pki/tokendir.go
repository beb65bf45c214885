package pki

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// TokenDir keeps tokens as files in a directory: ID.token is the record, ID.used the key that claimed it. Use [OpenTokenDir].
type TokenDir struct{ root *os.Root }

const (
	tokenSuffix = ".token"
	usedSuffix  = ".used"
)

var tokenID = regexp.MustCompile(`^[0-9a-f]{16}$`)

// OpenTokenDir opens the directory and makes it if need be.
func OpenTokenDir(dir string) (*TokenDir, error) {
	root, err := openDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open join tokens: %w", err)
	}
	return &TokenDir{root}, nil
}

// Close releases the directory.
func (d *TokenDir) Close() error { return d.root.Close() }

// Add implements [Tokens].
func (d *TokenDir) Add(_ context.Context, r TokenRecord) error {
	if !tokenID.MatchString(r.ID) {
		return ErrTokenInvalid
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return createSecret(d.root, r.ID+tokenSuffix, data)
}

// Get implements [Tokens].
func (d *TokenDir) Get(_ context.Context, id string) (TokenRecord, error) {
	var r TokenRecord
	if !tokenID.MatchString(id) {
		return r, ErrTokenInvalid
	}
	data, err := d.root.ReadFile(id + tokenSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return r, ErrTokenInvalid
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("join token %s: %w", id, err)
	}
	r.UsedBy, err = d.root.ReadFile(id + usedSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	return r, err
}

// Claim implements [Tokens]: a link is made by one claimant only.
func (d *TokenDir) Claim(ctx context.Context, id string, key []byte) error {
	if !tokenID.MatchString(id) {
		return ErrTokenInvalid
	}
	err := createSecret(d.root, id+usedSuffix, key)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	switch r, err := d.Get(ctx, id); {
	case err != nil:
		return err
	case bytes.Equal(r.UsedBy, key):
		return nil
	}
	return ErrTokenUsed
}

// Delete implements [Tokens]. The record goes first: a token without its record is invalid, used or not.
func (d *TokenDir) Delete(_ context.Context, id string) error {
	if !tokenID.MatchString(id) {
		return nil
	}
	if err := removeFile(d.root, id+tokenSuffix); err != nil {
		return err
	}
	return removeFile(d.root, id+usedSuffix)
}

// List implements [Tokens].
func (d *TokenDir) List(ctx context.Context) ([]TokenRecord, error) {
	names, err := fs.Glob(d.root.FS(), "*"+tokenSuffix)
	if err != nil {
		return nil, err
	}
	var all []TokenRecord
	for _, name := range names {
		r, err := d.Get(ctx, strings.TrimSuffix(name, tokenSuffix))
		if errors.Is(err, ErrTokenInvalid) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}
