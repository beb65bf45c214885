package ufds

import (
	"context"
	"fmt"
	"iter"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/storage/metastore"
)

func validateUser(u *sdc.User) error {
	var p problems
	p.uuid("uuid", u.UUID)
	p.uuid("account", u.Account)
	p.login(u.Login)
	p.email(u.Email)
	p.person(u.Person)
	return p.err()
}

// CreateUser makes a user below an account. Its login and e-mail address must not be those of another user of the account, in any case of letters.
func (d *Directory) CreateUser(ctx context.Context, u sdc.User) (sdc.User, error) {
	if u.UUID == "" {
		u.UUID = newUUID()
	}
	u.Created = stamp()
	u.Updated = u.Created
	if err := validateUser(&u); err != nil {
		return sdc.User{}, err
	}
	return create(ctx, d, UsersBucket, u.UUID, u, userRecord(u), d.userTaken, func(c *change) {
		c.exists(AccountsBucket, u.Account, errNotFound("account "+u.Account))
		c.below(usersOf(u.Account), d.limits.Users, errField("users", codeLimit, fmt.Sprintf("account has %d users, which is the limit", d.limits.Users)))
		c.count(usersOf(u.Account), 1)
	})
}

func (d *Directory) userTaken(ctx context.Context, u sdc.User) error {
	other, err := byAlias[sdc.User](ctx, d, UsersBucket, fold(u.Account, u.Login), "")
	if err == nil && other.UUID != u.UUID {
		return errField("login", codeDuplicate, fmt.Sprintf("login %q is taken", u.Login))
	}
	return errField("email", codeDuplicate, fmt.Sprintf("email %q is taken", u.Email))
}

// User returns a user by its uuid.
func (d *Directory) User(ctx context.Context, uuid string) (sdc.User, error) {
	u, _, err := get[sdc.User](ctx, d, UsersBucket, uuid, "user "+uuid)
	return u, err
}

// UserByLogin returns a user of an account by its login, in any case of letters.
func (d *Directory) UserByLogin(ctx context.Context, account, login string) (sdc.User, error) {
	return byAlias[sdc.User](ctx, d, UsersBucket, fold(account, login), "user "+login)
}

// Users yields the users of an account, by uuid.
func (d *Directory) Users(ctx context.Context, account string) iter.Seq2[sdc.User, error] {
	return list[sdc.User](ctx, d, UsersBucket, "account", account)
}

// UpdateUser changes a user.
func (d *Directory) UpdateUser(ctx context.Context, uuid string, change func(*sdc.User) error) (sdc.User, error) {
	return update(ctx, d, UsersBucket, uuid, "user "+uuid, change, func(old, u *sdc.User) error {
		u.UUID, u.Account, u.Created, u.Updated = old.UUID, old.Account, old.Created, stamp()
		return validateUser(u)
	}, userRecord, d.userTaken, nil)
}

// DeleteUser removes a user with its keys. It is InUse (409) while the user is a member of a role.
func (d *Directory) DeleteUser(ctx context.Context, uuid string) error {
	what := "user " + uuid
	return retry(ctx, func() error {
		u, err := d.User(ctx, uuid)
		if err != nil {
			return err
		}
		c := new(change)
		c.delete(UsersBucket, uuid, metastore.Present(), errNotFound(what))
		c.is(membershipsOf(uuid), 0, errField("roles", codeInUse, "user is a member of a role"))
		c.count(usersOf(u.Account), -1)
		if err := d.dropKeys(ctx, c, uuid); err != nil {
			return err
		}
		return d.commit(ctx, c)
	})
}
