package pki

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestOneTokenManyClaimants(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		token := c.token(Identity{Storage, "1.stor"}, 0)
		errs := make(chan error)
		for range 8 {
			dir := t.TempDir()
			go func() { _, err := c.join(dir, token); errs <- err }()
		}
		won := 0
		for range 8 {
			if err := <-errs; err == nil {
				won++
			} else if !errors.Is(err, ErrTokenUsed) {
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d machines joined with one token", won)
		}
	})
}

func TestTokensExpire(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		c.token(Identity{Storage, "1.stor"}, time.Minute)
		time.Sleep(MaxTokenLife + 2*time.Minute)
		c.token(Identity{Storage, "2.stor"}, time.Minute)
		all, err := c.authority.Tokens.List(t.Context())
		if err != nil || len(all) != 1 || all[0].Name != "2.stor" {
			t.Errorf("List: %v, %v", all, err)
		}
		for _, life := range []time.Duration{-1, MaxTokenLife + 1} {
			if _, err := c.authority.CreateToken(t.Context(), Identity{Storage, "x"}, life); err == nil {
				t.Errorf("token for %v", life)
			}
		}
		if _, err := c.authority.CreateToken(t.Context(), Identity{Storage, "../x"}, 0); !errors.Is(err, ErrIdentity) {
			t.Errorf("bad name: %v", err)
		}
	})
}

func TestTokenIsNotShown(t *testing.T) {
	token, record := newToken([32]byte{1}, Identity{Storage, "1.stor"}, time.Now())
	var b bytes.Buffer
	fmt.Fprintf(&b, "%v %+v %#v %s %q %x %d %v", token, token, token, token, token, token, token, struct{ T Token }{token})
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "token", token, "record", record)
	for _, form := range []string{fmt.Sprintf("%x", token.secret), fmt.Sprint(token.secret[:4])[1:8], token.Reveal()[22:50]} {
		if strings.Contains(b.String(), form) {
			t.Errorf("shown: %s", b.String())
		}
	}
}

func FuzzParseToken(f *testing.F) {
	t1, _ := newToken([32]byte{1, 2, 3}, Identity{}, time.Time{})
	f.Add(t1.Reveal())
	f.Add("mobula1-")
	f.Add("mobula1-" + strings.Repeat("A", 102))
	f.Add(strings.ToUpper(t1.Reveal()))
	f.Fuzz(func(t *testing.T, s string) {
		token, err := ParseToken(s)
		if err != nil {
			if !errors.Is(err, ErrTokenFormat) || err.Error() != ErrTokenFormat.Error() {
				t.Errorf("error %v", err)
			}
			return
		}
		if token.Reveal() != strings.TrimSpace(s) {
			t.Errorf("%q has two spellings", s)
		}
	})
}

func TestTypo(t *testing.T) {
	token, _ := newToken([32]byte{9}, Identity{}, time.Time{})
	s := token.Reveal()
	for i := range len(s) {
		if c := s[i] ^ 1; c != s[i] {
			if _, err := ParseToken(s[:i] + string(c) + s[i+1:]); err == nil {
				t.Errorf("a slip at %d goes unnoticed", i)
			}
		}
	}
}
