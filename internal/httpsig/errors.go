package httpsig

// A Kind says which part of a request's credentials is at fault.
type Kind uint8

// The kinds of errors, in the order in which a server finds them.
const (
	BadHeader    Kind = iota + 1 // the Authorization header or something it refers to; 400 everywhere
	BadPresigned                 // the query of a pre-signed URL
	BadAlgorithm                 // an algorithm that is well-formed and not accepted
	BadKeyID                     // a key id of no known form
)

// An Error says what is wrong with the credentials of a request. Its message is safe to show to the caller.
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return "httpsig: " + e.Message }

func headerError(message string) error    { return &Error{Kind: BadHeader, Message: message} }
func presignedError(message string) error { return &Error{Kind: BadPresigned, Message: message} }
