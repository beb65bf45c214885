package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/uuid"
)

// ServiceID names the service in errors and in middleware.
const ServiceID = "Manta"

const userAgent = "mobula-manta/1"

// An operation is one request as an operation's method describes it; the stack does the rest.
type operation struct {
	name   string
	method string
	path   string // unescaped, "~~" not yet replaced
	query  url.Values
	header http.Header

	body io.Reader
	size int64 // of body; negative when unknown

	// repeatable says that a retry is safe: the operation is idempotent and carries no condition.
	repeatable bool
}

// invoke sends an operation through the middleware stack. On success the caller owns the response's body.
func (c *Client) invoke(ctx context.Context, input any, op *operation) (*http.Response, error) {
	stack := middleware.NewStack(op.name, smithyhttp.NewStackRequest)
	steps := []error{
		stack.Serialize.Add(middleware.SerializeMiddlewareFunc("Serialize", func(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (middleware.SerializeOutput, middleware.Metadata, error) {
			req := in.Request.(*smithyhttp.Request)
			req, err := c.serialize(req, op)
			if err != nil {
				return middleware.SerializeOutput{}, middleware.Metadata{}, &smithy.SerializationError{Err: err}
			}
			in.Request = req
			return next.HandleSerialize(ctx, in)
		}), middleware.After),
		stack.Build.Add(middleware.BuildMiddlewareFunc("RequestHead", func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
			c.head(in.Request.(*smithyhttp.Request))
			return next.HandleBuild(ctx, in)
		}), middleware.After),
		stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("Sign", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			if err := c.authenticate(ctx, in.Request.(*smithyhttp.Request)); err != nil {
				return middleware.FinalizeOutput{}, middleware.Metadata{}, fmt.Errorf("sign: %w", err)
			}
			return next.HandleFinalize(ctx, in)
		}), middleware.After),
		stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("Refusals", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, md, err := next.HandleDeserialize(ctx, in)
			if err != nil {
				return out, md, err
			}
			resp := out.RawResponse.(*smithyhttp.Response)
			if resp.StatusCode/100 != 2 {
				defer resp.Body.Close()
				return out, md, refusal(resp.Response)
			}
			out.Result = resp.Response
			return out, md, nil
		}), middleware.After),
	}
	for _, fn := range c.o.APIOptions {
		steps = append(steps, fn(stack))
	}
	for _, err := range steps {
		if err != nil {
			return nil, &smithy.OperationError{ServiceID: ServiceID, OperationName: op.name, Err: err}
		}
	}
	handler := middleware.HandlerFunc(func(ctx context.Context, input any) (any, middleware.Metadata, error) {
		resp, err := c.http.do(ctx, input.(*smithyhttp.Request), op.repeatable)
		if err != nil {
			return nil, middleware.Metadata{}, &smithyhttp.RequestSendError{Err: err}
		}
		return &smithyhttp.Response{Response: resp}, middleware.Metadata{}, nil
	})
	out, _, err := middleware.DecorateHandler(handler, stack).Handle(ctx, input)
	if err != nil {
		return nil, &smithy.OperationError{ServiceID: ServiceID, OperationName: op.name, Err: err}
	}
	return out.(*http.Response), nil
}

// call is invoke for operations whose answer has no content.
func (c *Client) call(ctx context.Context, input any, op *operation) (http.Header, error) {
	resp, err := c.invoke(ctx, input, op)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	// What is left is short; reading it lets the connection be used again.
	_, err = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	if err != nil && err != io.EOF {
		return nil, &smithy.OperationError{ServiceID: ServiceID, OperationName: op.name, Err: err}
	}
	return resp.Header, nil
}

func (c *Client) serialize(req *smithyhttp.Request, op *operation) (*smithyhttp.Request, error) {
	path, err := c.resolve(op.path)
	if err != nil {
		return nil, err
	}
	req.Method = op.method
	// The stack's fresh request has no protocol version, without which net/http does not wait for 100-continue.
	req.Proto, req.ProtoMajor, req.ProtoMinor = "HTTP/1.1", 1, 1
	u := *c.endpoint
	u.Path, u.RawPath = path, escape(path)
	u.RawQuery = op.query.Encode()
	req.URL = &u
	for name, values := range op.header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if op.body == nil {
		return req, nil
	}
	if req, err = req.SetStream(op.body); err != nil {
		return nil, err
	}
	switch {
	case op.size >= 0:
		req.ContentLength = op.size
	default:
		req.ContentLength = -1
	}
	if op.size != 0 && !req.IsStreamSeekable() {
		// The body can be read once: let the server refuse before any of it is sent.
		req.Header.Set("Expect", "100-continue")
	}
	return req, nil
}

func (c *Client) head(req *smithyhttp.Request) {
	req.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if req.Header.Get("X-Request-Id") == "" {
		req.Header.Set("X-Request-Id", uuid.NewString())
	}
	req.Header.Set("User-Agent", strings.TrimSpace(c.o.UserAgent+" "+userAgent))
	if req.Header.Get("Role") == "" && len(c.o.Roles) > 0 {
		req.Header.Set("Role", strings.Join(c.o.Roles, ","))
	}
}

// resolve replaces "~~" and checks what would mean another path on its way.
func (c *Client) resolve(path string) (string, error) {
	if path == "~~" || strings.HasPrefix(path, "~~/") {
		if c.o.Account == "" {
			return "", fmt.Errorf("%w: %q without an account", ErrInput, path)
		}
		path = "/" + c.o.Account + path[2:]
	}
	if !strings.HasPrefix(path, "/") || strings.IndexByte(path, 0) >= 0 {
		return "", fmt.Errorf("%w: path %q", ErrInput, path)
	}
	for part := range strings.SplitSeq(path[1:], "/") {
		if part == "." || part == ".." {
			return "", fmt.Errorf("%w: path %q has a dot component", ErrInput, path)
		}
	}
	return path, nil
}

// escape percent-encodes each component.
func escape(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}
