package client

import (
	"context"
	"net/http"
)

// PutLinkInput says which object gets a second name.
type PutLinkInput struct {
	Path   string // the new name
	Target string // an existing object
	Attributes
	Conditions
}

// PutLink makes a snaplink: a second name for an object as it is now. Both names then live independently.
func (c *Client) PutLink(ctx context.Context, in *PutLinkInput) (etag string, err error) {
	target, err := c.resolve(in.Target)
	if err != nil {
		return "", err
	}
	h := in.header()
	in.set(h)
	h.Set("Content-Type", typeLink)
	h.Set("Location", escape(target))
	head, err := c.call(ctx, in, &operation{name: "PutLink", method: http.MethodPut, path: in.Path, header: h, repeatable: in.none()})
	if err != nil {
		return "", err
	}
	return head.Get("Etag"), nil
}
