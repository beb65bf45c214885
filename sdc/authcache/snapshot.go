package authcache

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/aperture"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// A snapshot is the directory at one point in time, indexed for questions. Once published it never changes.
type snapshot struct {
	accounts   cow[*sdc.Account] // by uuid
	logins     cow[*sdc.Account] // by login
	users      cow[*sdc.User]    // by uuid
	userLogins cow[*sdc.User]    // by account uuid/login
	keys       cow[[]*key]       // by owner's uuid
	roles      cow[*sdc.Role]    // by uuid
	roleNames  cow[*sdc.Role]    // by account uuid/name
	held       cow[[]string]     // by member's uuid: uuids of roles, sorted
	policies   cow[*policy]      // by uuid
	keyCount   int
	mark       int64 // of the directory; see WaitMark
}

// A key is a stored key, ready to verify.
type key struct {
	fingerprint string
	public      *httpsig.PublicKey
	identity    string // what the key is, for the memo of verified signatures
}

// A policy has its rules parsed.
type policy struct {
	rules    []*aperture.Rule // all of them
	explicit []*aperture.Rule // those that name resources
}

// copy returns a snapshot that may be changed.
func (s *snapshot) copy() *snapshot {
	return &snapshot{
		accounts: s.accounts.copy(), logins: s.logins.copy(), users: s.users.copy(), userLogins: s.userLogins.copy(), keys: s.keys.copy(),
		roles: s.roles.copy(), roleNames: s.roleNames.copy(), held: s.held.copy(), policies: s.policies.copy(), keyCount: s.keyCount, mark: s.mark,
	}
}

// apply brings one record into the snapshot; nil is one that is gone. Applying a state again changes nothing. After an error, which says that the record cannot
// be used, the snapshot is as if the record were gone.
func (s *snapshot) apply(bucket, name string, r *metastore.Record) error {
	switch bucket {
	case ufds.AccountsBucket:
		return load(name, r, func(a *sdc.Account) string { return a.UUID }, s.setAccount)
	case ufds.UsersBucket:
		return load(name, r, func(u *sdc.User) string { return u.UUID }, s.setUser)
	case ufds.KeysBucket:
		return load(name, r, func(k *sdc.Key) string { return ufds.KeyName(k.Owner, k.Fingerprint) }, s.setKey)
	case ufds.RolesBucket:
		return load(name, r, func(r *sdc.Role) string { return r.UUID }, s.setRole)
	case ufds.PoliciesBucket:
		return load(name, r, func(p *sdc.Policy) string { return p.UUID }, s.setPolicy)
	case ufds.MarksBucket:
		if r == nil {
			return nil
		}
		mark, err := ufds.DecodeMark(*r)
		s.mark = max(s.mark, mark)
		return err
	}
	return nil
}

// load decodes a record and hands it on; a record that does not decode or lies about its name is handed on as gone.
func load[T sdc.Account | sdc.User | sdc.Key | sdc.Role | sdc.Policy](name string, r *metastore.Record, nameOf func(*T) string, set func(string, *T) error) error {
	if r == nil {
		return set(name, nil)
	}
	v, err := ufds.Decode[T](*r)
	if err == nil && nameOf(&v) != name {
		err = fmt.Errorf("record %q of %s is that of another", name, r.Bucket)
	}
	if err != nil {
		return errors.Join(err, set(name, nil))
	}
	return set(name, &v)
}

// replace puts a value under its id and its name. Names move: another holder's entry under the old name is left alone.
func replace[T any](byID, byName *cow[*T], id string, value *T, name func(*T) string) (old *T) {
	old = byID.get(id)
	if old != nil && byName.get(name(old)) == old {
		byName.delete(name(old))
	}
	if value == nil {
		byID.delete(id)
		return old
	}
	byID.set(id, value)
	byName.set(name(value), value)
	return old
}

func (s *snapshot) setAccount(id string, a *sdc.Account) error {
	replace(&s.accounts, &s.logins, id, a, func(a *sdc.Account) string { return a.Login })
	return nil
}

func (s *snapshot) setUser(id string, u *sdc.User) error {
	replace(&s.users, &s.userLogins, id, u, func(u *sdc.User) string { return u.Account + "/" + u.Login })
	return nil
}

func (s *snapshot) setRole(id string, r *sdc.Role) error {
	old := replace(&s.roles, &s.roleNames, id, r, func(r *sdc.Role) string { return r.Account + "/" + r.Name })
	var before, after []string
	if old != nil {
		before = old.Members
	}
	if r != nil {
		after = r.Members
	}
	for _, m := range before {
		if !slices.Contains(after, m) {
			s.hold(m, id, false)
		}
	}
	for _, m := range after {
		s.hold(m, id, true)
	}
	return nil
}

// hold adds a role to those of a member, or takes it away.
func (s *snapshot) hold(member, role string, add bool) {
	list := s.held.get(member)
	i, found := slices.BinarySearch(list, role)
	if found == add {
		return
	}
	list = slices.Clone(list)
	if add {
		list = slices.Insert(list, i, role)
	} else {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		s.held.delete(member)
		return
	}
	s.held.set(member, list)
}

func (s *snapshot) setKey(name string, k *sdc.Key) error {
	const uuidLen = 36
	if len(name) <= uuidLen+1 || name[uuidLen] != '/' {
		return fmt.Errorf("key record %q has a name of no known form", name)
	}
	owner, fingerprint := name[:uuidLen], name[uuidLen+1:]
	list := s.keys.get(owner)
	without := make([]*key, 0, len(list)+1)
	for _, have := range list {
		if have.fingerprint != fingerprint {
			without = append(without, have)
		}
	}
	var err error
	if k != nil {
		var public *httpsig.PublicKey
		if public, err = httpsig.ParsePublicKey(k.OpenSSH); err == nil && public.MD5() != fingerprint {
			err = fmt.Errorf("key record %q holds another key", name)
		}
		if err == nil {
			without = append(without, &key{fingerprint: fingerprint, public: public, identity: public.SHA256()})
		}
	}
	s.keyCount += len(without) - len(list)
	if len(without) == 0 {
		s.keys.delete(owner)
		return err
	}
	s.keys.set(owner, without)
	return err
}

func (s *snapshot) setPolicy(id string, p *sdc.Policy) error {
	if p == nil {
		s.policies.delete(id)
		return nil
	}
	var errs []error
	parsed := new(policy)
	for _, text := range p.Rules {
		rule, err := aperture.Parse(text, ufds.Types)
		if err != nil { // a rule that nobody understands allows nothing
			errs = append(errs, fmt.Errorf("rule of policy %s: %w", id, err))
			continue
		}
		parsed.rules = append(parsed.rules, rule)
		if rule.NamesResources() {
			parsed.explicit = append(parsed.explicit, rule)
		}
	}
	s.policies.set(id, parsed)
	return errors.Join(errs...)
}

// holds reports whether a member may take up a role.
func (s *snapshot) holds(member, role string) bool {
	_, ok := slices.BinarySearch(s.held.get(member), role)
	return ok
}

// anonymous returns the user whose default roles callers without credentials have in an account; nil if there is none.
func (s *snapshot) anonymous(account string) *sdc.User {
	u := s.userLogins.get(account + "/" + sdc.AnonymousUser)
	if u == nil || u.Disabled {
		return nil
	}
	return u
}
