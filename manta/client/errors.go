package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/mobulacloud/mobula/sdc"
)

// Refusals that callers act on, for errors.Is. Any other code of the service can be compared in the same way:
// errors.Is(err, &sdc.Error{Code: "…"}).
var (
	ErrNotFound             error = &sdc.Error{Code: "ResourceNotFound"}
	ErrDirectoryNotThere    error = &sdc.Error{Code: "DirectoryDoesNotExist"}
	ErrDirectoryNotEmpty    error = &sdc.Error{Code: "DirectoryNotEmpty"}
	ErrPreconditionFailed   error = &sdc.Error{Code: "PreconditionFailed"}
	ErrNotModified          error = &sdc.Error{Code: "NotModified"}
	ErrAuthorizationFailed  error = &sdc.Error{Code: "AuthorizationFailed"}
	ErrParentNotDirectory   error = &sdc.Error{Code: "ParentNotDirectory"}
	ErrNotEnoughSpace       error = &sdc.Error{Code: "NotEnoughSpace"}
	ErrUploadState          error = &sdc.Error{Code: "InvalidMultipartUploadState"}
	ErrUnsatisfiableRange   error = &sdc.Error{Code: "RequestedRangeNotSatisfiable"}
	ErrServiceUnavailable   error = &sdc.Error{Code: "ServiceUnavailable"}
	ErrRootDirectory        error = &sdc.Error{Code: "OperationNotAllowedOnRootDirectory"}
	ErrOperationOnDirectory error = &sdc.Error{Code: "OperationNotAllowedOnDirectory"}
)

// ErrChecksum says that content arrived with another check sum than the one announced, on the way up or down.
var ErrChecksum = errors.New("client: check sum of the content differs")

// ErrInput says that an argument cannot be sent at all.
var ErrInput = errors.New("client: invalid input")

// maxErrorBody bounds what is read of a refusal.
const maxErrorBody = 64 << 10

// refusal turns a response that is not a success into an error, and consumes its body.
func refusal(resp *http.Response) error {
	e := &sdc.Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	var body struct{ Code, Message string }
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err := json.Unmarshal(b, &body); err == nil && body.Code != "" {
		e.Code, e.Message = body.Code, body.Message
	} else {
		// An answer without a body (HEAD, 304, 405) has its status alone to tell.
		e.Code, e.Message = codeOf(resp.StatusCode), resp.Status
	}
	if e.Code == "RangeNotSatisfiable" { // the second version's name for the same refusal
		e.Code = "RequestedRangeNotSatisfiable"
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	e.Retryable = resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests
	return e
}

func codeOf(status int) string {
	switch status {
	case http.StatusNotModified:
		return "NotModified"
	case http.StatusNotFound:
		return "ResourceNotFound"
	case http.StatusForbidden:
		return "AuthorizationFailed"
	case http.StatusPreconditionFailed:
		return "PreconditionFailed"
	case http.StatusMethodNotAllowed:
		return "MethodNotAllowed"
	case http.StatusRequestedRangeNotSatisfiable:
		return "RequestedRangeNotSatisfiable"
	case http.StatusServiceUnavailable:
		return "ServiceUnavailable"
	}
	return fmt.Sprintf("Status%d", status)
}
