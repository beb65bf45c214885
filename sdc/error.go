package sdc

import (
	"errors"
	"fmt"
	"time"

	"github.com/aws/smithy-go"
)

// An Error is what a service answers when it refuses: a stable code for programs, a message for people and the HTTP status
// that carries it. It satisfies [smithy.APIError], so a caller asks the same question of an embedded server and of one reached
// over HTTP. Two errors are the same for errors.Is when their codes are.
type Error struct {
	Code    string // REST code, such as ResourceNotFound
	Message string // safe to show to the caller
	Status  int    // HTTP status

	// Retryable says that the same request may succeed later; RetryAfter is how long to wait, if known.
	Retryable  bool
	RetryAfter time.Duration

	RequestID string       // filled in at the edges
	Fields    []FieldError // what is wrong with which input, all problems at once

	// Err is the cause, for the log only: it is never sent to a caller.
	Err error
}

// A FieldError is one problem with one input field.
type FieldError struct {
	Field   string `json:"field"`
	Code    string `json:"code"` // MissingParameter, Invalid, Duplicate, …
	Message string `json:"message"`
}

var _ smithy.APIError = (*Error)(nil)

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Err)
	}
	return e.Code + ": " + e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is an *Error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// ErrorCode implements [smithy.APIError].
func (e *Error) ErrorCode() string { return e.Code }

// ErrorMessage implements [smithy.APIError].
func (e *Error) ErrorMessage() string { return e.Message }

// ErrorFault implements [smithy.APIError].
func (e *Error) ErrorFault() smithy.ErrorFault {
	switch {
	case e.Status >= 500:
		return smithy.FaultServer
	case e.Status >= 400:
		return smithy.FaultClient
	}
	return smithy.FaultUnknown
}

// AsError returns the *Error in err's chain. Anything else becomes an InternalError that keeps err as its cause: what a
// caller outside may learn about an unexpected fault is that it happened.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: "InternalError", Message: "an unexpected error occurred", Status: 500, Err: err}
}
