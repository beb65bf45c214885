package httpsig

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Request is what a signature can cover of an HTTP request, as it arrived: before any path is cleaned and any header is changed.
type Request struct {
	Method string
	Target string // the request-target as received, such as /demo/stor/a%20b?limit=10
	Proto  string // HTTP/1.1 if empty
	Host   string // the Host header
	Header http.Header

	// TransferEncoding holds what net/http takes out of Header.
	TransferEncoding []string
}

// View returns the view of a request that a net/http server received.
func View(r *http.Request) *Request {
	return &Request{Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Host: r.Host, Header: r.Header, TransferEncoding: r.TransferEncoding}
}

// DefaultSkew is how far a request's date may be from the server's clock, either way.
const DefaultSkew = 300 * time.Second

// maxText bounds the text that is signed.
const maxText = 64 << 10

// defaults by presence of an X-Date header.
var (
	itemsDate  = []string{"date"}
	itemsXDate = []string{"x-date"}
)

func (r *Request) dateItem() (item, value string) {
	if v := r.Header["X-Date"]; len(v) > 0 && v[0] != "" {
		return "x-date", v[0]
	}
	if v := r.Header["Date"]; len(v) > 0 {
		return "date", v[0]
	}
	return "date", ""
}

// header returns the value of a request header as Node shows it: values of a repeated one are joined, except where only one makes sense.
func (r *Request) header(item string) (string, bool) {
	var values []string
	switch item {
	case "host":
		if r.Host == "" {
			return "", false
		}
		return r.Host, true
	case "date":
		values = r.Header["Date"]
	case "x-date":
		values = r.Header["X-Date"]
	case "transfer-encoding":
		values = r.TransferEncoding
		if values == nil {
			values = r.Header["Transfer-Encoding"]
		}
	default:
		values = r.Header[http.CanonicalHeaderKey(item)]
	}
	switch len(values) {
	case 0:
		return "", false
	case 1:
		return values[0], true
	}
	if single[item] {
		return values[0], true
	}
	return strings.Join(values, ", "), true
}

// single has the headers of which Node keeps only the first.
var single = map[string]bool{
	"age": true, "authorization": true, "content-length": true, "content-type": true, "date": true, "etag": true, "expires": true,
	"from": true, "host": true, "if-modified-since": true, "if-unmodified-since": true, "last-modified": true, "location": true,
	"max-forwards": true, "proxy-authorization": true, "referer": true, "retry-after": true, "server": true, "user-agent": true,
}

// items returns what is signed.
func (s *Signature) items(r *Request) []string {
	if s.Items != nil {
		return s.Items
	}
	if item, _ := r.dateItem(); item == "x-date" {
		return itemsXDate
	}
	return itemsDate
}

// AppendText appends to dst the text that the signature must be over. An item that the request does not have is an [Error] of kind [BadHeader].
func (s *Signature) AppendText(dst []byte, r *Request) ([]byte, error) {
	start := len(dst)
	for i, item := range s.items(r) {
		if i > 0 {
			dst = append(dst, '\n')
		}
		if item == "request-line" { // of the first drafts, without a name
			proto := r.Proto
			if proto == "" {
				proto = "HTTP/1.1"
			}
			dst = append(append(append(append(append(dst, r.Method...), ' '), r.Target...), ' '), proto...)
		} else {
			dst = append(append(dst, item...), ": "...)
			switch item {
			case "(request-target)":
				dst = append(append(append(dst, strings.ToLower(r.Method)...), ' '), r.Target...)
			case "(keyid)":
				dst = append(dst, s.KeyID...)
			case "(algorithm)":
				dst = append(dst, s.Algorithm...)
			case "(opaque)":
				if !s.hasOpaque {
					return nil, headerError("opaque param was not in the authorization header")
				}
				dst = append(dst, s.Opaque...)
			case "(created)":
				if !s.hasCreated {
					return nil, headerError("created param was not in the authorization header")
				}
				dst = strconv.AppendInt(dst, s.Created, 10)
			case "(expires)":
				if !s.hasExpires {
					return nil, headerError("expires param was not in the authorization header")
				}
				dst = strconv.AppendInt(dst, s.Expires, 10)
			default:
				value, ok := r.header(item)
				if !ok {
					return nil, headerError(item + " was not in the request")
				}
				dst = append(dst, value...)
			}
		}
		if len(dst)-start > maxText {
			return nil, headerError("signed headers are too long")
		}
	}
	return dst, nil
}

// Check reports whether the signature is of the present: the request's date is within skew of now, and signed, and (created) and (expires) allow it.
// It returns until when this same signature would pass again. Errors are of kind [BadHeader].
func (s *Signature) Check(r *Request, now time.Time, skew time.Duration) (until time.Time, err error) {
	item, value := r.dateItem()
	if value == "" { // the original takes an empty Date, and the signature is then good for ever
		return time.Time{}, headerError(item + " was not in the request")
	}
	date, ok := ParseDate(value)
	if !ok {
		return time.Time{}, headerError(item + " is not a date")
	}
	if off := now.Sub(date).Abs(); off > skew {
		return time.Time{}, headerError("clock skew of " + seconds(off) + "s was greater than " + seconds(skew) + "s")
	}
	until = date.Add(skew)
	if s.hasCreated {
		if ahead := time.Duration(min(s.Created-now.Unix(), 1<<31)) * time.Second; ahead > skew {
			return time.Time{}, headerError("Created lies in the future (with skew " + seconds(ahead) + "s greater than allowed " + seconds(skew) + "s")
		}
	}
	if s.hasExpires {
		behind := time.Duration(min(now.Unix()-s.Expires, 1<<31)) * time.Second
		if behind > skew {
			return time.Time{}, headerError("Request expired with skew " + seconds(behind) + "s greater than allowed " + seconds(skew) + "s")
		}
		if end := time.Unix(s.Expires, 0).Add(skew); end.Before(until) {
			until = end
		}
	}
	if !slices.Contains(s.items(r), item) {
		return time.Time{}, headerError(item + " was not a signed header")
	}
	return until, nil
}

// seconds prints a duration in seconds with milliseconds if there are any.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Milliseconds())/1000, 'f', -1, 64)
}
