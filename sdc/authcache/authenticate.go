package authcache

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/sdc"
)

// Authenticate says who sent a request: who signed it, whose token it carries, or nobody ([Caller.Anonymous]). Wrong credentials are an error, never an
// anonymous caller. The checks are made in the original's order: the age of the request, the form of its credentials, the transport, then the account, the key
// and the signature.
func (c *Cache) Authenticate(_ context.Context, r Request) (*Caller, error) {
	now := time.Now()
	if err := c.checkDate(&r, now); err != nil {
		return nil, err
	}
	view := httpsig.Request{Method: r.Method, Target: r.Target, Proto: r.Proto, Host: r.Host, Header: r.Header, TransferEncoding: r.TransferEncoding}
	scratch := scratches.Get().(*scratch)
	defer scratches.Put(scratch)
	var signed *httpsig.Signature
	var text []byte
	var until time.Time
	authorization := first(r.Header, "Authorization")
	scheme, credentials, spaced := strings.Cut(authorization, " ")
	isSignature := strings.EqualFold(scheme, "signature")
	if authorization != "" && !spaced {
		return nil, errHeader
	}
	if isSignature {
		var err error
		if signed, err = httpsig.Parse(authorization); err != nil {
			return nil, signatureError(err)
		}
		if text, err = signed.AppendText(scratch.text[:0], &view); err != nil {
			return nil, signatureError(err)
		}
		scratch.text = text
		if until, err = signed.Check(&view, now, c.cfg.MaxSkew); err != nil {
			return nil, signatureError(err)
		}
	}
	presigned := authorization == "" && httpsig.IsPresigned(&view)
	if r.Path == "" {
		r.Path = CleanPath(r.Target)
	}
	public := publicPath(r.Path)
	if r.ClearText && !presigned && !(public && readOnly(r.Method)) {
		return nil, errInsecure
	}
	snap, err := c.snapshot()
	if err != nil {
		return nil, err
	}
	var caller *Caller
	switch {
	case presigned:
		caller, err = c.presigned(snap, scratch, &view, now)
	case isSignature:
		if err := httpsig.CheckAlgorithm(signed.Algorithm); err != nil {
			return nil, signatureError(err)
		}
		caller, err = c.signer(snap, scratch, proof{signed.KeyID, signed.Algorithm, signed.Signature, now, until}, text)
	case strings.EqualFold(scheme, "token"):
		credentials, _, _ = strings.Cut(credentials, " ")
		caller, err = c.bearer(snap, scratch, credentials, now)
	case authorization != "":
		return nil, errScheme(strings.ToLower(scheme))
	default:
		caller = &Caller{Anonymous: true, public: public}
	}
	if err != nil {
		return nil, err
	}
	// The original hands these tokens to a key service, and refuses those it does not vouch for. Here there is none to vouch.
	if first(r.Header, "X-Auth-Token") != "" {
		return nil, errHTTPToken
	}
	return caller, nil
}

func first(h http.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func readOnly(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// checkDate refuses requests whose Date header makes no sense or is too old, signed or not. Dates ahead of the clock are for the signature's check.
func (c *Cache) checkDate(r *Request, now time.Time) error {
	value := first(r.Header, "Date")
	if value == "" {
		return nil
	}
	date, ok := httpsig.ParseDate(value)
	switch {
	case !ok:
		return errDateInvalid
	case now.Sub(date) > c.cfg.MaxRequestAge:
		return errDateOld
	}
	return nil
}

// publicPath reports whether a path is /:login/public or below it.
func publicPath(path string) bool {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return false
	}
	login, rest, ok := strings.Cut(rest, "/")
	if !ok || len(login) < 2 || !letter(login[0]) {
		return false
	}
	for i := range len(login) {
		if c := login[i]; !letter(c) && !('0' <= c && c <= '9') && strings.IndexByte("_-.@%", c) < 0 {
			return false
		}
	}
	return rest == "public" || strings.HasPrefix(rest, "public/")
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// A proof is what a request offers to show who sent it, and from now until when the same would be accepted.
type proof struct {
	keyID, algorithm, signature string
	now, until                  time.Time
}

// signer finds the key that a key id names and verifies that it signed one of the texts.
func (c *Cache) signer(snap *snapshot, scratch *scratch, p proof, texts ...[]byte) (*Caller, error) {
	id, err := httpsig.ParseKeyID(p.keyID)
	if err != nil {
		return nil, signatureError(err)
	}
	if id.CloudAPI {
		return nil, signatureError(&httpsig.Error{Kind: httpsig.BadKeyID, Message: "the KeyId token you provided is invalid"})
	}
	account := snap.logins.get(id.Account)
	if account == nil {
		return nil, errAccountDoesNotExist(id.Account)
	}
	var user *sdc.User
	owner := account.UUID
	if id.User != "" {
		if user = snap.userLogins.get(account.UUID + "/" + id.User); user == nil {
			return nil, errUserDoesNotExist(id.Account, id.User)
		}
		owner = user.UUID
	}
	caller, err := newCaller(account, user)
	if err != nil {
		return nil, err
	}
	var found *key
	for _, k := range snap.keys.get(owner) {
		if k.fingerprint == id.Key || k.public.Matches(id.Key) {
			found = k
			break
		}
	}
	if found == nil {
		return nil, errKeyDoesNotExist(id)
	}
	for _, text := range texts {
		if c.verify(scratch, found, p, text) {
			caller.KeyID = found.fingerprint
			return caller, nil
		}
	}
	return nil, errInvalidSignature
}

// verify checks a signature, or remembers that it has been.
func (c *Cache) verify(scratch *scratch, k *key, p proof, text []byte) bool {
	sum := scratch.hash(k.identity, p.algorithm, p.signature, string(text))
	if _, ok := c.verified.get(&sum, p.now.UnixNano()); ok {
		c.counters.remembered.Add(1)
		return true
	}
	c.counters.verifications.Add(1)
	if !k.public.Verify(p.algorithm, text, p.signature) {
		return false
	}
	c.verified.put(&sum, struct{}{}, p.until.UnixNano())
	return true
}

// newCaller makes a caller of an account or one of its users, unless that is shut out.
func newCaller(account *sdc.Account, user *sdc.User) (*Caller, error) {
	if !account.Active() {
		return nil, errAccountBlocked(account.Login)
	}
	caller := &Caller{Account: account, User: user}
	if user != nil && user.Disabled {
		return nil, errAccountBlocked(caller.Login())
	}
	caller.Operator = user == nil && operatorAccount(account)
	return caller, nil
}

// operatorAccount reports whether an account is an operator's without asking to be.
func operatorAccount(a *sdc.Account) bool { return a.Operator() && !a.InGroup(sdc.GroupRoleOperators) }

// presigned authenticates by the query.
func (c *Cache) presigned(snap *snapshot, scratch *scratch, view *httpsig.Request, now time.Time) (*Caller, error) {
	p, err := httpsig.ParsePresigned(view, now)
	if err != nil {
		return nil, signatureError(err)
	}
	texts := make([][]byte, len(p.Texts))
	for i := range p.Texts {
		texts[i] = []byte(p.Texts[i])
	}
	// A URL may be good for years; what is remembered need not be.
	until := p.Expires
	if soon := now.Add(c.cfg.MaxSkew); until.After(soon) {
		until = soon
	}
	caller, err := c.signer(snap, scratch, proof{p.KeyID, p.Algorithm, p.Signature, now, until}, texts...)
	if err != nil {
		return nil, err
	}
	caller.Presigned, caller.Role, caller.RoleTag = true, p.Role, p.RoleTag
	return caller, nil
}

// bearer authenticates by a token. Account and user are looked up again, so a token is worth no more than they are now.
func (c *Cache) bearer(snap *snapshot, scratch *scratch, credentials string, now time.Time) (*Caller, error) {
	token, err := c.crack(scratch, credentials, now)
	if err != nil {
		return nil, err
	}
	account := snap.accounts.get(token.Account)
	if account == nil {
		return nil, errAccountDoesNotExist(token.Account)
	}
	var user *sdc.User
	if token.User != "" {
		if user = snap.users.get(token.User); user == nil || user.Account != account.UUID {
			return nil, errUserDoesNotExist("", token.User)
		}
	}
	caller, err := newCaller(account, user)
	if err != nil {
		return nil, err
	}
	caller.Token = token
	return caller, nil
}
