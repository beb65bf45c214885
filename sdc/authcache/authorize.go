package authcache

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/aperture"
)

// Authorize decides whether a caller may do something; nil means yes. Refusals are AuthorizationFailed, NoMatchingRoleTag and AccountBlocked (403) and
// InvalidRole (409).
//
// An account may do anything to what is its own, an operator to everything, and anybody may read what is public. All else is for the caller's active roles: the rules of
// a role count on resources that carry the role as a tag, and those that name resources count on all resources of the role's account. Holders of the
// role "administrator" need no rules. What a caller may not do, the owner's anonymous user may still allow to all.
func (c *Cache) Authorize(_ context.Context, r AuthzRequest) error {
	snap, err := c.snapshot()
	if err != nil {
		return err
	}
	if publicPath(r.Resource) && (r.Action == "getobject" || r.Action == "getdirectory" || r.Action == "mlogin") {
		return nil
	}
	caller := r.Caller
	if caller.Account != nil && caller.User == nil && (caller.Account.UUID == r.Owner.UUID || caller.Operator) {
		return nil // most requests; nothing below is allocated for them
	}
	return c.authorize(snap, r)
}

// authorize asks the caller's roles, then those of the owner's anonymous user.
func (c *Cache) authorize(snap *snapshot, r AuthzRequest) error {
	caller := r.Caller
	err := c.decide(snap, &r, principal{caller.Account, caller.User, caller.Operator, caller.reader, caller.ActiveRoles, caller.Token})
	if err == nil {
		return nil
	}
	anonymous := snap.anonymous(r.Owner.UUID)
	if anonymous == nil || caller.Account != nil && caller.User == anonymous {
		return err
	}
	var roles []string
	for _, id := range snap.held.get(anonymous.UUID) {
		if role := snap.roles.get(id); role != nil && role.Account == r.Owner.UUID && slices.Contains(role.DefaultMembers, anonymous.UUID) {
			roles = append(roles, id)
		}
	}
	if c.decide(snap, &r, principal{account: r.Owner, user: anonymous, roles: roles}) == nil {
		return nil
	}
	return err // the caller can act on the first refusal, not on the anonymous user's
}

// A principal is a caller, or the anonymous user that stands in for one.
type principal struct {
	account  *sdc.Account
	user     *sdc.User
	operator bool
	reader   bool
	roles    []string // active
	token    *Token
}

func (p *principal) login() string {
	caller := Caller{Account: p.account, User: p.user}
	return caller.Login()
}

func (c *Cache) decide(snap *snapshot, r *AuthzRequest, p principal) error {
	owner := r.Owner
	path := r.RequestPath
	if path == "" {
		path = r.Resource
	}
	if p.account == nil {
		return errAuthorizationFailed(sdc.AnonymousUser, path, nil)
	}
	if p.user == nil && (p.account.UUID == owner.UUID || p.operator) {
		return nil
	}
	if !p.account.Active() {
		return errAccountBlocked(p.account.Login)
	}
	if !owner.Active() && !operatorAccount(p.account) {
		return errAccountBlocked(owner.Login)
	}
	member := p.account.UUID
	if p.user != nil {
		member = p.user.UUID
	}
	conditions := &circumstances{request: r, principal: &p, snap: snap, region: c.cfg.Region}
	request := aperture.Request{Action: r.Action, Resource: r.Resource, Conditions: conditions}
	var matching, ofOwner bool
	var undecided error
	allowed := false
	for _, id := range p.roles {
		if id == readersRole && p.reader {
			matching, ofOwner = true, true
			allowed = allowed || slices.Contains(readersActions, r.Action)
			continue
		}
		role := snap.roles.get(id)
		if role == nil || !snap.holds(member, id) {
			return errInvalidRole(id)
		}
		if role.Name == sdc.AdministratorRole {
			// Being one in another account than the owner's counts only where that account is the caller's own and an operator's.
			if role.Account == owner.UUID || role.Account == p.account.UUID && operatorAccount(p.account) {
				return nil
			}
			continue
		}
		if role.Account != owner.UUID {
			continue
		}
		ofOwner = true
		tagged := slices.Contains(r.RoleTags, id)
		matching = matching || tagged
		for _, policyID := range role.Policies {
			policy := snap.policies.get(policyID)
			if policy == nil {
				continue
			}
			rules := policy.explicit
			if tagged {
				rules = policy.rules
			}
			matching = matching || len(rules) > 0
			for _, rule := range rules {
				ok, err := rule.Evaluate(request)
				if err != nil {
					undecided = errors.Join(undecided, err)
				}
				allowed = allowed || ok
			}
		}
	}
	switch {
	case allowed:
		return nil
	case !matching && ofOwner:
		return errNoMatchingRole
	}
	return errAuthorizationFailed(p.login(), path, undecided)
}

// circumstances are the conditions of a request, looked up only when a rule asks.
type circumstances struct {
	request   *AuthzRequest
	principal *principal
	snap      *snapshot
	region    string
}

// Condition implements [aperture.Conditions].
func (c *circumstances) Condition(name string) (any, bool) {
	given := &c.request.Conditions
	text := func(s string) (any, bool) { return s, s != "" }
	switch name {
	case "activeRoles":
		var ids []string
		for _, id := range c.principal.roles {
			if role := c.snap.roles.get(id); role != nil && role.Account == c.request.Owner.UUID {
				ids = append(ids, id)
			}
		}
		return ids, true
	case "date", "day", "time":
		if given.Time.IsZero() {
			return time.Now(), true
		}
		return given.Time, true
	case "fromjob":
		return c.principal.token != nil && c.principal.token.FromJob, true
	case "method":
		return text(given.Method)
	case "overwrite":
		return given.Overwrite, true
	case "owner":
		return text(c.request.Owner.Login)
	case "region":
		return text(c.region)
	case "sourceip":
		return text(given.SourceIP)
	case "user-agent":
		return text(given.UserAgent)
	}
	return nil, false
}
