package authcache

import (
	"errors"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/sdc"
)

func refusal(status int, code, message string) *sdc.Error {
	return &sdc.Error{Status: status, Code: code, Message: message}
}

func errAccountDoesNotExist(login string) error {
	return refusal(403, "AccountDoesNotExist", login+" does not exist")
}

func errUserDoesNotExist(account, user string) error {
	if account != "" {
		user = account + "/" + user
	}
	return refusal(403, "UserDoesNotExist", user+" does not exist")
}

func errKeyDoesNotExist(id httpsig.KeyID) error {
	return refusal(403, "KeyDoesNotExist", httpsig.KeyID{Account: id.Account, User: id.User, Key: id.Key}.String()+" does not exist")
}

func errAccountBlocked(login string) error {
	return refusal(403, "AccountBlocked", login+" is not an active account")
}

func errAuthorizationFailed(login, path string, cause error) error {
	e := refusal(403, "AuthorizationFailed", login+" is not allowed to access "+path)
	e.Err = cause
	return e
}

func errInvalidRole(name string) error {
	return refusal(409, "InvalidRole", `Role "`+name+`" is invalid.`)
}

func errInvalidRoleTag(name string) error {
	return refusal(409, "InvalidRoleTag", `Role tag "`+name+`" is invalid.`)
}

func errScheme(scheme string) error {
	return refusal(403, "AuthorizationSchemeNotAllowed", scheme+" is not allowed (use 'signature')")
}

var (
	errInvalidSignature = refusal(403, "InvalidSignature", "The signature we calculated does not match the one you sent")
	errInvalidToken     = refusal(403, "InvalidAuthenticationToken", "the authentication token you provided is malformed")
	errHTTPToken        = refusal(403, "InvalidHttpAuthenticationToken", "malformed auth token")
	errHeader           = refusal(400, "InvalidHeader", "Invalid Authorization header")
	errDateInvalid      = refusal(400, "InvalidHeader", "Date header is invalid")
	errDateOld          = refusal(400, "RequestExpired", "Date header is too old")
	errInsecure         = refusal(403, "SecureTransportRequired", "Manta requires a secure transport (SSL/TLS)")
	errNoMatchingRole   = refusal(403, "NoMatchingRoleTag", "None of your active roles are present on the resource.")
	errAnonymousToken   = refusal(401, "AuthorizationRequired", "Authorization is required")

	errNotReady = &sdc.Error{Status: 503, Code: "ServiceUnavailable", Message: "authentication cache is not available", Retryable: true, RetryAfter: retryAfter}
)

// signatureError turns an error of internal/httpsig into what Manta answers.
func signatureError(err error) error {
	e, ok := errors.AsType[*httpsig.Error](err)
	if !ok {
		return err
	}
	switch e.Kind {
	case httpsig.BadPresigned:
		return refusal(403, "InvalidQueryStringAuthentication", e.Message)
	case httpsig.BadAlgorithm:
		return refusal(401, "InvalidAlgorithm", e.Message)
	case httpsig.BadKeyID:
		return refusal(403, "InvalidKeyId", e.Message)
	}
	return refusal(400, "InvalidHeader", "Invalid Signature Authorization header: "+e.Message)
}
