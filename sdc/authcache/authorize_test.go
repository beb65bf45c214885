package authcache_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
)

// decide goes the way of a request: authenticate, owner, roles, authorize. It returns the first refusal's code.
func (w *world) decide(who, roles, action, path, tags string, conditions authcache.Conditions) (string, error) {
	w.Helper()
	login := strings.Split(path, "/")[1]
	c := w.caller(who, path)
	owner, err := w.cache.Owner(c, login, path)
	if err != nil {
		return codeOf(err), err
	}
	if err := w.cache.ActivateRoles(c, owner, roles); err != nil {
		return codeOf(err), err
	}
	var ids []string
	for _, tag := range strings.Fields(tags) {
		ids = append(ids, w.ids[login+":"+tag])
	}
	err = w.cache.Authorize(w.Context(), authcache.AuthzRequest{Caller: c, Owner: owner, Action: action, Resource: path, RoleTags: ids, Conditions: conditions})
	return codeOf(err), err
}

func TestAllowAndDeny(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		saturday := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
		office := authcache.Conditions{SourceIP: "10.1.2.3", Time: saturday}
		for _, tt := range []struct {
			name, who, roles, action, path, tags string
			conditions                           authcache.Conditions
			want                                 string
		}{
			// Accounts.
			{"owner reads", "demo", "", "getobject", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"owner does anything", "demo", "", "mlogin", "/demo/jobs", "tagged", authcache.Conditions{}, ""},
			{"stranger", "other", "", "putobject", "/demo/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"stranger the other way round", "demo", "", "getobject", "/other/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"operator", "poseidon", "", "deleteobject", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"operator's user", "poseidon/pat", "administrator", "deleteobject", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"operator's user by default", "poseidon/pat", "", "deleteobject", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"administrator of an operator's account from elsewhere", "other", "administrator", "getobject", "/demo/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"administrator of an operator's account, there", "other", "administrator", "getobject", "/poseidon/stor/x", "", authcache.Conditions{}, ""},
			{"asks for no role of the caller", "other", "writer", "putobject", "/demo/stor/in/x", "", authcache.Conditions{}, "InvalidRole"},
			{"all roles are for users", "other", "*", "getobject", "/demo/stor/x", "", authcache.Conditions{}, "InvalidRole"},

			// Groups.
			{"reader reads", "reader", "", "getobject", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"reader lists", "reader", "", "getdirectory", "/demo/stor", "", authcache.Conditions{}, ""},
			{"reader sees jobs", "reader", "", "listjobs", "/demo/jobs", "", authcache.Conditions{}, ""},
			{"reader writes", "reader", "", "putobject", "/demo/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"reader by name", "reader", "_global_readers", "getobject", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"reader's user reads", "reader/rae", "", "getobject", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"nobody is a reader by name", "other", "_global_readers", "getobject", "/demo/stor/x", "", authcache.Conditions{}, "InvalidRole"},
			{"operator on call, not asking", "oncall", "", "getobject", "/demo/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"operator on call, asking", "oncall", "_operator", "deleteobject", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"operator on call, own things", "oncall", "", "putobject", "/oncall/stor/x", "", authcache.Conditions{}, ""},
			{"nobody is an operator by asking", "demo", "_operator", "getobject", "/other/stor/x", "", authcache.Conditions{}, "InvalidRole"},
			{"no user is an operator by asking", "demo/bob", "_operator", "getobject", "/demo/stor/x", "", authcache.Conditions{}, "InvalidRole"},

			// Users and role tags.
			{"user without roles", "demo/eve", "", "getobject", "/demo/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"user without roles on its account", "demo/eve", "", "getdirectory", "/demo", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"role and tag", "demo/bob", "tagged", "getobject", "/demo/stor/x", "tagged", authcache.Conditions{}, ""},
			{"role without tag", "demo/bob", "tagged", "getobject", "/demo/stor/x", "", authcache.Conditions{}, "NoMatchingRoleTag"},
			{"role with another tag", "demo/bob", "tagged", "getobject", "/demo/stor/x", "writer", authcache.Conditions{}, "NoMatchingRoleTag"},
			{"tag without role", "demo/bob", "empty", "getobject", "/demo/stor/x", "tagged", authcache.Conditions{}, "NoMatchingRoleTag"},
			{"role and tag, another action", "demo/bob", "tagged", "deleteobject", "/demo/stor/x", "tagged", authcache.Conditions{}, "AuthorizationFailed"},
			{"not by default", "demo/bob", "", "getobject", "/demo/stor/x", "tagged", authcache.Conditions{}, "AuthorizationFailed"},
			{"by default", "demo/defaulted", "", "getobject", "/demo/stor/x", "tagged", authcache.Conditions{}, ""},
			{"by default, nothing tagged", "demo/defaulted", "", "getobject", "/demo/stor/x", "", authcache.Conditions{}, "NoMatchingRoleTag"},
			{"all roles", "demo/bob", "*", "getobject", "/demo/stor/x", "tagged", authcache.Conditions{}, ""},
			{"several roles", "demo/bob", "empty , tagged", "getobject", "/demo/stor/x", "tagged", authcache.Conditions{}, ""},
			{"one unknown of several", "demo/bob", "tagged,nope", "getobject", "/demo/stor/x", "tagged", authcache.Conditions{}, "InvalidRole"},
			{"a role of another user", "demo/eve", "tagged", "getobject", "/demo/stor/x", "tagged", authcache.Conditions{}, "InvalidRole"},
			{"a role of no policies", "demo/bob", "empty", "getobject", "/demo/stor/x", "empty", authcache.Conditions{}, "AuthorizationFailed"},

			// Rules that name resources.
			{"named resource", "demo/bob", "writer", "putobject", "/demo/stor/in/x", "", authcache.Conditions{}, ""},
			{"named resource, deeper", "demo/bob", "writer", "putobject", "/demo/stor/in/a/b", "", authcache.Conditions{}, ""},
			{"another resource", "demo/bob", "writer", "putobject", "/demo/stor/out/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"a rule without resource does not count untagged", "demo/bob", "writer", "deleteobject", "/demo/stor/in/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"a rule without resource counts tagged", "demo/bob", "writer", "deleteobject", "/demo/stor/out/x", "writer", authcache.Conditions{}, ""},
			{"CAN NOT allows nothing", "demo/bob", "never", "getobject", "/demo/stor/x", "never", authcache.Conditions{}, "AuthorizationFailed"},
			{"CAN NOT takes nothing away", "demo/bob", "never,tagged", "getobject", "/demo/stor/x", "tagged", authcache.Conditions{}, ""},
			{"a rule for a principal is for nobody here", "demo/bob", "named", "getobject", "/demo/stor/x", "named", authcache.Conditions{}, "AuthorizationFailed"},

			// Conditions.
			{"new entry", "demo/bob", "tagged", "putobject", "/demo/stor/x", "tagged", authcache.Conditions{Overwrite: false}, ""},
			{"existing entry", "demo/bob", "tagged", "putobject", "/demo/stor/x", "tagged", authcache.Conditions{Overwrite: true}, "AuthorizationFailed"},
			{"from the office on Saturday", "demo/bob", "office", "getobject", "/demo/stor/x", "", office, ""},
			{"from the office on Friday", "demo/bob", "office", "getobject", "/demo/stor/x", "", authcache.Conditions{SourceIP: "10.1.2.3", Time: saturday.Add(-24 * time.Hour)}, "AuthorizationFailed"},
			{"from home", "demo/bob", "office", "getobject", "/demo/stor/x", "", authcache.Conditions{SourceIP: "192.0.2.1", Time: saturday}, "AuthorizationFailed"},
			{"from nowhere", "demo/bob", "office", "getobject", "/demo/stor/x", "", authcache.Conditions{Time: saturday}, "AuthorizationFailed"},
			{"from an address that is none", "demo/bob", "office", "getobject", "/demo/stor/x", "", authcache.Conditions{SourceIP: "10", Time: saturday}, "AuthorizationFailed"},

			// Across accounts.
			{"account by default", "other", "", "getobject", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"account, another action", "other", "shared", "putobject", "/demo/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"user not by default", "other/joe", "", "getobject", "/demo/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"user by name", "other/joe", "shared", "getobject", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"same name in both accounts, here", "demo/bob", "shared", "getobject", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"same name in both accounts, there", "demo/bob", "shared", "getobject", "/other/stor/x", "", authcache.Conditions{}, ""},
			{"all roles are those of the own account", "demo/bob", "*", "getobject", "/other/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"a foreign role counts at home only", "demo/bob", "foreign", "putobject", "/demo/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"a foreign role at its home", "demo/bob", "foreign", "putobject", "/other/stor/x", "", authcache.Conditions{}, ""},
			{"a foreign default role does not count", "demo/bob", "", "putobject", "/other/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},

			// Administrators.
			{"administrator", "demo/admin", "", "deletedirectory", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"administrator elsewhere", "demo/admin", "", "getobject", "/other/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"administrator from elsewhere", "other/joe", "administrator", "deletedirectory", "/demo/stor/x", "", authcache.Conditions{}, ""},
			{"administrator from elsewhere, not asking", "other/joe", "", "deletedirectory", "/demo/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},

			// Public things and anonymous users.
			{"anonymous reads public", "anonymous", "", "getobject", "/demo/public/x", "", authcache.Conditions{}, ""},
			{"anonymous lists public", "anonymous", "", "getdirectory", "/demo/public", "", authcache.Conditions{}, ""},
			{"anonymous writes public", "anonymous", "", "putobject", "/demo/public/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"anonymous reads nearly public", "anonymous", "", "getobject", "/demo/publicity", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"anonymous reads the account", "anonymous", "", "getdirectory", "/demo", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"anonymous asks for a role", "anonymous", "tagged", "getobject", "/demo/public/x", "", authcache.Conditions{}, "InvalidRole"},
			{"stranger reads public", "demo/eve", "", "getobject", "/other/public/x", "", authcache.Conditions{}, ""},
			{"anonymous user", "anonymous", "", "getobject", "/visitors/stor/open/x", "", authcache.Conditions{}, ""},
			{"anonymous user elsewhere", "anonymous", "", "getobject", "/visitors/stor/shut/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"anonymous user with a tag", "anonymous", "", "getdirectory", "/visitors/stor/x", "everybody", authcache.Conditions{}, ""},
			{"anonymous user without the tag", "anonymous", "", "getdirectory", "/visitors/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"anonymous user asks for more", "anonymous", "asked", "putobject", "/visitors/stor/x", "", authcache.Conditions{}, ""},
			{"what anonymous users may, others may", "other", "", "getobject", "/visitors/stor/open/x", "", authcache.Conditions{}, ""},
			{"what anonymous users may not by default, others may not", "other", "", "putobject", "/visitors/stor/x", "", authcache.Conditions{}, "AuthorizationFailed"},
			{"public below an account with anonymous users", "anonymous", "", "putobject", "/visitors/public/x", "", authcache.Conditions{}, "AuthorizationFailed"},
		} {
			if got, err := w.decide(tt.who, tt.roles, tt.action, tt.path, tt.tags, tt.conditions); got != tt.want {
				t.Errorf("%s: %s as %q may %s %s [%s]: %v, want %q", tt.name, tt.who, tt.roles, tt.action, tt.path, tt.tags, err, tt.want)
			}
		}
	})
}

func TestRefusalsSayWho(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		for _, tt := range []struct{ who, roles, path, want string }{
			{"demo/bob", "", "/demo/stor/x", "demo/bob is not allowed to access /demo/stor/x"},
			{"reader", "", "/other/stor/a b", "reader is not allowed to access /other/stor/a b"},
			{"anonymous", "", "/demo/public/x", "anonymous is not allowed to access /demo/public/x"},
			{"demo/bob", "tagged", "/demo/stor/x", "None of your active roles are present on the resource."},
			{"demo/bob", "nope", "/demo/stor/x", `Role "nope" is invalid.`},
		} {
			_, err := w.decide(tt.who, tt.roles, "putobject", tt.path, "", authcache.Conditions{})
			if err == nil || !strings.HasSuffix(err.Error(), ": "+tt.want) {
				t.Errorf("%s: %v, want %s", tt.who, err, tt.want)
			}
		}
		c := w.caller("demo/bob", "/x")
		owner, err := w.cache.AccountByLogin("demo")
		w.must(err)
		err = w.cache.Authorize(t.Context(), authcache.AuthzRequest{Caller: c, Owner: owner, Action: "getobject", Resource: "/demo/stor/a b", RequestPath: "/demo/stor/a%20b"})
		if err == nil || !strings.HasSuffix(err.Error(), "/demo/stor/a%20b") {
			t.Errorf("refusal is %v", err)
		}
	})
}

// A refusal keeps why a rule could not be decided, for the log.
func TestUndecidedRules(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		_, err := w.decide("demo/bob", "office", "getobject", "/demo/stor/x", "", authcache.Conditions{Time: time.Now()})
		e := sdc.AsError(err)
		if e.Err == nil || !strings.Contains(e.Err.Error(), "sourceip") || strings.Contains(e.Message, "sourceip") {
			t.Errorf("refusal is %+v", e)
		}
	})
}

func TestRoleTags(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		demo, err := w.cache.AccountByLogin("demo")
		w.must(err)
		tags := func(names ...string) []string {
			var ids []string
			for _, n := range names {
				ids = append(ids, w.ids["demo:"+n])
			}
			return ids
		}
		got, err := w.cache.RoleTags(demo, []string{"writer", "tagged", "writer"})
		if diff := cmp.Diff(tags("writer", "tagged"), got); diff != "" || err != nil {
			t.Errorf("RoleTags: %v (-want +got):\n%s", err, diff)
		}
		_, err = w.cache.RoleTags(demo, []string{"writer", "foreign"})
		if codeOf(err) != "InvalidRoleTag" || !strings.HasSuffix(err.Error(), `Role tag "foreign" is invalid.`) {
			t.Errorf("RoleTags of another account's: %v", err)
		}
		if diff := cmp.Diff([]string{"writer", "tagged"}, w.cache.RoleNames([]string{w.ids["demo:writer"], "gone", w.ids["demo:tagged"]})); diff != "" {
			t.Errorf("RoleNames (-want +got):\n%s", diff)
		}
		bob := w.caller("demo/bob", "/demo/stor")
		w.must(w.cache.ActivateRoles(bob, demo, "tagged, shared"))
		account := w.caller("demo", "/demo/stor")
		w.must(w.cache.ActivateRoles(account, demo, ""))
		presigned := *bob
		presigned.Presigned, presigned.RoleTag = true, "empty"
		nothing := *bob
		nothing.Presigned = true
		for _, tt := range []struct {
			name   string
			caller *authcache.Caller
			header string
			want   int
		}{
			{"user, no header", bob, "", 3}, // shared is a role in both accounts
			{"user, header", bob, "writer", 1},
			{"account, no header", account, "", 0},
			{"account, header", account, " writer ,tagged", 2},
			{"URL wins", &presigned, "writer,tagged", 1},
			{"URL without tags", &nothing, "writer", 3},
		} {
			if got, err := w.cache.NewRoleTags(tt.caller, demo, tt.header); err != nil || len(got) != tt.want {
				t.Errorf("%s: NewRoleTags = %v, %v, want %d", tt.name, got, err, tt.want)
			}
		}
		if _, err := w.cache.NewRoleTags(account, demo, "writer,"); codeOf(err) != "InvalidRoleTag" {
			t.Errorf("NewRoleTags of an empty name: %v", err)
		}
	})
}

// What a pre-signed URL says about roles stands for the header, also when it says nothing.
func TestRolesOfPresignedURLs(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		demo, err := w.cache.AccountByLogin("demo")
		w.must(err)
		for _, tt := range []struct{ url, header, want string }{
			{"writer", "tagged", "writer"}, {"", "tagged", ""}, {"writer,tagged", "", "tagged writer"}, {"nope", "writer", "InvalidRole"},
		} {
			c := w.caller("demo/bob", "/demo/stor")
			c.Presigned, c.Role = true, tt.url
			err := w.cache.ActivateRoles(c, demo, tt.header)
			names := w.cache.RoleNames(c.ActiveRoles)
			slices.Sort(names)
			got := strings.Join(names, " ") + codeOf(err)
			if got != tt.want {
				t.Errorf("URL with %q and header %q: %q, want %q", tt.url, tt.header, got, tt.want)
			}
		}
	})
}

func TestDisabledAnonymousUser(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		_, err := w.dir.UpdateUser(t.Context(), w.ids["visitors/anonymous"], func(u *sdc.User) error { u.Disabled = true; return nil })
		w.must(err)
		synctest.Wait()
		for _, who := range []string{"anonymous", "other"} {
			if got, err := w.decide(who, "", "getobject", "/visitors/stor/open/x", "", authcache.Conditions{}); got != "AuthorizationFailed" {
				t.Errorf("%s: %v", who, err)
			}
		}
		if got, err := w.decide("anonymous", "", "getobject", "/visitors/public/x", "", authcache.Conditions{}); got != "" {
			t.Errorf("public: %v", err)
		}
	})
}

// Roles and policies change while a caller has them active.
func TestRolesChangeUnderway(t *testing.T) {
	in(t, nil, nil, func(w *world) {
		ctx := t.Context()
		demo, err := w.cache.AccountByLogin("demo")
		w.must(err)
		bob := w.caller("demo/bob", "/demo/stor")
		w.must(w.cache.ActivateRoles(bob, demo, "writer"))
		ask := func(action string) string {
			synctest.Wait()
			return codeOf(w.cache.Authorize(ctx, authcache.AuthzRequest{Caller: bob, Owner: demo, Action: action, Resource: "/demo/stor/in/x"}))
		}
		if got := ask("putobject"); got != "" {
			t.Fatalf("at first: %s", got)
		}
		p, err := w.dir.PolicyByName(ctx, demo.UUID, "writer")
		w.must(err)
		_, err = w.dir.UpdatePolicy(ctx, p.UUID, func(p *sdc.Policy) error { p.Rules = []string{"CAN getobject *"}; return nil })
		w.must(err)
		if put, get := ask("putobject"), ask("getobject"); put != "AuthorizationFailed" || get != "" {
			t.Errorf("with other rules: %q, %q", put, get)
		}
		w.must(w.dir.DeletePolicy(ctx, p.UUID))
		if got := ask("getobject"); got != "NoMatchingRoleTag" {
			t.Errorf("without the policy: %q", got)
		}
		_, err = w.dir.UpdateRole(ctx, w.ids["demo:writer"], func(r *sdc.Role) error { r.Members = nil; return nil })
		w.must(err)
		if got := ask("getobject"); got != "InvalidRole" {
			t.Errorf("as no member: %q", got)
		}
		w.must(w.dir.DeleteRole(ctx, w.ids["demo:writer"]))
		if got := ask("getobject"); got != "InvalidRole" {
			t.Errorf("without the role: %q", got)
		}
	})
}
