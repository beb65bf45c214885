package authcache

import "github.com/mobulacloud/mobula/sdc"

// AccountByLogin returns an account, or AccountDoesNotExist (403).
func (c *Cache) AccountByLogin(login string) (*sdc.Account, error) {
	snap, err := c.snapshot()
	if err != nil {
		return nil, err
	}
	if a := snap.logins.get(login); a != nil {
		return a, nil
	}
	return nil, errAccountDoesNotExist(login)
}

// AccountByUUID returns an account, or AccountDoesNotExist (403).
func (c *Cache) AccountByUUID(uuid string) (*sdc.Account, error) {
	snap, err := c.snapshot()
	if err != nil {
		return nil, err
	}
	if a := snap.accounts.get(uuid); a != nil {
		return a, nil
	}
	return nil, errAccountDoesNotExist(uuid)
}

// Owner returns the account that owns what a path is about: login is the path's first component, decoded, and path what a refusal names. An anonymous caller who is not
// reading a public directory becomes the owner's anonymous user here, or is refused with AuthorizationFailed (403) if there is none. An owner who is not active is
// AccountBlocked (403) to all but operators.
func (c *Cache) Owner(caller *Caller, login, path string) (*sdc.Account, error) {
	snap, err := c.snapshot()
	if err != nil {
		return nil, err
	}
	owner := snap.logins.get(login)
	if owner == nil {
		return nil, errAccountDoesNotExist(login)
	}
	if caller.Anonymous && !caller.public {
		user := snap.anonymous(owner.UUID)
		if user == nil {
			return nil, errAuthorizationFailed(sdc.AnonymousUser, path, nil)
		}
		caller.Account, caller.User, caller.Operator = owner, user, false
	}
	if !owner.Active() && !caller.Operator {
		return nil, errAccountBlocked(login)
	}
	return owner, nil
}
