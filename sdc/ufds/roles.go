package ufds

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// reservedRoles mean something to requests, or to clients that cannot tell a name from a boolean.
var reservedRoles = []string{"*", "true", sdc.OperatorRole, "_global_readers"}

func (d *Directory) validateRole(r *sdc.Role) error {
	var p problems
	p.uuid("uuid", r.UUID)
	p.uuid("account", r.Account)
	p.name(r.Name, ",")
	if slices.Contains(reservedRoles, r.Name) {
		p.add("name", codeInvalid, fmt.Sprintf("name %q is reserved", r.Name))
	}
	p.uuids("members", r.Members, d.limits.Members)
	p.uuids("default_members", r.DefaultMembers, d.limits.Members)
	p.uuids("policies", r.Policies, d.limits.Attached)
	for _, m := range r.DefaultMembers {
		if !slices.Contains(r.Members, m) {
			p.add("default_members", codeInvalid, fmt.Sprintf("default member %q is not a member", m))
		}
	}
	if r.Name == sdc.AdministratorRole && len(r.Policies) > 0 {
		p.add("policies", codeInvalid, "the role administrator has no policies")
	}
	for _, ids := range [][]string{r.Members, r.DefaultMembers, r.Policies} {
		slices.Sort(ids)
	}
	return p.err()
}

// CreateRole makes a role. Its members may be users and accounts anywhere, its policies must be of the same account.
func (d *Directory) CreateRole(ctx context.Context, r sdc.Role) (sdc.Role, error) {
	if r.UUID == "" {
		r.UUID = newUUID()
	}
	r.Created = stamp()
	r.Updated = r.Created
	r.Members, r.DefaultMembers, r.Policies = slices.Clone(r.Members), slices.Clone(r.DefaultMembers), slices.Clone(r.Policies)
	if err := d.validateRole(&r); err != nil {
		return sdc.Role{}, err
	}
	refs := new(change)
	if err := d.refer(ctx, refs, &sdc.Role{Account: r.Account}, &r); err != nil {
		return sdc.Role{}, err
	}
	return create(ctx, d, RolesBucket, r.UUID, r, roleRecord(r), d.roleTaken, func(c *change) {
		c.exists(AccountsBucket, r.Account, errNotFound("account "+r.Account))
		c.below(rolesOf(r.Account), d.limits.Roles, errField("roles", codeLimit, fmt.Sprintf("account has %d roles, which is the limit", d.limits.Roles)))
		c.count(rolesOf(r.Account), 1)
		c.batch, c.refused = append(c.batch, refs.batch...), append(c.refused, refs.refused...)
	})
}

// refer adds to a change what follows from another list of members and policies: those that are new must exist, and all of them are counted.
func (d *Directory) refer(ctx context.Context, c *change, old, r *sdc.Role) error {
	var p problems
	for _, m := range r.Members {
		if slices.Contains(old.Members, m) {
			continue
		}
		bucket, err := d.ownerBucket(ctx, m)
		if e, ok := errors.AsType[*sdc.Error](err); ok && e.Status == 404 {
			p.add("members", codeInvalid, "Invalid subuser: "+m)
			continue
		} else if err != nil {
			return err
		}
		c.exists(bucket, m, errField("members", codeInvalid, "Invalid subuser: "+m))
		c.count(membershipsOf(m), 1)
	}
	for _, m := range old.Members {
		if !slices.Contains(r.Members, m) {
			c.count(membershipsOf(m), -1)
		}
	}
	for _, id := range r.Policies {
		if slices.Contains(old.Policies, id) {
			continue
		}
		policy, err := d.Policy(ctx, id)
		if e, ok := errors.AsType[*sdc.Error](err); ok && e.Status == 404 || err == nil && policy.Account != r.Account {
			p.add("policies", codeInvalid, "Invalid policy: "+id)
			continue
		} else if err != nil {
			return err
		}
		c.exists(PoliciesBucket, id, errField("policies", codeInvalid, "Invalid policy: "+id))
		c.count(attachmentsOf(id), 1)
	}
	for _, id := range old.Policies {
		if !slices.Contains(r.Policies, id) {
			c.count(attachmentsOf(id), -1)
		}
	}
	return p.err()
}

func (d *Directory) roleTaken(_ context.Context, r sdc.Role) error {
	return errField("name", codeDuplicate, fmt.Sprintf("role %q exists already", r.Name))
}

// Role returns a role by its uuid.
func (d *Directory) Role(ctx context.Context, uuid string) (sdc.Role, error) {
	r, _, err := get[sdc.Role](ctx, d, RolesBucket, uuid, "role "+uuid)
	return r, err
}

// RoleByName returns a role of an account by its name.
func (d *Directory) RoleByName(ctx context.Context, account, name string) (sdc.Role, error) {
	return byAlias[sdc.Role](ctx, d, RolesBucket, account+"/"+name, "role "+name)
}

// Roles yields the roles of an account, by uuid.
func (d *Directory) Roles(ctx context.Context, account string) iter.Seq2[sdc.Role, error] {
	return list[sdc.Role](ctx, d, RolesBucket, "account", account)
}

// RolesOf yields the roles that an account or user is a member of, whoever's they are.
func (d *Directory) RolesOf(ctx context.Context, member string) iter.Seq2[sdc.Role, error] {
	return list[sdc.Role](ctx, d, RolesBucket, "members", member)
}

// UpdateRole changes a role.
func (d *Directory) UpdateRole(ctx context.Context, uuid string, edit func(*sdc.Role) error) (sdc.Role, error) {
	return update(ctx, d, RolesBucket, uuid, "role "+uuid, edit, func(old, r *sdc.Role) error {
		r.UUID, r.Account, r.Created, r.Updated = old.UUID, old.Account, old.Created, stamp()
		return d.validateRole(r)
	}, roleRecord, d.roleTaken, d.refer)
}

// DeleteRole removes a role. Its members and policies stay; where it is a tag, the tag means nothing any more.
func (d *Directory) DeleteRole(ctx context.Context, uuid string) error {
	return retry(ctx, func() error {
		r, etag, err := get[sdc.Role](ctx, d, RolesBucket, uuid, "role "+uuid)
		if err != nil {
			return err
		}
		c := new(change)
		c.delete(RolesBucket, uuid, metastore.EtagIs(etag), nil)
		c.count(rolesOf(r.Account), -1)
		if err := d.refer(ctx, c, &r, &sdc.Role{Account: r.Account}); err != nil {
			return err
		}
		return d.commit(ctx, c)
	})
}
