package httpsig

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SignRequest signs a request that a client is about to send and sets its Authorization header. items say what to sign, as in [Signature.Items]; none
// means the date, which is what the original's clients sign. A Date header is set if the request has neither that nor X-Date. A request that is sent
// again later must be signed again.
func SignRequest(ctx context.Context, signer Signer, keyID string, r *http.Request, now time.Time, items ...string) error {
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	view := &Request{Method: r.Method, Target: r.URL.RequestURI(), Host: r.Host, Header: r.Header, TransferEncoding: r.TransferEncoding}
	if view.Method == "" {
		view.Method = http.MethodGet
	}
	if view.Host == "" {
		view.Host = r.URL.Host
	}
	item, value := view.dateItem()
	if value == "" {
		r.Header.Set("Date", now.UTC().Format(http.TimeFormat))
	}
	if len(items) == 0 {
		items = []string{item}
	}
	if strings.ContainsAny(keyID, "\"\r\n") {
		return errors.New("sign request: key id holds a quote or a line's end")
	}
	s := &Signature{KeyID: keyID, Algorithm: usual(signer.PublicKey()), Items: make([]string, len(items))}
	for i := range items {
		s.Items[i] = strings.ToLower(items[i])
	}
	err := signAs(ctx, signer, &s.Algorithm, func() ([]byte, error) { return s.AppendText(nil, view) }, &s.Signature)
	if err != nil {
		return fmt.Errorf("sign request: %w", err)
	}
	r.Header.Set("Authorization", s.String())
	return nil
}

// signAs signs a text that may name the algorithm. The signer is free to choose another, so the text is then built and signed once more.
func signAs(ctx context.Context, signer Signer, algorithm *string, text func() ([]byte, error), signature *string) error {
	for range 2 {
		b, err := text()
		if err != nil {
			return err
		}
		sig, name, err := signer.Sign(ctx, b)
		if err != nil {
			return err
		}
		if strings.EqualFold(name, *algorithm) {
			*signature = base64.StdEncoding.EncodeToString(sig)
			return nil
		}
		*algorithm = name
	}
	return errors.New("signer keeps changing its algorithm")
}

// String returns the Authorization header, parameters in the order in which the original writes them.
func (s *Signature) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, `Signature keyId="%s",algorithm="%s"`, s.KeyID, s.Algorithm)
	if s.hasCreated {
		fmt.Fprintf(&b, `,created=%d`, s.Created)
	}
	if s.hasExpires {
		fmt.Fprintf(&b, `,expires=%d`, s.Expires)
	}
	if s.hasOpaque {
		fmt.Fprintf(&b, `,opaque="%s"`, s.Opaque)
	}
	if s.Items != nil {
		fmt.Fprintf(&b, `,headers="%s"`, strings.Join(s.Items, " "))
	}
	fmt.Fprintf(&b, `,signature="%s"`, s.Signature)
	return b.String()
}

// A URL is what [SignURL] signs.
type URL struct {
	Host    string     // the Host header that requests will carry, with the port unless it is the scheme's own
	Path    string     // as it will stand in requests, percent-encoded
	Query   url.Values // parameters of the operation
	Methods []string   // what the URL may be used for; GET and HEAD if empty
	Expires time.Time  // required

	// Role and RoleTag stand for the headers of these names.
	Role, RoleTag []string
}

// SignURL returns the path and query of a pre-signed URL: prefix scheme and host to use it. Whoever has it may do what it says until it expires.
func SignURL(ctx context.Context, signer Signer, keyID string, u URL) (string, error) {
	if u.Host == "" || !strings.HasPrefix(u.Path, "/") || u.Expires.IsZero() {
		return "", errors.New("sign URL: host, absolute path and expiry are required")
	}
	methods := slices.Clone(u.Methods)
	if len(methods) == 0 {
		methods = []string{http.MethodGet, http.MethodHead}
	}
	slices.Sort(methods)
	var params []param
	for name, values := range u.Query {
		switch name {
		case "algorithm", "expires", "keyId", "method", "role", "role-tag", "signature":
			return "", fmt.Errorf("sign URL: parameter %q is taken", name)
		}
		params = append(params, param{name, strings.Join(values, ",")})
	}
	params = append(params, param{"expires", strconv.FormatInt(u.Expires.Unix(), 10)}, param{"keyId", keyID})
	if len(u.Role) > 0 {
		params = append(params, param{"role", strings.Join(u.Role, ",")})
	}
	if len(u.RoleTag) > 0 {
		params = append(params, param{"role-tag", strings.Join(u.RoleTag, ",")})
	}
	if len(methods) > 1 {
		params = append(params, param{"method", strings.Join(methods, ",")})
	}
	params = append(params, param{name: "algorithm"})
	chosen := len(params) - 1
	algorithm := usual(signer.PublicKey())
	var query, signature string
	err := signAs(ctx, signer, &algorithm, func() ([]byte, error) {
		params[chosen].value = strings.ToUpper(algorithm)
		query = orders(params)[0]
		return []byte(strings.Join(methods, ",") + "\n" + u.Host + "\n" + u.Path + "\n" + query), nil
	}, &signature)
	if err != nil {
		return "", fmt.Errorf("sign URL: %w", err)
	}
	return u.Path + "?" + query + "&" + encode([]param{{"signature", signature}}), nil
}
