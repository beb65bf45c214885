package ufds

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/storage/metastore"
)

var groupPattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

func validateAccount(a *sdc.Account) error {
	a.Groups = slices.Compact(slices.Sorted(slices.Values(a.Groups)))
	var p problems
	p.uuid("uuid", a.UUID)
	p.login(a.Login)
	p.email(a.Email)
	p.person(a.Person)
	for _, g := range a.Groups {
		if !groupPattern.MatchString(g) {
			p.add("groups", codeInvalid, fmt.Sprintf("group %q is invalid", g))
		}
	}
	return p.err()
}

// CreateAccount makes an account. Its login and e-mail address must not be another's, in any case of letters.
func (d *Directory) CreateAccount(ctx context.Context, a sdc.Account) (sdc.Account, error) {
	if a.UUID == "" {
		a.UUID = newUUID()
	}
	a.Created = stamp()
	a.Updated = a.Created
	if err := validateAccount(&a); err != nil {
		return sdc.Account{}, err
	}
	return create(ctx, d, AccountsBucket, a.UUID, a, accountRecord(a), d.accountTaken, func(*change) {})
}

// accountTaken says which unique field of an account is another's.
func (d *Directory) accountTaken(ctx context.Context, a sdc.Account) error {
	other, err := byAlias[sdc.Account](ctx, d, AccountsBucket, fold(a.Login), "")
	var p problems
	if err == nil && other.UUID != a.UUID {
		p.add("login", codeDuplicate, fmt.Sprintf("login %q is taken", a.Login))
	} else {
		p.add("email", codeDuplicate, fmt.Sprintf("email %q is taken", a.Email))
	}
	return p.err()
}

// Account returns an account by its uuid.
func (d *Directory) Account(ctx context.Context, uuid string) (sdc.Account, error) {
	a, _, err := get[sdc.Account](ctx, d, AccountsBucket, uuid, "account "+uuid)
	return a, err
}

// AccountByLogin returns an account by its login, in any case of letters.
func (d *Directory) AccountByLogin(ctx context.Context, login string) (sdc.Account, error) {
	return byAlias[sdc.Account](ctx, d, AccountsBucket, fold(login), "account "+login)
}

// Accounts yields all accounts, by uuid.
func (d *Directory) Accounts(ctx context.Context) iter.Seq2[sdc.Account, error] {
	return list[sdc.Account](ctx, d, AccountsBucket, "", "")
}

// UpdateAccount changes an account.
func (d *Directory) UpdateAccount(ctx context.Context, uuid string, change func(*sdc.Account) error) (sdc.Account, error) {
	return update(ctx, d, AccountsBucket, uuid, "account "+uuid, change, func(old, a *sdc.Account) error {
		a.UUID, a.Created, a.Updated = old.UUID, old.Created, stamp()
		return validateAccount(a)
	}, accountRecord, d.accountTaken, nil)
}

// DeleteAccount removes an account with its keys. It is InUse (409) while the account has users, roles or policies, or is a member of a role.
func (d *Directory) DeleteAccount(ctx context.Context, uuid string) error {
	what := "account " + uuid
	return retry(ctx, func() error {
		if _, err := d.Account(ctx, uuid); err != nil {
			return err
		}
		c := new(change)
		c.delete(AccountsBucket, uuid, metastore.Present(), errNotFound(what))
		var p problems
		for _, ref := range []struct {
			counter counter
			field   string
		}{
			{usersOf(uuid), "users"}, {rolesOf(uuid), "roles"}, {policiesOf(uuid), "policies"}, {membershipsOf(uuid), "memberships of roles"},
		} {
			n, err := d.read(ctx, ref.counter)
			if err != nil {
				return err
			}
			if n != 0 {
				p.add(ref.field, codeInUse, fmt.Sprintf("account has %d %s", n, ref.field))
			}
			c.is(ref.counter, 0, nil)
		}
		if err := p.err(); err != nil {
			return err
		}
		if err := d.dropKeys(ctx, c, uuid); err != nil {
			return err
		}
		return d.commit(ctx, c)
	})
}

// Member finds the uuid of somebody who may be a member of a role: the login of a user of the account, the login of another account, or
// account/user for a user of another account.
func (d *Directory) Member(ctx context.Context, account, name string) (uuid string, err error) {
	if login, user, ok := strings.Cut(name, "/"); ok {
		other, err := d.AccountByLogin(ctx, login)
		if err != nil {
			return "", err
		}
		u, err := d.UserByLogin(ctx, other.UUID, user)
		return u.UUID, err
	}
	u, err := d.UserByLogin(ctx, account, name)
	if err == nil {
		return u.UUID, nil
	}
	if e, ok := errors.AsType[*sdc.Error](err); !ok || e.Status != 404 {
		return "", err
	}
	a, err := d.AccountByLogin(ctx, name)
	return a.UUID, err
}
