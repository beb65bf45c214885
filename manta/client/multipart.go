package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Limits of multipart uploads.
const (
	MinPartSize = 5 << 20 // bytes, of every part but the last
	MaxParts    = 10000
)

// CreateUploadInput announces an object that will come in parts.
type CreateUploadInput struct {
	Path   string // of the object to be
	Size   int64  // of the whole, checked at commit; 0 means not said
	MD5    string // of the whole in base64, checked at commit; "" means not said
	Copies int    // the server's default when 0
	Attributes
}

// An UploadRef is an upload that is under way.
type UploadRef struct {
	ID             string `json:"id"`
	PartsDirectory string `json:"partsDirectory"`
}

// CreateUpload begins a multipart upload. Nothing is visible under the path before [Client.CommitUpload].
func (c *Client) CreateUpload(ctx context.Context, in *CreateUploadInput) (*UploadRef, error) {
	target, err := c.resolve(in.Path)
	if err != nil {
		return nil, err
	}
	headers := map[string]any{}
	for name, values := range in.header() {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	if in.Size > 0 {
		headers["content-length"] = in.Size
	}
	if in.MD5 != "" {
		headers["content-md5"] = in.MD5
	}
	if in.Copies > 0 {
		headers["durability-level"] = in.Copies
	}
	op, err := jsonOp("CreateUpload", http.MethodPost, "/"+c.o.Account+"/uploads", map[string]any{"objectPath": target, "headers": headers})
	if err != nil {
		return nil, err
	}
	out := new(UploadRef)
	return out, c.exchange(ctx, in, op, out)
}

func jsonOp(name, method, path string, body any) (*operation, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &operation{name: name, method: method, path: path, header: http.Header{"Content-Type": {"application/json"}}, body: bytes.NewReader(b), size: int64(len(b))}, nil
}

// UploadPartInput is one part of an upload.
type UploadPartInput struct {
	Upload *UploadRef
	Number int       // 0 to 9,999
	Body   io.Reader // as PutObjectInput.Body
	Size   int64
}

// UploadPart stores a part and returns its etag, which the commit needs. A number may be sent again: the last one counts.
func (c *Client) UploadPart(ctx context.Context, in *UploadPartInput) (etag string, err error) {
	if in.Number < 0 || in.Number >= MaxParts {
		return "", fmt.Errorf("UploadPart: %w: part number %d", ErrInput, in.Number)
	}
	body, size, err := newHashed(in.Body, in.Size, nil)
	if err != nil {
		return "", err
	}
	head, err := c.call(ctx, in, &operation{name: "UploadPart", method: http.MethodPut, path: in.Upload.PartsDirectory + "/" + strconv.Itoa(in.Number),
		header: http.Header{"Content-Type": {"application/octet-stream"}}, body: body, size: size, repeatable: true})
	if err != nil {
		return "", err
	}
	return head.Get("Etag"), nil
}

// UploadState is what the server knows about an upload.
type UploadState struct {
	ID              string            `json:"id"`
	State           string            `json:"state"` // created, finalizing or done
	Type            string            `json:"type"`  // commit or abort, while finalizing
	Result          string            `json:"result"`
	PartsDirectory  string            `json:"partsDirectory"`
	TargetObject    string            `json:"targetObject"`
	NumCopies       int               `json:"numCopies"`
	CreationTimeMs  int64             `json:"creationTimeMs"`
	PartsMD5Summary string            `json:"partsMD5Summary"`
	Headers         map[string]string `json:"-"`
}

// GetUpload describes an upload.
func (c *Client) GetUpload(ctx context.Context, u *UploadRef) (*UploadState, error) {
	out := new(UploadState)
	return out, c.exchange(ctx, u, &operation{name: "GetUpload", method: http.MethodGet, path: u.PartsDirectory + "/state", repeatable: true}, out)
}

// CommitUpload makes the object out of the parts with these etags, in this order. Committing again with the same parts is no error.
func (c *Client) CommitUpload(ctx context.Context, u *UploadRef, etags []string) (md5 string, err error) {
	if etags == nil {
		etags = []string{}
	}
	op, err := jsonOp("CommitUpload", http.MethodPost, u.PartsDirectory+"/commit", map[string]any{"parts": etags})
	if err != nil {
		return "", err
	}
	op.repeatable = true // the same parts again are accepted
	head, err := c.call(ctx, u, op)
	if err != nil {
		return "", err
	}
	return head.Get("Computed-Md5"), nil
}

// AbortUpload gives an upload up; its parts are removed in time. Aborting again is no error.
func (c *Client) AbortUpload(ctx context.Context, u *UploadRef) error {
	_, err := c.call(ctx, u, &operation{name: "AbortUpload", method: http.MethodPost, path: u.PartsDirectory + "/abort", repeatable: true})
	return err
}

// Parts lists the parts that an upload has so far, by number.
func (c *Client) Parts(ctx context.Context, u *UploadRef) (map[int]Entry, error) {
	parts := map[int]Entry{}
	for e, err := range c.List(ctx, &ListInput{Path: u.PartsDirectory}) {
		if err != nil {
			return nil, err
		}
		if n, err := strconv.Atoi(e.Name); err == nil {
			parts[n] = *e
		}
	}
	return parts, nil
}
