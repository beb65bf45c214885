package ufds_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

func open(t *testing.T, limits ufds.Limits) *ufds.Directory {
	t.Helper()
	d, err := ufds.New(ufds.Config{Store: newStore(t), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // may be repeated
		if err := d.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// newStore returns a store in memory, or with -store=pebble the embedded one on disk.
func newStore(t *testing.T) metastore.Store {
	t.Helper()
	if *storeKind == "memory" {
		return metastoretest.NewMemory()
	}
	s, err := pebble.Open(t.TempDir(), pebble.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var storeKind = flag.String("store", "memory", "what to test on: memory or pebble")

func account(t *testing.T, d *ufds.Directory, login string) sdc.Account {
	t.Helper()
	a, err := d.CreateAccount(t.Context(), sdc.Account{Login: login, ApprovedForProvisioning: true})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func user(t *testing.T, d *ufds.Directory, a sdc.Account, login string) sdc.User {
	t.Helper()
	u, err := d.CreateUser(t.Context(), sdc.User{Account: a.UUID, Login: login})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func policy(t *testing.T, d *ufds.Directory, a sdc.Account, name string, rules ...string) sdc.Policy {
	t.Helper()
	p, err := d.CreatePolicy(t.Context(), sdc.Policy{Account: a.UUID, Name: name, Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func publicKey(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(k))
}

// code returns "Code field:code …" of an error, sorted by field.
func code(err error) string {
	e, ok := errors.AsType[*sdc.Error](err)
	if !ok {
		return fmt.Sprint(err)
	}
	s := e.Code
	for _, f := range e.Fields {
		s += " " + f.Field + ":" + f.Code
	}
	return s
}

func TestAccountLifeCycle(t *testing.T) {
	d, ctx := open(t, ufds.Limits{}), t.Context()
	want := sdc.Account{Login: "demo", Email: "demo@example.com", Groups: []string{"readers", "operators", "readers"},
		Person: sdc.Person{GivenName: "Manta", Address: "1 Reef\nSea"}}
	a, err := d.CreateAccount(ctx, want)
	if err != nil {
		t.Fatal(err)
	}
	want.UUID, want.Created, want.Updated, want.Groups = a.UUID, a.Created, a.Updated, []string{"operators", "readers"}
	for name, get := range map[string]func() (sdc.Account, error){
		"Account":        func() (sdc.Account, error) { return d.Account(ctx, a.UUID) },
		"AccountByLogin": func() (sdc.Account, error) { return d.AccountByLogin(ctx, "DEMO") },
	} {
		got, err := get()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	got, err := d.UpdateAccount(ctx, a.UUID, func(a *sdc.Account) error {
		a.UUID, a.Login, a.Disabled = "not this", "Demo2", true
		return nil
	})
	if err != nil || got.UUID != a.UUID || got.Login != "Demo2" || !got.Disabled {
		t.Fatalf("UpdateAccount = %+v, %v", got, err)
	}
	if _, err := d.AccountByLogin(ctx, "demo"); code(err) != "ResourceNotFound" {
		t.Errorf("AccountByLogin(old login) = %v, want ResourceNotFound", err)
	}
	account(t, d, "demo") // the old login is free again
	if err := d.DeleteAccount(ctx, a.UUID); err != nil {
		t.Fatal(err)
	}
	if err := d.DeleteAccount(ctx, a.UUID); code(err) != "ResourceNotFound" {
		t.Errorf("second DeleteAccount = %v, want ResourceNotFound", err)
	}
}

func TestValidationReportsEverything(t *testing.T) {
	d, ctx := open(t, ufds.Limits{Members: 2, Rules: 2}), t.Context()
	a := account(t, d, "demo")
	for _, tt := range []struct {
		name string
		do   func() error
		want string
	}{
		{"account", func() error {
			_, err := d.CreateAccount(ctx, sdc.Account{UUID: "x", Login: "1a", Email: "nobody", Groups: []string{"A B"}, Person: sdc.Person{City: "a\x00"}})
			return err
		}, "InvalidArgument uuid:Invalid login:Invalid email:Invalid city:Invalid groups:Invalid"},
		{"account without login", func() error {
			_, err := d.CreateAccount(ctx, sdc.Account{})
			return err
		}, "MissingParameter login:MissingParameter"},
		{"user", func() error {
			_, err := d.CreateUser(ctx, sdc.User{Account: "?", Login: "no-hyphen"})
			return err
		}, "InvalidArgument account:Invalid login:Invalid"},
		{"user of nobody", func() error {
			_, err := d.CreateUser(ctx, sdc.User{Account: uuid.NewString(), Login: "bob"})
			return err
		}, "ResourceNotFound"},
		{"key", func() error { _, err := d.AddKey(ctx, "?", "", "ssh-rsa nonsense"); return err }, "InvalidArgument owner:Invalid key:Invalid"},
		{"no key", func() error { _, err := d.AddKey(ctx, a.UUID, "a\nb", ""); return err }, "InvalidArgument key:MissingParameter name:Invalid"},
		{"key of nobody", func() error { _, err := d.AddKey(ctx, uuid.NewString(), "", publicKey(t)); return err }, "ResourceNotFound"},
		{"role", func() error {
			_, err := d.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: "a,b", Members: []string{a.UUID, a.UUID}, DefaultMembers: []string{uuid.Nil.String()}})
			return err
		}, "InvalidArgument name:Invalid members:Duplicate default_members:Invalid"},
		{"role of strangers", func() error {
			_, err := d.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: "r", Members: []string{uuid.NewString()}, Policies: []string{uuid.NewString()}})
			return err
		}, "InvalidArgument members:Invalid policies:Invalid"},
		{"role with many members", func() error {
			_, err := d.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: "r", Members: []string{uuid.NewString(), uuid.NewString(), uuid.NewString()}})
			return err
		}, "InvalidArgument members:LimitExceeded"},
		{"reserved role", func() error {
			_, err := d.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: sdc.OperatorRole})
			return err
		}, "InvalidArgument name:Invalid"},
		{"administrator with policies", func() error {
			_, err := d.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: "administrator", Policies: []string{uuid.NewString()}})
			return err
		}, "InvalidArgument policies:Invalid"},
		{"policy", func() error {
			_, err := d.CreatePolicy(ctx, sdc.Policy{Account: a.UUID, Rules: []string{"CAN", "CAN x WHEN moon = full"}})
			return err
		}, "InvalidArgument name:MissingParameter rules:Invalid rules:Invalid"},
		{"policy without rules", func() error {
			_, err := d.CreatePolicy(ctx, sdc.Policy{Account: a.UUID, Name: "p"})
			return err
		}, "MissingParameter rules:MissingParameter"},
		{"policy with many rules", func() error {
			_, err := d.CreatePolicy(ctx, sdc.Policy{Account: a.UUID, Name: "p", Rules: []string{"CAN a", "CAN b", "CAN c"}})
			return err
		}, "InvalidArgument rules:LimitExceeded"},
		{"lost update", func() error {
			_, err := d.UpdateUser(ctx, uuid.NewString(), func(*sdc.User) error { return nil })
			return err
		}, "ResourceNotFound"},
		{"update of its own mind", func() error {
			_, err := d.UpdateAccount(ctx, a.UUID, func(*sdc.Account) error { return errors.New("no") })
			return err
		}, "no"},
		{"update to nonsense", func() error {
			_, err := d.UpdateAccount(ctx, a.UUID, func(a *sdc.Account) error { a.Login = "x"; return nil })
			return err
		}, "InvalidArgument login:Invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := code(tt.do()); got != tt.want {
				t.Errorf("error is %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNamesAreTakenOnce(t *testing.T) {
	d, ctx := open(t, ufds.Limits{}), t.Context()
	a, b := account(t, d, "demo"), account(t, d, "other")
	if _, err := d.UpdateAccount(ctx, a.UUID, func(a *sdc.Account) error { a.Email = "A@example.com"; return nil }); err != nil {
		t.Fatal(err)
	}
	key := publicKey(t)
	if _, err := d.AddKey(ctx, a.UUID, "mine", key); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AddKey(ctx, b.UUID, "mine", key); err != nil {
		t.Errorf("AddKey of another's key under another's name: %v", err)
	}
	user(t, d, a, "bob")
	user(t, d, b, "bob")
	policy(t, d, a, "p", "CAN getobject")
	if _, err := d.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: "r"}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		do   func() error
		want string
	}{
		{"login", func() error { _, err := d.CreateAccount(ctx, sdc.Account{Login: "Demo"}); return err }, "InvalidArgument login:Duplicate"},
		{"email", func() error {
			_, err := d.CreateAccount(ctx, sdc.Account{Login: "third", Email: "a@EXAMPLE.com"})
			return err
		}, "InvalidArgument email:Duplicate"},
		{"login by update", func() error {
			_, err := d.UpdateAccount(ctx, b.UUID, func(a *sdc.Account) error { a.Login = "demo"; return nil })
			return err
		}, "InvalidArgument login:Duplicate"},
		{"uuid", func() error { _, err := d.CreateAccount(ctx, sdc.Account{UUID: a.UUID, Login: "third"}); return err }, "InvalidArgument uuid:Duplicate"},
		{"user", func() error { _, err := d.CreateUser(ctx, sdc.User{Account: a.UUID, Login: "BOB"}); return err }, "InvalidArgument login:Duplicate"},
		{"role", func() error { _, err := d.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: "r"}); return err }, "InvalidArgument name:Duplicate"},
		{"policy", func() error {
			_, err := d.CreatePolicy(ctx, sdc.Policy{Account: a.UUID, Name: "p", Rules: []string{"CAN getobject"}})
			return err
		}, "InvalidArgument name:Duplicate"},
		{"key by another name", func() error { _, err := d.AddKey(ctx, a.UUID, "yours", key); return err }, "InvalidArgument key:Duplicate"},
		{"name of a key", func() error { _, err := d.AddKey(ctx, a.UUID, "mine", publicKey(t)); return err }, "InvalidArgument name:Duplicate"},
	} {
		if got := code(tt.do()); got != tt.want {
			t.Errorf("%s: error is %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestCreateMayBeRepeated(t *testing.T) {
	d, ctx := open(t, ufds.Limits{Keys: 1, Users: 1, Roles: 1, Policies: 1}), t.Context()
	in := sdc.Account{UUID: uuid.NewString(), Login: "demo"}
	a, err := d.CreateAccount(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.CreateAccount(ctx, in)
	if err != nil || !cmp.Equal(a, again) {
		t.Errorf("second CreateAccount = %+v, %v, want %+v", again, err, a)
	}
	u := sdc.User{UUID: uuid.NewString(), Account: a.UUID, Login: "bob"}
	p := sdc.Policy{UUID: uuid.NewString(), Account: a.UUID, Name: "p", Rules: []string{"CAN x"}}
	r := sdc.Role{UUID: uuid.NewString(), Account: a.UUID, Name: "r", Members: []string{u.UUID}, Policies: []string{p.UUID}}
	key := publicKey(t)
	for i := range 2 {
		_, err1 := d.CreateUser(ctx, u)
		_, err2 := d.CreatePolicy(ctx, p)
		_, err3 := d.CreateRole(ctx, r)
		_, err4 := d.AddKey(ctx, a.UUID, "", key)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatalf("time %d: %v", i, err)
		}
	}
	// The repetition counted nothing twice: when each is gone once, nothing is left.
	if err := errors.Join(d.DeleteRole(ctx, r.UUID), d.DeletePolicy(ctx, p.UUID), d.DeleteUser(ctx, u.UUID), d.DeleteAccount(ctx, a.UUID)); err != nil {
		t.Errorf("deleting: %v", err)
	}
}

func TestLimits(t *testing.T) {
	d, ctx := open(t, ufds.Limits{Keys: 1, Users: 1, Roles: 1, Policies: 1}), t.Context()
	a := account(t, d, "demo")
	add := map[string]func(i int) error{
		"key": func(int) error { _, err := d.AddKey(ctx, a.UUID, "", publicKey(t)); return err },
		"user": func(i int) error {
			_, err := d.CreateUser(ctx, sdc.User{Account: a.UUID, Login: fmt.Sprintf("user%d", i)})
			return err
		},
		"role": func(i int) error {
			_, err := d.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: fmt.Sprint("r", i)})
			return err
		},
		"policy": func(i int) error {
			_, err := d.CreatePolicy(ctx, sdc.Policy{Account: a.UUID, Name: fmt.Sprint("p", i), Rules: []string{"CAN x"}})
			return err
		},
	}
	for name, add := range add {
		if err := add(0); err != nil {
			t.Errorf("first %s: %v", name, err)
		}
		if err := add(1); !strings.HasSuffix(code(err), "LimitExceeded") {
			t.Errorf("second %s: %v, want LimitExceeded", name, err)
		}
	}
}

func TestWhatIsReferredToStays(t *testing.T) {
	d, ctx := open(t, ufds.Limits{}), t.Context()
	a, b := account(t, d, "demo"), account(t, d, "other")
	u, far := user(t, d, a, "bob"), user(t, d, b, "eve")
	p := policy(t, d, a, "p", "CAN getobject")
	if _, err := d.CreateRole(ctx, sdc.Role{Account: b.UUID, Name: "foreign", Policies: []string{p.UUID}}); code(err) != "InvalidArgument policies:Invalid" {
		t.Errorf("role with another account's policy: %v", err)
	}
	for _, text := range []string{publicKey(t), publicKey(t)} {
		if _, err := d.AddKey(ctx, u.UUID, "", text); err != nil {
			t.Fatal(err)
		}
	}
	r, err := d.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: "r", Members: []string{u.UUID, far.UUID, b.UUID}, DefaultMembers: []string{u.UUID}, Policies: []string{p.UUID}})
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"member":                 d.DeleteUser(ctx, u.UUID),
		"member from elsewhere":  d.DeleteUser(ctx, far.UUID),
		"account with much":      d.DeleteAccount(ctx, a.UUID),
		"account that is member": d.DeleteAccount(ctx, b.UUID),
	} {
		if !strings.HasPrefix(code(err), "InUse") {
			t.Errorf("deleting %s: %v, want InUse", what, err)
		}
	}
	if got := code(d.DeleteAccount(ctx, a.UUID)); got != "InUse users:InUse roles:InUse policies:InUse" {
		t.Errorf("DeleteAccount names %s", got)
	}
	// A policy goes from its roles with itself.
	if err := d.DeletePolicy(ctx, p.UUID); err != nil {
		t.Fatal(err)
	}
	if r, err = d.Role(ctx, r.UUID); err != nil || len(r.Policies) != 0 {
		t.Errorf("after DeletePolicy the role is %+v, %v", r, err)
	}
	if r, err = d.UpdateRole(ctx, r.UUID, func(r *sdc.Role) error {
		r.Members, r.DefaultMembers = slices.DeleteFunc(r.Members, func(m string) bool { return m == u.UUID }), nil
		return nil
	}); err != nil || len(r.Members) != 2 {
		t.Fatalf("UpdateRole = %+v, %v", r, err)
	}
	if err := d.DeleteUser(ctx, u.UUID); err != nil {
		t.Errorf("deleting a user that is no member any more: %v", err)
	}
	for k, err := range d.Keys(ctx, u.UUID) {
		t.Errorf("key of a deleted user: %v, %v", k, err)
	}
	if err := errors.Join(d.DeleteRole(ctx, r.UUID), d.DeleteUser(ctx, far.UUID), d.DeleteAccount(ctx, b.UUID), d.DeleteAccount(ctx, a.UUID)); err != nil {
		t.Errorf("deleting all: %v", err)
	}
}

func TestKeys(t *testing.T) {
	d, ctx := open(t, ufds.Limits{}), t.Context()
	a := account(t, d, "demo")
	k, err := d.AddKey(ctx, a.UUID, "laptop", "  "+publicKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"laptop", k.Fingerprint, "MD5:" + k.Fingerprint, k.SHA256} {
		if got, err := d.Key(ctx, a.UUID, name); err != nil || !cmp.Equal(got, k) {
			t.Errorf("Key(%q) = %+v, %v, want %+v", name, got, err, k)
		}
	}
	if err := d.DeleteKey(ctx, a.UUID, k.SHA256); err != nil {
		t.Fatal(err)
	}
	if err := d.DeleteKey(ctx, a.UUID, "laptop"); code(err) != "ResourceNotFound" {
		t.Errorf("second DeleteKey = %v", err)
	}
}

func TestMember(t *testing.T) {
	d, ctx := open(t, ufds.Limits{}), t.Context()
	a, b := account(t, d, "demo"), account(t, d, "other")
	u, far := user(t, d, a, "bob"), user(t, d, b, "eve")
	for name, want := range map[string]string{"bob": u.UUID, "other": b.UUID, "other/eve": far.UUID} {
		if got, err := d.Member(ctx, a.UUID, name); err != nil || got != want {
			t.Errorf("Member(%q) = %q, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"eve", "other/bob", "nobody/x", ""} {
		if got, err := d.Member(ctx, a.UUID, name); code(err) != "ResourceNotFound" {
			t.Errorf("Member(%q) = %q, %v, want ResourceNotFound", name, got, err)
		}
	}
}

// A user is either a member of the role or gone, whoever was first.
func TestDeleteRacesWithMembership(t *testing.T) {
	d, ctx := open(t, ufds.Limits{}), t.Context()
	a := account(t, d, "demo")
	r, err := d.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: "r"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		u := user(t, d, a, fmt.Sprintf("user%d", i))
		var wg sync.WaitGroup
		var deleted, added error
		wg.Go(func() { deleted = d.DeleteUser(ctx, u.UUID) })
		wg.Go(func() {
			_, added = d.UpdateRole(ctx, r.UUID, func(r *sdc.Role) error { r.Members = append(r.Members, u.UUID); return nil })
		})
		wg.Wait()
		if (deleted == nil) == (added == nil) {
			t.Fatalf("user %d: deleted: %v, made a member: %v", i, deleted, added)
		}
	}
}

// Whoever is first, no role is left with a policy that is gone.
func TestDeleteRacesWithAttachment(t *testing.T) {
	d, ctx := open(t, ufds.Limits{}), t.Context()
	a := account(t, d, "demo")
	r, err := d.CreateRole(ctx, sdc.Role{Account: a.UUID, Name: "r"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		p := policy(t, d, a, fmt.Sprint("p", i), "CAN x")
		var wg sync.WaitGroup
		var deleted, attached error
		wg.Go(func() { deleted = d.DeletePolicy(ctx, p.UUID) })
		wg.Go(func() {
			_, attached = d.UpdateRole(ctx, r.UUID, func(r *sdc.Role) error { r.Policies = append(r.Policies, p.UUID); return nil })
		})
		wg.Wait()
		if deleted != nil || attached != nil && code(attached) != "InvalidArgument policies:Invalid" {
			t.Fatalf("policy %d: deleted: %v, attached: %v", i, deleted, attached)
		}
		if r, err := d.Role(ctx, r.UUID); err != nil || len(r.Policies) != 0 {
			t.Fatalf("policy %d: role is %+v, %v", i, r, err)
		}
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	if _, err := ufds.New(ufds.Config{}); err == nil {
		t.Error("New without a store succeeded")
	}
	if _, err := ufds.New(ufds.Config{Store: metastoretest.NewMemory(), Limits: ufds.Limits{Members: 1 << 20}}); err == nil {
		t.Error("New with too high a limit succeeded")
	}
}
