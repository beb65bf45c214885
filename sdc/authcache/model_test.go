package authcache

import (
	"context"
	"crypto/ed25519"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

var modelSeed = flag.Uint64("seed", 0, "seed of the random histories; 0 takes a new one")

// flat returns everything a snapshot knows, for comparison.
func (s *snapshot) flat() map[string]any {
	all := map[string]any{"keyCount": s.keyCount}
	flatten(all, "accounts", &s.accounts, func(v *sdc.Account) any { return *v })
	flatten(all, "logins", &s.logins, func(v *sdc.Account) any { return v.UUID })
	flatten(all, "users", &s.users, func(v *sdc.User) any { return *v })
	flatten(all, "userLogins", &s.userLogins, func(v *sdc.User) any { return v.UUID })
	flatten(all, "roles", &s.roles, func(v *sdc.Role) any { return *v })
	flatten(all, "roleNames", &s.roleNames, func(v *sdc.Role) any { return v.UUID })
	flatten(all, "held", &s.held, func(v []string) any { return v })
	flatten(all, "keys", &s.keys, func(v []*key) any {
		var prints []string
		for _, k := range v {
			prints = append(prints, k.fingerprint+" "+k.identity)
		}
		return slices.Sorted(slices.Values(prints))
	})
	flatten(all, "policies", &s.policies, func(v *policy) any {
		var rules []string
		for _, r := range v.rules {
			rules = append(rules, r.String())
		}
		return rules
	})
	return all
}

func flatten[V any](all map[string]any, name string, c *cow[V], show func(V) any) {
	n := 0
	for _, part := range c.parts {
		for k, v := range part {
			all[name+" "+k] = show(v)
			n++
		}
	}
	all[name] = [2]int{n, c.len()} // what is there, and what is counted
}

// Whatever happens to a directory, following it change by change leads to what reading it afresh gives.
func TestFollowingIsReading(t *testing.T) {
	histories := 5
	if os.Getenv("MOBULA_LONG") != "" {
		histories = 500
	}
	for range histories {
		seed := *modelSeed
		if seed == 0 {
			seed = rand.Uint64()
		}
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { followingIsReading(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func followingIsReading(t *testing.T, rng *rand.Rand) {
	store := metastoretest.NewMemory()
	dir, err := ufds.New(ufds.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := dir.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	start := func() (*Cache, func()) {
		c, err := New(Config{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); _ = c.Run(ctx) }()
		synctest.Wait()
		return c, func() { cancel(); <-done }
	}
	follower, stop := start()
	defer stop()
	const names = 6
	name := func(prefix string) string { return fmt.Sprintf("%s%d", prefix, rng.IntN(names)) }
	pick := func(ids []string) string {
		if len(ids) == 0 {
			return "nobody"
		}
		return ids[rng.IntN(len(ids))]
	}
	var accounts, users, roles, policies []string
	members := func() (all []string) {
		for range rng.IntN(4) {
			if m := pick(append(slices.Clone(users), accounts...)); m != "nobody" && !slices.Contains(all, m) {
				all = append(all, m)
			}
		}
		return all
	}
	publicKey := func() string {
		seed := make([]byte, ed25519.SeedSize)
		seed[0] = byte(rng.IntN(names))
		k, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed).Public())
		if err != nil {
			t.Fatal(err)
		}
		return string(ssh.MarshalAuthorizedKey(k))
	}
	// Half of these are refused, for a name that is taken or somebody who is no more: a refusal must change nothing either.
	steps := []func() error{
		func() error {
			a, err := dir.CreateAccount(ctx, sdc.Account{Login: name("login"), ApprovedForProvisioning: true})
			if err == nil {
				accounts = append(accounts, a.UUID)
			}
			return err
		},
		func() error {
			u, err := dir.CreateUser(ctx, sdc.User{Account: pick(accounts), Login: name("user")})
			if err == nil {
				users = append(users, u.UUID)
			}
			return err
		},
		func() error {
			p, err := dir.CreatePolicy(ctx, sdc.Policy{Account: pick(accounts), Name: name("p"), Rules: []string{"CAN " + name("act")}})
			if err == nil {
				policies = append(policies, p.UUID)
			}
			return err
		},
		func() error {
			r, err := dir.CreateRole(ctx, sdc.Role{Account: pick(accounts), Name: name("r"), Members: members()})
			if err == nil {
				roles = append(roles, r.UUID)
			}
			return err
		},
		func() error {
			_, err := dir.AddKey(ctx, pick(append(slices.Clone(users), accounts...)), name("k"), publicKey())
			return err
		},
		func() error { return dir.DeleteKey(ctx, pick(append(slices.Clone(users), accounts...)), name("k")) },
		func() error {
			_, err := dir.UpdateAccount(ctx, pick(accounts), func(a *sdc.Account) error { a.Login, a.Disabled = name("login"), rng.IntN(2) == 0; return nil })
			return err
		},
		func() error {
			_, err := dir.UpdateUser(ctx, pick(users), func(u *sdc.User) error { u.Login = name("user"); return nil })
			return err
		},
		func() error {
			_, err := dir.UpdateRole(ctx, pick(roles), func(r *sdc.Role) error {
				r.Name, r.Members, r.DefaultMembers, r.Policies = name("r"), members(), nil, nil
				if p := pick(policies); p != "nobody" {
					r.Policies = []string{p}
				}
				return nil
			})
			return err
		},
		func() error {
			_, err := dir.UpdatePolicy(ctx, pick(policies), func(p *sdc.Policy) error { p.Rules = []string{"CAN " + name("act") + " *"}; return nil })
			return err
		},
		func() error { return dir.DeletePolicy(ctx, pick(policies)) },
		func() error { return dir.DeleteRole(ctx, pick(roles)) },
		func() error { return dir.DeleteUser(ctx, pick(users)) },
		func() error { return dir.DeleteAccount(ctx, pick(accounts)) },
	}
	done := 0
	for i := range 300 {
		if steps[rng.IntN(len(steps))]() == nil {
			done++
		}
		if rng.IntN(4) == 0 {
			time.Sleep(time.Millisecond) // or else several changes are seen at once
		}
		if i%30 != 29 {
			continue
		}
		synctest.Wait()
		reader, stop := start()
		if diff := cmp.Diff(reader.snap.Load().flat(), follower.snap.Load().flat()); diff != "" {
			t.Fatalf("after step %d (-read +followed):\n%s", i, diff)
		}
		stop()
	}
	if done < 50 {
		t.Errorf("only %d steps changed anything", done)
	}
}
