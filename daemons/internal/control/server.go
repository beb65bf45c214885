// Package control is how the people who run a head node tell it what to do: a private HTTP API on a unix socket that only the daemon's own user
// can open, and the commands that call it.
//
// The API is JSON. A refusal is {"code","message"} with the status of the error. Changes of identities are in force when the answer arrives.
//
// Stability: internal to the daemons.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/sdc/ufds"
)

// Server serves the API. All fields are required.
type Server struct {
	Accounts *ufds.Directory
	Identity *authcache.Cache
}

// maxBody bounds a request's JSON.
const maxBody = 1 << 20

// Routes adds the API to a mux.
func (s *Server) Routes(mux *http.ServeMux) {
	route := func(pattern string, handle func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			out, err := handle(r)
			if err == nil && r.Method != http.MethodGet {
				err = s.settle(r.Context())
			}
			Reply(w, out, err)
		})
	}
	route("POST /accounts", s.createAccount)
	route("GET /accounts", func(r *http.Request) (any, error) { return collect(s.Accounts.Accounts(r.Context())) })
	route("GET /accounts/{account}", func(r *http.Request) (any, error) { return s.account(r) })
	route("DELETE /accounts/{account}", s.deleteAccount)
	route("POST /accounts/{account}/users", s.createUser)
	route("GET /accounts/{account}/users", listOf(s, (*ufds.Directory).Users))
	route("DELETE /accounts/{account}/users/{name}", s.deleteUser)
	route("POST /accounts/{account}/policies", s.createPolicy)
	route("GET /accounts/{account}/policies", listOf(s, (*ufds.Directory).Policies))
	route("DELETE /accounts/{account}/policies/{name}", s.deletePolicy)
	route("POST /accounts/{account}/roles", s.createRole)
	route("GET /accounts/{account}/roles", listOf(s, (*ufds.Directory).Roles))
	route("DELETE /accounts/{account}/roles/{name}", s.deleteRole)
}

// Reply answers with a value or an error.
func Reply(w http.ResponseWriter, out any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		e := sdc.AsError(err)
		if e.Err != nil { // this socket is the operator's: the cause may be shown
			e.Message = fmt.Sprintf("%s: %v", e.Message, e.Err)
		}
		w.WriteHeader(e.Status)
		_ = json.NewEncoder(w).Encode(refusal{Code: e.Code, Message: e.Message, Fields: e.Fields})
		return
	}
	if out == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

type refusal struct {
	Code    string           `json:"code"`
	Message string           `json:"message"`
	Fields  []sdc.FieldError `json:"errors,omitempty"`
}

// settle waits until this process answers by every change made so far.
func (s *Server) settle(ctx context.Context) error {
	mark, err := s.Accounts.Mark(ctx)
	if err != nil {
		return err
	}
	return s.Identity.WaitMark(ctx, mark)
}

// Decode reads a request's JSON object.
func Decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return &sdc.Error{Code: "InvalidArgument", Message: err.Error(), Status: http.StatusConflict}
	}
	return nil
}

func collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	all := []T{}
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func listOf[T any](s *Server, list func(*ufds.Directory, context.Context, string) iter.Seq2[T, error]) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		a, err := s.account(r)
		if err != nil {
			return nil, err
		}
		return collect(list(s.Accounts, r.Context(), a.UUID))
	}
}

func (s *Server) account(r *http.Request) (sdc.Account, error) {
	return s.Accounts.AccountByLogin(r.Context(), r.PathValue("account"))
}

// NewIdentity asks for an account or a user.
type NewIdentity struct {
	Login    string `json:"login"`
	Email    string `json:"email,omitempty"`
	Key      string `json:"key,omitempty"` // a public key, as in authorized_keys or PEM
	Operator bool   `json:"operator,omitempty"`
}

func (s *Server) createAccount(r *http.Request) (any, error) {
	var in NewIdentity
	if err := Decode(r, &in); err != nil {
		return nil, err
	}
	return s.CreateAccount(r.Context(), in)
}

// CreateAccount makes an account with a key: both or neither.
func (s *Server) CreateAccount(ctx context.Context, in NewIdentity) (sdc.Account, error) {
	a := sdc.Account{Login: in.Login, Email: in.Email, ApprovedForProvisioning: true}
	if in.Operator {
		a.Groups = []string{sdc.GroupOperators}
	}
	a, err := s.Accounts.CreateAccount(ctx, a)
	if err != nil {
		return sdc.Account{}, err
	}
	if in.Key != "" {
		if _, err := s.Accounts.AddKey(ctx, a.UUID, "", in.Key); err != nil {
			return sdc.Account{}, errors.Join(err, s.Accounts.DeleteAccount(context.WithoutCancel(ctx), a.UUID))
		}
	}
	return a, nil
}

func (s *Server) deleteAccount(r *http.Request) (any, error) {
	a, err := s.account(r)
	if err != nil {
		return nil, err
	}
	// What else belongs to the account goes with it, or is named as the reason why not.
	ctx := r.Context()
	for role, err := range s.Accounts.RolesOf(ctx, a.UUID) {
		if err != nil {
			return nil, err
		}
		if err := s.leave(ctx, role, a.UUID); err != nil {
			return nil, err
		}
	}
	return nil, s.Accounts.DeleteAccount(ctx, a.UUID)
}

// leave takes a member out of a role.
func (s *Server) leave(ctx context.Context, role sdc.Role, member string) error {
	_, err := s.Accounts.UpdateRole(ctx, role.UUID, func(r *sdc.Role) error {
		r.Members = without(r.Members, member)
		r.DefaultMembers = without(r.DefaultMembers, member)
		return nil
	})
	return err
}

func without(list []string, s string) []string {
	var out []string
	for _, v := range list {
		if v != s {
			out = append(out, v)
		}
	}
	return out
}

func (s *Server) createUser(r *http.Request) (any, error) {
	a, err := s.account(r)
	if err != nil {
		return nil, err
	}
	var in NewIdentity
	if err := Decode(r, &in); err != nil {
		return nil, err
	}
	u, err := s.Accounts.CreateUser(r.Context(), sdc.User{Account: a.UUID, Login: in.Login, Email: in.Email})
	if err != nil {
		return nil, err
	}
	if in.Key != "" {
		if _, err := s.Accounts.AddKey(r.Context(), u.UUID, "", in.Key); err != nil {
			return nil, errors.Join(err, s.Accounts.DeleteUser(context.WithoutCancel(r.Context()), u.UUID))
		}
	}
	return u, nil
}

func (s *Server) deleteUser(r *http.Request) (any, error) {
	a, err := s.account(r)
	if err != nil {
		return nil, err
	}
	u, err := s.Accounts.UserByLogin(r.Context(), a.UUID, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	for role, err := range s.Accounts.RolesOf(r.Context(), u.UUID) {
		if err != nil {
			return nil, err
		}
		if err := s.leave(r.Context(), role, u.UUID); err != nil {
			return nil, err
		}
	}
	return nil, s.Accounts.DeleteUser(r.Context(), u.UUID)
}

// NewPolicy asks for a policy.
type NewPolicy struct {
	Name  string   `json:"name"`
	Rules []string `json:"rules"`
}

func (s *Server) createPolicy(r *http.Request) (any, error) {
	a, err := s.account(r)
	if err != nil {
		return nil, err
	}
	var in NewPolicy
	if err := Decode(r, &in); err != nil {
		return nil, err
	}
	return s.Accounts.CreatePolicy(r.Context(), sdc.Policy{Account: a.UUID, Name: in.Name, Rules: in.Rules})
}

func (s *Server) deletePolicy(r *http.Request) (any, error) {
	a, err := s.account(r)
	if err != nil {
		return nil, err
	}
	p, err := s.Accounts.PolicyByName(r.Context(), a.UUID, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return nil, s.Accounts.DeletePolicy(r.Context(), p.UUID)
}

// NewRole asks for a role. Members are logins: of a user of the account, of another account, or account/user.
type NewRole struct {
	Name           string   `json:"name"`
	Policies       []string `json:"policies"`
	Members        []string `json:"members"`
	DefaultMembers []string `json:"default_members"`
}

func (s *Server) createRole(r *http.Request) (any, error) {
	a, err := s.account(r)
	if err != nil {
		return nil, err
	}
	var in NewRole
	if err := Decode(r, &in); err != nil {
		return nil, err
	}
	role := sdc.Role{Account: a.UUID, Name: in.Name}
	ctx := r.Context()
	for _, name := range in.Policies {
		p, err := s.Accounts.PolicyByName(ctx, a.UUID, name)
		if err != nil {
			return nil, err
		}
		role.Policies = append(role.Policies, p.UUID)
	}
	for _, list := range []struct {
		names []string
		uuids *[]string
	}{{in.Members, &role.Members}, {in.DefaultMembers, &role.DefaultMembers}} {
		for _, name := range list.names {
			uuid, err := s.Accounts.Member(ctx, a.UUID, name)
			if err != nil {
				return nil, err
			}
			*list.uuids = append(*list.uuids, uuid)
		}
	}
	return s.Accounts.CreateRole(ctx, role)
}

func (s *Server) deleteRole(r *http.Request) (any, error) {
	a, err := s.account(r)
	if err != nil {
		return nil, err
	}
	role, err := s.Accounts.RoleByName(r.Context(), a.UUID, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return nil, s.Accounts.DeleteRole(r.Context(), role.UUID)
}
