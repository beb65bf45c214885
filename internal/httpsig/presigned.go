package httpsig

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Presigned is what the query of a pre-signed URL says. Nothing of it is verified yet.
type Presigned struct {
	KeyID     string
	Algorithm string // upper case, accepted
	Signature string // base64, as sent
	Expires   time.Time

	// Role and RoleTag stand for the headers Role and Role-Tag, whatever the request's own headers say; "" is for none.
	Role, RoleTag string

	// Texts are what the signature may be over: the same parameters in each order that clients sort them in.
	Texts []string
}

// IsPresigned reports whether the request carries its credentials in the query: it has no Authorization header and names at least one of the four parameters.
func IsPresigned(r *Request) bool {
	_, raw, ok := strings.Cut(r.Target, "?")
	if !ok || len(r.Header["Authorization"]) > 0 && r.Header["Authorization"][0] != "" {
		return false
	}
	for part := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(part, "=")
		if value == "" {
			continue
		}
		switch decode(name) {
		case "expires", "signature", "keyId", "algorithm":
			return true
		}
	}
	return false
}

// ParsePresigned reads the query of a pre-signed URL. Errors are of kind [BadPresigned] and found in the original's order: a method that was not
// signed, parameters that are missing, the time, the algorithm.
func ParsePresigned(r *Request, now time.Time) (*Presigned, error) {
	path, raw, _ := strings.Cut(r.Target, "?")
	if _, rest, ok := strings.Cut(path, "://"); ok && path[0] != '/' { // absolute form, as through a proxy
		path = "/"
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			path = rest[i:]
		}
	}
	params, ok := parseQuery(raw)
	if !ok {
		return nil, presignedError("too many parameters")
	}
	methods := []string{r.Method}
	if m := lookupParam(params, "method"); m != "" {
		methods = splitList(m)
		slices.Sort(methods)
	}
	if !slices.Contains(methods, r.Method) {
		return nil, presignedError(r.Method + " was not a signed method")
	}
	var missing []string
	for _, name := range []string{"algorithm", "expires", "keyId", "signature"} {
		if lookupParam(params, name) == "" {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return nil, presignedError(`parameters "` + strings.Join(missing, ", ") + `" are required`)
	}
	seconds, _, _ := strings.Cut(lookupParam(params, "expires"), ".")
	expires, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || expires < 0 || expires > 1<<40 {
		return nil, presignedError("expires is invalid")
	}
	p := &Presigned{
		KeyID:     lookupParam(params, "keyId"),
		Algorithm: strings.ToUpper(lookupParam(params, "algorithm")),
		Signature: lookupParam(params, "signature"),
		Expires:   time.Unix(expires, 0),
		Role:      lookupParam(params, "role"),
		RoleTag:   lookupParam(params, "role-tag"),
	}
	if now.Unix() > expires {
		return nil, presignedError("request expired")
	}
	if CheckAlgorithm(p.Algorithm) != nil {
		return nil, presignedError(p.Algorithm + " is not a supported signing algorithm")
	}
	params = slices.DeleteFunc(params, func(p param) bool { return strings.EqualFold(p.name, "signature") })
	for _, query := range orders(params) {
		p.Texts = append(p.Texts, strings.Join(methods, ",")+"\n"+r.Host+"\n"+path+"\n"+query)
	}
	return p, nil
}

// splitList splits a list at commas with white space around them.
func splitList(s string) []string {
	parts := strings.Split(s, ",")
	for i := range parts {
		if i > 0 {
			parts[i] = strings.TrimLeft(parts[i], " \t")
		}
		if i < len(parts)-1 {
			parts[i] = strings.TrimRight(parts[i], " \t")
		}
	}
	return parts
}
