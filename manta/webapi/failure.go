package webapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// statusAbandoned stands in logs where a client went away before it had an answer.
const statusAbandoned = 499

// answerFor returns an error as the server answers it for a path: errors of the parts below become the codes of the protocol, and what has none becomes
// InternalError with the error as its cause, for the log.
func answerFor(err error, path manta.Path) *manta.Error {
	if e, ok := errors.AsType[*manta.Error](err); ok {
		return e
	}
	e := translate(err, path)
	e.Err = err
	return e
}

func translate(err error, path manta.Path) *manta.Error {
	switch {
	case errors.Is(err, manta.ErrPath):
		return manta.Errorf(http.StatusBadRequest, manta.CodeInvalidResource, "%q is invalid", path)
	case errors.Is(err, namespace.ErrNotFound):
		return notFound(path.String())
	case errors.Is(err, namespace.ErrNoParent):
		return manta.Errorf(http.StatusNotFound, manta.CodeDirectoryDoesNotExist, "%s does not exist", path.Dir())
	case errors.Is(err, namespace.ErrParentNotDirectory):
		return manta.Errorf(http.StatusBadRequest, manta.CodeParentNotDirectory, "%s is not a directory", path.Dir())
	case errors.Is(err, namespace.ErrIsDirectory):
		return manta.Errorf(http.StatusBadRequest, manta.CodeOnDirectory, "%s is a directory: this is not allowed", path)
	case errors.Is(err, namespace.ErrNotEmpty):
		return manta.Errorf(http.StatusBadRequest, manta.CodeDirectoryNotEmpty, "%s is not empty", path)
	case errors.Is(err, namespace.ErrFull):
		return manta.Errorf(http.StatusConflict, manta.CodeDirectoryLimitExceeded, "%s cannot exceed 1,000,000 entries", path.Dir())
	case errors.Is(err, namespace.ErrConcurrent):
		return manta.Errorf(http.StatusConflict, manta.CodeConcurrentRequest, "%s was being concurrently updated", path)
	case errors.Is(err, durable.ErrNotEnoughSpace):
		return manta.Errorf(http.StatusInsufficientStorage, manta.CodeNotEnoughSpace, "not enough free space")
	case errors.Is(err, durable.ErrBusy):
		return throttled()
	case errors.Is(err, durable.ErrTooLarge):
		return manta.Errorf(http.StatusRequestEntityTooLarge, manta.CodeMaxContentLength, "request is too large")
	case errors.Is(err, durable.ErrUnavailable), errors.Is(err, storage.ErrUnavailable):
		e := manta.Errorf(http.StatusServiceUnavailable, manta.CodeInternalError, "No storage nodes available for this request")
		e.RetryAfter = 30 * time.Second
		return e
	case errors.Is(err, metastore.ErrUnavailable), errors.Is(err, metastore.ErrReadOnly), errors.Is(err, context.DeadlineExceeded):
		e := manta.Errorf(http.StatusServiceUnavailable, manta.CodeServiceUnavailable, "manta is unable to serve this request")
		e.RetryAfter = time.Second
		return e
	}
	return manta.Errorf(http.StatusInternalServerError, manta.CodeInternalError, "an unexpected error occurred")
}

func notFound(path string) *manta.Error {
	return manta.Errorf(http.StatusNotFound, manta.CodeResourceNotFound, "%s was not found", path)
}

func onRoot(r *Request) *manta.Error {
	return manta.Errorf(http.StatusBadRequest, manta.CodeOnRootDirectory, "%s is not allowed on %s", r.Method, r.Path)
}

func onDirectory(r *Request) *manta.Error {
	return manta.Errorf(http.StatusBadRequest, manta.CodeOnDirectory, "%s is a directory: %s is not allowed", r.Path, r.Method)
}

func badRequest(message string) *manta.Error {
	return manta.Errorf(http.StatusBadRequest, manta.CodeBadRequest, "%s", message)
}

func throttled() *manta.Error {
	e := manta.Errorf(http.StatusServiceUnavailable, manta.CodeThrottled, "manta throttled this request")
	e.RetryAfter = time.Second
	return e
}

// isDisconnect reports whether an error of the connection means that the client is gone.
func isDisconnect(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

// onErrors are the headers that an answer keeps when it becomes an error.
var onErrors = map[string]bool{
	"Server": true, "Connection": true, "x-request-id": true, "x-server-name": true, "Etag": true, "Last-Modified": true, "Content-Range": true, "Allow": true,
}

// fail answers with an error. Where the head is out already there is nothing left to say but to break the connection, so that the client does not
// take what it has for the whole.
func (r *Request) fail(err error) *manta.Error {
	e := answerFor(err, r.Path)
	// Only the request itself tells that its client is gone. The same error from further down is that of a storage node.
	if _, typed := errors.AsType[*manta.Error](err); !typed && r.status == 0 && r.Context().Err() != nil {
		e = manta.Errorf(statusAbandoned, manta.CodeUploadAbandoned, "request was aborted prematurely by the client")
		e.Err = err
	}
	if e.Status >= 500 && e.Code == manta.CodeInternalError {
		r.s.log.ErrorContext(r.Context(), "request failed", "request_id", r.ID, "method", r.Method, "path", r.Path.String(), "err", err)
	}
	if r.status != 0 {
		return e
	}
	if e.Status == statusAbandoned {
		// A client that only closed its own side still listens, and would hear an empty "200 OK" if this were all.
		r.status, r.breakOff = statusAbandoned, true
		return e
	}
	// What was said about an entry that is not to be sent is not said of the error.
	for name := range r.Answer() {
		if !onErrors[name] {
			delete(r.Answer(), name)
		}
	}
	if e.RetryAfter > 0 {
		r.set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	refused := r.Method == http.MethodPut || r.Method == http.MethodPost
	if refused && !r.body.waiting() && r.ContentLength != 0 {
		// Otherwise net/http would stop reading the body when the head is written.
		r.ctl.EnableFullDuplex()
	}
	drain := refused && !r.body.waiting() && r.body.err == nil
	if drain && r.ContentLength-r.body.got > r.s.cfg.MaxDrain {
		drain = false // net/http closes its side, and waits a moment for the client to read that
		r.set("Connection", "close")
	}
	if e.Status == http.StatusRequestTimeout || r.body.err != nil {
		r.set("Connection", "close")
	}
	if e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotModified {
		r.Empty(e.Status)
	} else {
		body := struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		}{e.Code, e.Message}
		b, err := json.Marshal(body)
		if err != nil {
			panic(err) // two strings
		}
		r.blob(e.Status, "application/json", b)
	}
	if drain {
		r.ctl.Flush()
		r.body.drain(r.s.cfg.MaxDrain)
	}
	return e
}
