package ufds

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/aperture"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// maxRules bounds the text of a policy's rules together.
const maxRules = 256 << 10

func (d *Directory) validatePolicy(v *sdc.Policy) error {
	var p problems
	p.uuid("uuid", v.UUID)
	p.uuid("account", v.Account)
	p.name(v.Name, "")
	p.text("description", v.Description, 4096)
	switch {
	case len(v.Rules) == 0:
		p.add("rules", codeMissing, "rules are required")
	case len(v.Rules) > d.limits.Rules:
		p.add("rules", codeLimit, fmt.Sprintf("a policy must not have more than %d rules", d.limits.Rules))
		return p.err()
	}
	size := 0
	for i, text := range v.Rules {
		size += len(text)
		if slices.Contains(v.Rules[:i], text) {
			p.add("rules", codeDuplicate, fmt.Sprintf("rule %q is there twice", text))
		}
		if _, err := aperture.Parse(text, Types); err != nil {
			p.add("rules", codeInvalid, fmt.Sprintf("rule %d: %v", i+1, err))
		}
	}
	if size > maxRules {
		p.add("rules", codeLimit, fmt.Sprintf("rules must not have more than %d bytes together", maxRules))
	}
	return p.err()
}

// CreatePolicy makes a policy. Every rule must be one of sdc/aperture over the conditions of [Types].
func (d *Directory) CreatePolicy(ctx context.Context, v sdc.Policy) (sdc.Policy, error) {
	if v.UUID == "" {
		v.UUID = newUUID()
	}
	v.Created = stamp()
	v.Updated = v.Created
	if err := d.validatePolicy(&v); err != nil {
		return sdc.Policy{}, err
	}
	return create(ctx, d, PoliciesBucket, v.UUID, v, policyRecord(v), d.policyTaken, func(c *change) {
		c.exists(AccountsBucket, v.Account, errNotFound("account "+v.Account))
		c.below(policiesOf(v.Account), d.limits.Policies, errField("policies", codeLimit, fmt.Sprintf("account has %d policies, which is the limit", d.limits.Policies)))
		c.count(policiesOf(v.Account), 1)
	})
}

func (d *Directory) policyTaken(_ context.Context, v sdc.Policy) error {
	return errField("name", codeDuplicate, fmt.Sprintf("policy %q exists already", v.Name))
}

// Policy returns a policy by its uuid.
func (d *Directory) Policy(ctx context.Context, uuid string) (sdc.Policy, error) {
	v, _, err := get[sdc.Policy](ctx, d, PoliciesBucket, uuid, "policy "+uuid)
	return v, err
}

// PolicyByName returns a policy of an account by its name.
func (d *Directory) PolicyByName(ctx context.Context, account, name string) (sdc.Policy, error) {
	return byAlias[sdc.Policy](ctx, d, PoliciesBucket, account+"/"+name, "policy "+name)
}

// Policies yields the policies of an account, by uuid.
func (d *Directory) Policies(ctx context.Context, account string) iter.Seq2[sdc.Policy, error] {
	return list[sdc.Policy](ctx, d, PoliciesBucket, "account", account)
}

// UpdatePolicy changes a policy.
func (d *Directory) UpdatePolicy(ctx context.Context, uuid string, edit func(*sdc.Policy) error) (sdc.Policy, error) {
	return update(ctx, d, PoliciesBucket, uuid, "policy "+uuid, edit, func(old, v *sdc.Policy) error {
		v.UUID, v.Account, v.Created, v.Updated = old.UUID, old.Account, old.Created, stamp()
		return d.validatePolicy(v)
	}, policyRecord, d.policyTaken, nil)
}

// DeletePolicy removes a policy, and takes it away from the roles that it is attached to in the same step.
func (d *Directory) DeletePolicy(ctx context.Context, uuid string) error {
	what := "policy " + uuid
	return retry(ctx, func() error {
		v, err := d.Policy(ctx, uuid)
		if err != nil {
			return err
		}
		c := new(change)
		c.delete(PoliciesBucket, uuid, metastore.Present(), errNotFound(what))
		c.count(policiesOf(v.Account), -1)
		attached := int64(0)
		q := metastore.Query{Partition: metastore.In(""), Filter: metastore.Eq{Field: "policies", Value: uuid}}
		for record, err := range d.store.Find(ctx, RolesBucket, q) {
			if err != nil {
				return fmt.Errorf("find roles of %s: %w", what, err)
			}
			r, err := Decode[sdc.Role](record)
			if err != nil {
				return err
			}
			r.Policies = slices.DeleteFunc(r.Policies, func(id string) bool { return id == uuid })
			r.Updated = stamp()
			if err := c.put(RolesBucket, r.UUID, roleRecord(r), metastore.EtagIs(record.Etag), nil); err != nil {
				return err
			}
			attached++
		}
		c.is(attachmentsOf(uuid), attached, nil) // a role that was given the policy meanwhile starts this over
		if attached > 0 {
			c.count(attachmentsOf(uuid), -attached)
		}
		return d.commit(ctx, c)
	})
}
