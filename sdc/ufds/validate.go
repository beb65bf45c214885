package ufds

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/sdc"
)

// What is wrong with a field.
const (
	codeMissing   = "MissingParameter"
	codeInvalid   = "Invalid"
	codeDuplicate = "Duplicate"
	codeInUse     = "InUse"
	codeLimit     = "LimitExceeded"
)

// errConflict's public face, for changes that lose every race.
var errBusy = &sdc.Error{Code: "ServiceUnavailable", Status: 503, Message: "too many changes at once", Retryable: true}

func errNotFound(what string) error {
	return &sdc.Error{Code: "ResourceNotFound", Status: 404, Message: what + " does not exist"}
}

func errField(field, code, message string) error {
	p := problems{}
	p.add(field, code, message)
	return p.err()
}

// problems collects everything that is wrong with an input.
type problems []sdc.FieldError

func (p *problems) add(field, code, message string) {
	*p = append(*p, sdc.FieldError{Field: field, Code: code, Message: message})
}

// err returns the error that says it all at once; nil if nothing is wrong.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	code := codeMissing
	messages := make([]string, len(p))
	for i, f := range p {
		messages[i] = f.Message
		switch {
		case f.Code == codeInUse:
			code = codeInUse
		case f.Code != codeMissing && code != codeInUse:
			code = "InvalidArgument"
		}
	}
	return &sdc.Error{Code: code, Status: 409, Message: strings.Join(messages, "; "), Fields: p}
}

var loginPattern = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.@]{2,31}$`)

func (p *problems) login(login string) {
	switch {
	case login == "":
		p.add("login", codeMissing, "login is required")
	case !loginPattern.MatchString(login) || strings.EqualFold(login, "local"):
		p.add("login", codeInvalid, fmt.Sprintf("login %q is invalid: 3 to 32 letters, digits, '_', '.' and '@', beginning with a letter", login))
	}
}

func (p *problems) uuid(field, id string) {
	if u, err := uuid.Parse(id); err != nil || u.String() != id {
		p.add(field, codeInvalid, fmt.Sprintf("%s %q is not a uuid", field, id))
	}
}

func (p *problems) uuids(field string, ids []string, limit int) {
	if len(ids) > limit {
		p.add(field, codeLimit, fmt.Sprintf("%s must not have more than %d entries", field, limit))
		return
	}
	for i, id := range ids {
		p.uuid(field, id)
		if slices.Contains(ids[:i], id) {
			p.add(field, codeDuplicate, fmt.Sprintf("%s has %q twice", field, id))
		}
	}
}

func (p *problems) email(email string) {
	if email == "" {
		return
	}
	at := strings.LastIndexByte(email, '@')
	if at < 1 || at == len(email)-1 || len(email) > 254 || !utf8.ValidString(email) || strings.ContainsFunc(email, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		p.add("email", codeInvalid, fmt.Sprintf("email %q is invalid", email))
	}
}

// text checks free text.
func (p *problems) text(field, s string, limit int) {
	control := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }
	if len(s) > limit || !utf8.ValidString(s) || strings.ContainsFunc(s, control) {
		p.add(field, codeInvalid, fmt.Sprintf("%s is invalid: at most %d bytes of text", field, limit))
	}
}

// name checks the name of a key, role or policy.
func (p *problems) name(name string, forbidden string) {
	switch {
	case name == "":
		p.add("name", codeMissing, "name is required")
	case len(name) > 255 || strings.TrimSpace(name) != name || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.ContainsAny(name, forbidden):
		p.add("name", codeInvalid, fmt.Sprintf("name %q is invalid", name))
	}
}

func (p *problems) person(v sdc.Person) {
	for _, f := range []struct{ field, value string }{
		{"cn", v.CommonName}, {"sn", v.Surname}, {"givenname", v.GivenName}, {"company", v.Company}, {"address", v.Address},
		{"city", v.City}, {"state", v.State}, {"postalcode", v.PostalCode}, {"country", v.Country}, {"phone", v.Phone},
	} {
		p.text(f.field, f.value, 1024)
	}
}
