package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
)

// CreateToken returns a token that stands for the caller, with its active roles, for the time that the server gives it: see [Options.Token].
func (c *Client) CreateToken(ctx context.Context) (string, error) {
	var out struct{ Token string }
	err := c.exchange(ctx, nil, &operation{name: "CreateToken", method: http.MethodPost, path: path.Join("/", c.o.Account, "tokens")}, &out)
	return out.Token, err
}

// exchange sends an operation and decodes its answer, a short JSON object.
func (c *Client) exchange(ctx context.Context, in any, op *operation, out any) error {
	resp, err := c.invoke(ctx, in, op)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%s: %w", op.name, err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s: decode answer: %w", op.name, err)
	}
	return nil
}
