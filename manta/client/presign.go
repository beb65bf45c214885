package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
)

// SignURLInput says what a signed URL is to allow.
type SignURLInput struct {
	Path    string
	Methods []string  // GET and HEAD when empty
	Expires time.Time // an hour from now when zero

	// Role and RoleTags stand for the headers of these names.
	Roles, RoleTags []string
}

// SignURL returns a URL with which anybody can do to the path what Methods say, with the rights of the client's caller, until it expires. It
// makes no request.
func (c *Client) SignURL(ctx context.Context, in *SignURLInput) (string, error) {
	if c.o.Signer == nil {
		return "", errors.New("client: SignURL needs a key")
	}
	path, err := c.resolve(in.Path)
	if err != nil {
		return "", err
	}
	u := httpsig.URL{Host: c.endpoint.Host, Path: escape(path), Methods: in.Methods, Expires: in.Expires, Role: in.Roles, RoleTag: in.RoleTags}
	if len(u.Methods) == 0 {
		u.Methods = []string{http.MethodGet, http.MethodHead}
	}
	if u.Expires.IsZero() {
		u.Expires = time.Now().Add(time.Hour)
	}
	signed, err := httpsig.SignURL(ctx, c.o.Signer.s, c.keyID(), u)
	if err != nil {
		return "", fmt.Errorf("SignURL %s: %w", in.Path, err)
	}
	return c.endpoint.Scheme + "://" + c.endpoint.Host + signed, nil
}
