package authcache

import (
	"slices"
	"strings"

	"github.com/mobulacloud/mobula/sdc"
)

// readersRole is the uuid of the role that members of the group readers hold in every account; its name and uuid are the original's.
const (
	readersRole     = "76b9ad78-5351-45a3-89f3-b6b48482ed65"
	readersRoleName = "_global_readers"
)

// readersActions are what it allows, on everything.
var readersActions = []string{"getobject", "getdirectory", "listjobs", "getjob"}

// SplitList splits a header such as Role or Role-Tag: names between commas, white space around them removed.
func SplitList(header string) []string {
	names := strings.Split(header, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return names
}

// member returns the uuid by which roles know the caller; "" for nobody.
func (c *Caller) member() string {
	switch {
	case c.User != nil:
		return c.User.UUID
	case c.Account != nil:
		return c.Account.UUID
	}
	return ""
}

// ActivateRoles decides which roles count for a request and puts them into [Caller.ActiveRoles]. role is the request's Role header, "" for none; it is
// ignored where the caller's token or pre-signed URL says which roles count. With neither, the caller's default roles do. A name that is not of a role of
// the caller is InvalidRole (409). Whose things the request is about, the second argument, makes no difference today: a role that is of no use there is
// active all the same, and [Cache.Authorize] passes over it.
func (c *Cache) ActivateRoles(caller *Caller, _ *sdc.Account, role string) error {
	snap, err := c.snapshot()
	if err != nil {
		return err
	}
	caller.ActiveRoles = nil
	if caller.Account != nil {
		caller.Operator = caller.User == nil && operatorAccount(caller.Account)
		caller.reader = caller.Account.InGroup(sdc.GroupReaders)
	}
	if caller.Token != nil && caller.Token.hasRoles {
		caller.ActiveRoles = slices.Clone(caller.Token.Roles)
		return nil
	}
	if caller.Presigned {
		role = caller.Role
	}
	if role == sdc.OperatorRole && caller.Account != nil && caller.Account.InGroup(sdc.GroupRoleOperators) {
		caller.Operator = caller.User == nil
		return nil
	}
	member := caller.member()
	held := snap.held.get(member)
	var active []string
	switch {
	case role == "":
		for _, id := range held {
			r := snap.roles.get(id)
			// Users have only roles of their own account by default, others they must ask for.
			if r != nil && slices.Contains(r.DefaultMembers, member) && (caller.User == nil || r.Account == caller.Account.UUID) {
				active = append(active, id)
			}
		}
	case role == "*" && caller.User != nil:
		for _, id := range held {
			if r := snap.roles.get(id); r != nil && r.Account == caller.Account.UUID {
				active = append(active, id)
			}
		}
		caller.ActiveRoles = active
		return nil
	default:
		for _, name := range SplitList(role) {
			n := len(active)
			for _, id := range held {
				if r := snap.roles.get(id); r != nil && r.Name == name {
					active = append(active, id)
				}
			}
			if len(active) == n && !(caller.reader && name == readersRoleName) {
				return errInvalidRole(name)
			}
		}
	}
	if caller.reader {
		active = append(active, readersRole)
	}
	slices.Sort(active)
	caller.ActiveRoles = slices.Compact(active)
	return nil
}

// RoleTags turns names of roles of an account into their uuids. One that does not exist is InvalidRoleTag (409).
func (c *Cache) RoleTags(owner *sdc.Account, names []string) ([]string, error) {
	snap, err := c.snapshot()
	if err != nil {
		return nil, err
	}
	uuids := make([]string, 0, len(names))
	for _, name := range names {
		r := snap.roleNames.get(owner.UUID + "/" + name)
		if r == nil {
			return nil, errInvalidRoleTag(name)
		}
		if !slices.Contains(uuids, r.UUID) {
			uuids = append(uuids, r.UUID)
		}
	}
	return uuids, nil
}

// NewRoleTags returns the role tags that something a caller creates, or replaces the metadata of, gets: those that the request names (the Role-Tag
// header, or the pre-signed URL instead), else all active roles of a user, and none of an account.
func (c *Cache) NewRoleTags(caller *Caller, owner *sdc.Account, roleTag string) ([]string, error) {
	if caller.Presigned {
		roleTag = caller.RoleTag
	}
	if roleTag != "" {
		return c.RoleTags(owner, SplitList(roleTag))
	}
	if caller.User == nil {
		return nil, nil
	}
	return slices.DeleteFunc(slices.Clone(caller.ActiveRoles), func(id string) bool { return id == readersRole }), nil
}

// RoleNames returns the names of roles, for showing tags. Roles that are no more are left out; nil comes back while the cache is not ready.
func (c *Cache) RoleNames(uuids []string) []string {
	snap, err := c.snapshot()
	if err != nil || len(uuids) == 0 {
		return nil
	}
	names := make([]string, 0, len(uuids))
	for _, id := range uuids {
		if r := snap.roles.get(id); r != nil {
			names = append(names, r.Name)
		}
	}
	return names
}
