package ufds_test

import (
	"context"
	"testing"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// between is a store in which something else happens just before the next commit.
type between struct {
	metastore.Store
	what func()
}

func (b *between) Commit(ctx context.Context, batch metastore.Batch) (metastore.Result, error) {
	if what := b.what; what != nil {
		b.what = nil
		what()
	}
	return b.Store.Commit(ctx, batch)
}

// What was true when a change was begun may not be when it is committed.
func TestChangesThatOvertakeEachOther(t *testing.T) {
	type scene struct {
		d        *ufds.Directory
		account  sdc.Account
		user     sdc.User
		policy   sdc.Policy
		role     sdc.Role
		t        *testing.T
		overtake func(func() error)
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	member := func(s *scene) error {
		_, err := s.d.UpdateRole(s.t.Context(), s.role.UUID, func(r *sdc.Role) error { r.Members = []string{s.user.UUID}; return nil })
		return err
	}
	attach := func(s *scene) error {
		_, err := s.d.UpdateRole(s.t.Context(), s.role.UUID, func(r *sdc.Role) error { r.Policies = []string{s.policy.UUID}; return nil })
		return err
	}
	key := func(s *scene) error { _, err := s.d.AddKey(s.t.Context(), s.user.UUID, "", publicKey(s.t)); return err }
	newUser := func(s *scene) error {
		_, err := s.d.CreateUser(s.t.Context(), sdc.User{Account: s.account.UUID, Login: "late"})
		return err
	}
	rename := func(login string) func(*scene) error {
		return func(s *scene) error {
			_, err := s.d.UpdateUser(s.t.Context(), s.user.UUID, func(u *sdc.User) error { u.Login = login; return nil })
			return err
		}
	}
	deleteUser := func(s *scene) error { return s.d.DeleteUser(s.t.Context(), s.user.UUID) }
	deletePolicy := func(s *scene) error { return s.d.DeletePolicy(s.t.Context(), s.policy.UUID) }
	deleteRole := func(s *scene) error { return s.d.DeleteRole(s.t.Context(), s.role.UUID) }
	deleteAccount := func(s *scene) error { return s.d.DeleteAccount(s.t.Context(), s.account.UUID) }
	clear := func(s *scene) {
		must(s.t, deleteRole(s))
		must(s.t, deletePolicy(s))
		must(s.t, deleteUser(s))
	}
	for _, tt := range []struct {
		name        string
		slow, quick func(*scene) error
		want        string // of the slow one
	}{
		{"member is deleted", member, deleteUser, "InvalidArgument members:Invalid"},
		{"deleted user becomes a member", deleteUser, member, "InUse roles:InUse"},
		{"policy is deleted", attach, deletePolicy, "InvalidArgument policies:Invalid"},
		{"deleted policy is attached", deletePolicy, attach, "<nil>"},
		{"owner of a key is deleted", key, deleteUser, "ResourceNotFound"},
		{"deleted user is given a key", deleteUser, key, "<nil>"},
		{"account of a user is deleted", newUser, func(s *scene) error { clear(s); return deleteAccount(s) }, "ResourceNotFound"},
		{"deleted account is given a user", func(s *scene) error {
			clear(s)
			s.overtake(func() error { return newUser(s) })
			return deleteAccount(s)
		}, nil, "InUse users:InUse"},
		{"user is renamed twice", rename("first"), rename("second"), "<nil>"},
		{"role is deleted while it changes", member, deleteRole, "ResourceNotFound"},
		{"role changes while it is deleted", deleteRole, member, "<nil>"},
		{"user is deleted twice", deleteUser, deleteUser, "ResourceNotFound"},
		{"policy is deleted twice", deletePolicy, deletePolicy, "ResourceNotFound"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := &between{Store: newStore(t)}
			d, err := ufds.New(ufds.Config{Store: store})
			must(t, err)
			must(t, d.Setup(t.Context()))
			s := &scene{d: d, t: t}
			s.account = account(t, d, "demo")
			s.user = user(t, d, s.account, "bob")
			s.policy = policy(t, d, s.account, "p", "CAN x")
			s.role, err = d.CreateRole(t.Context(), sdc.Role{Account: s.account.UUID, Name: "r"})
			must(t, err)
			s.overtake = func(what func() error) {
				store.what = func() {
					if err := what(); err != nil {
						t.Errorf("what came between: %v", err)
					}
				}
			}
			if tt.quick != nil {
				s.overtake(func() error { return tt.quick(s) })
			}
			if got := code(tt.slow(s)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			// Nothing refers to what is not there, and no counter is wrong: all that is left can be taken away.
			ctx := t.Context()
			for r, err := range d.Roles(ctx, s.account.UUID) {
				must(t, err)
				for _, id := range r.Policies {
					_, err := d.Policy(ctx, id)
					must(t, err)
				}
				for _, id := range r.Members {
					_, err := d.User(ctx, id)
					must(t, err)
				}
				must(t, d.DeleteRole(ctx, r.UUID))
			}
			for p, err := range d.Policies(ctx, s.account.UUID) {
				must(t, err)
				must(t, d.DeletePolicy(ctx, p.UUID))
			}
			for u, err := range d.Users(ctx, s.account.UUID) {
				must(t, err)
				must(t, d.DeleteUser(ctx, u.UUID))
			}
			if got := code(deleteAccount(s)); got != "<nil>" && got != "ResourceNotFound" {
				t.Errorf("account cannot be deleted: %s", got)
			}
			for k, err := range d.Keys(ctx, s.user.UUID) {
				t.Errorf("key of nobody: %v, %v", k, err)
			}
		})
	}
}
