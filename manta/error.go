package manta

import (
	"fmt"
	"net/http"

	"github.com/mobulacloud/mobula/sdc"
)

// An Error is what the store answers when it refuses; it is the error of all services.
type Error = sdc.Error

// Codes of the store's own refusals. Those about identity come from sdc/authcache.
const (
	CodeBadRequest              = "BadRequest"
	CodeConcurrentRequest       = "ConcurrentRequest"
	CodeContentLengthRequired   = "ContentLengthRequired"
	CodeContentMD5Mismatch      = "ContentMD5Mismatch"
	CodeDirectoryDoesNotExist   = "DirectoryDoesNotExist"
	CodeDirectoryLimitExceeded  = "DirectoryLimitExceeded"
	CodeDirectoryNotEmpty       = "DirectoryNotEmpty"
	CodeInternalError           = "InternalError"
	CodeInvalidArgument         = "InvalidArgumentError"
	CodeInvalidDurabilityLevel  = "InvalidDurabilityLevel"
	CodeInvalidHeader           = "InvalidHeader"
	CodeInvalidLink             = "InvalidLink"
	CodeInvalidMaxContentLength = "InvalidMaxContentLength"
	CodeInvalidParameter        = "InvalidParameter"
	CodeInvalidResource         = "InvalidResource"
	CodeInvalidUpdate           = "InvalidUpdate"
	CodeInvalidUpload           = "MultipartUploadInvalidArgument"
	CodeInvalidUploadState      = "InvalidMultipartUploadState"
	CodeLinkNotObject           = "LinkNotObject"
	CodeLocationRequired        = "LocationRequired"
	CodeMaxContentLength        = "MaxContentLengthExceeded"
	CodeNotAcceptable           = "NotAcceptable"
	CodeNotEnoughSpace          = "NotEnoughSpace"
	CodeNotImplemented          = "NotImplemented"
	CodeOnDirectory             = "OperationNotAllowedOnDirectory"
	CodeOnRootDirectory         = "OperationNotAllowedOnRootDirectory"
	CodeParentNotDirectory      = "ParentNotDirectory"
	CodePreconditionFailed      = "PreconditionFailed"
	CodeQueryParameterForbidden = "QueryParameterForbidden"
	CodeRangeNotSatisfiable     = "RequestedRangeNotSatisfiable" // of the v1 dialect
	CodeRangeNotSatisfiableV2   = "RangeNotSatisfiable"
	CodeRequestExpired          = "RequestExpired"
	CodeResourceNotFound        = "ResourceNotFound"
	CodeSecureTransport         = "SecureTransportRequired"
	CodeServiceUnavailable      = "ServiceUnavailable"
	CodeSnaplinksDisabled       = "SnaplinksDisabledError"
	CodeSourceObjectNotFound    = "SourceObjectNotFound"
	CodeThrottled               = "ThrottledError"
	CodeUnprocessable           = "UnprocessableEntity"
	CodeUploadAbandoned         = "UploadAbandoned"
	CodeUploadTimeout           = "UploadTimeout"
)

// Sentinels for errors.Is, which compares codes.
var (
	ErrResourceNotFound      = &Error{Code: CodeResourceNotFound, Status: http.StatusNotFound}
	ErrDirectoryDoesNotExist = &Error{Code: CodeDirectoryDoesNotExist, Status: http.StatusNotFound}
	ErrDirectoryNotEmpty     = &Error{Code: CodeDirectoryNotEmpty, Status: http.StatusBadRequest}
	ErrConcurrentRequest     = &Error{Code: CodeConcurrentRequest, Status: http.StatusConflict}
	ErrPreconditionFailed    = &Error{Code: CodePreconditionFailed, Status: http.StatusPreconditionFailed}
)

// Errorf returns an error with a code, a status and a message.
func Errorf(status int, code, format string, args ...any) *Error {
	return &Error{Code: code, Status: status, Message: fmt.Sprintf(format, args...), Retryable: status >= 500}
}
