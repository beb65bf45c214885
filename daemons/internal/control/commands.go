package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/sdc"
)

// Commands returns the commands for identities. dirFlag adds the program's own flag for the state directory to a flag set.
func Commands(dirFlag func(env *proc.Env, fs FlagSet) *string) []proc.Command {
	c := commands{dirFlag}
	return []proc.Command{
		{Name: "account create", Args: "LOGIN -key FILE.pub [-email ADDRESS] [-operator]", Summary: "make an account", Run: c.createAccount},
		{Name: "account get", Args: "LOGIN", Summary: "print an account as JSON", Run: c.show("account get", "/accounts/%s", "LOGIN")},
		{Name: "account list", Summary: "print all accounts as JSON", Run: c.show("account list", "/accounts")},
		{Name: "account delete", Args: "LOGIN", Summary: "remove an account", Run: c.remove("account delete", "/accounts/%s", "LOGIN")},
		{Name: "user create", Args: "ACCOUNT LOGIN -key FILE.pub [-email ADDRESS]", Summary: "make a subuser of an account", Run: c.createUser},
		{Name: "user list", Args: "ACCOUNT", Summary: "print the subusers of an account as JSON", Run: c.show("user list", "/accounts/%s/users", "ACCOUNT")},
		{Name: "user delete", Args: "ACCOUNT LOGIN", Summary: "remove a subuser", Run: c.remove("user delete", "/accounts/%s/users/%s", "ACCOUNT", "LOGIN")},
		{Name: "policy create", Args: "ACCOUNT NAME -rule TEXT...", Summary: "make a policy out of rules", Run: c.createPolicy},
		{Name: "policy list", Args: "ACCOUNT", Summary: "print the policies of an account as JSON", Run: c.show("policy list", "/accounts/%s/policies", "ACCOUNT")},
		{Name: "policy delete", Args: "ACCOUNT NAME", Summary: "remove a policy", Run: c.remove("policy delete", "/accounts/%s/policies/%s", "ACCOUNT", "NAME")},
		{Name: "role create", Args: "ACCOUNT NAME -policy P... -member M... -default-member M...", Summary: "make a role", Run: c.createRole},
		{Name: "role list", Args: "ACCOUNT", Summary: "print the roles of an account as JSON", Run: c.show("role list", "/accounts/%s/roles", "ACCOUNT")},
		{Name: "role delete", Args: "ACCOUNT NAME", Summary: "remove a role", Run: c.remove("role delete", "/accounts/%s/roles/%s", "ACCOUNT", "NAME")},
	}
}

// FlagSet is the part of flag.FlagSet that adds a string flag.
type FlagSet interface {
	String(name, value, usage string) *string
}

type commands struct {
	dirFlag func(env *proc.Env, fs FlagSet) *string
}

// call sends a request to the daemon and says what to do when there is none.
func call(ctx context.Context, env *proc.Env, dir, method, path string, in, out any) error {
	err := NewClient(dir).Call(ctx, method, path, in, out)
	if errors.Is(err, ErrNotRunning) {
		return fmt.Errorf("%s is not running on %s (start it with: %s up -dir %s)", env.Name, dir, env.Name, dir)
	}
	if e, ok := errors.AsType[*sdc.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}

// create posts what in returns and prints what was made.
func create[T any](ctx context.Context, env *proc.Env, dir, path string, in any) error {
	var out T
	if err := call(ctx, env, dir, http.MethodPost, path, in, &out); err != nil {
		return err
	}
	return printJSON(env, out)
}

func printJSON(env *proc.Env, v any) error {
	e := json.NewEncoder(env.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (c commands) show(name, path string, args ...string) func(context.Context, *proc.Env, []string) error {
	return func(ctx context.Context, env *proc.Env, argv []string) error {
		fs := proc.Flags(env, name)
		dir := c.dirFlag(env, fs)
		argv, err := proc.Parse(env, fs, argv, args...)
		if err != nil {
			return err
		}
		var out json.RawMessage
		if err := call(ctx, env, *dir, http.MethodGet, fill(path, argv), nil, &out); err != nil {
			return err
		}
		return printJSON(env, out)
	}
}

func (c commands) remove(name, path string, args ...string) func(context.Context, *proc.Env, []string) error {
	return func(ctx context.Context, env *proc.Env, argv []string) error {
		fs := proc.Flags(env, name)
		dir := c.dirFlag(env, fs)
		argv, err := proc.Parse(env, fs, argv, args...)
		if err != nil {
			return err
		}
		return call(ctx, env, *dir, http.MethodDelete, fill(path, argv), nil, nil)
	}
}

// fill puts arguments into a path.
func fill(path string, args []string) string {
	escaped := make([]any, len(args))
	for i, a := range args {
		escaped[i] = url.PathEscape(a)
	}
	return fmt.Sprintf(path, escaped...)
}

func readKey(file string) (string, error) {
	if file == "" {
		return "", proc.Usage("-key is required: the file of a public key")
	}
	b, err := os.ReadFile(file)
	return string(b), err
}

func (c commands) createAccount(ctx context.Context, env *proc.Env, args []string) error {
	fs := proc.Flags(env, "account create")
	dir := c.dirFlag(env, fs)
	in := NewIdentity{}
	key := fs.String("key", "", "`file` of the account's public key")
	fs.StringVar(&in.Email, "email", "", "`address`")
	fs.BoolVar(&in.Operator, "operator", false, "give the account an operator's rights")
	args, err := proc.Parse(env, fs, args, "LOGIN")
	if err != nil {
		return err
	}
	in.Login = args[0]
	if in.Key, err = readKey(*key); err != nil {
		return err
	}
	return create[sdc.Account](ctx, env, *dir, "/accounts", in)
}

func (c commands) createUser(ctx context.Context, env *proc.Env, args []string) error {
	fs := proc.Flags(env, "user create")
	dir := c.dirFlag(env, fs)
	in := NewIdentity{}
	key := fs.String("key", "", "`file` of the user's public key")
	fs.StringVar(&in.Email, "email", "", "`address`")
	args, err := proc.Parse(env, fs, args, "ACCOUNT", "LOGIN")
	if err != nil {
		return err
	}
	in.Login = args[1]
	if in.Key, err = readKey(*key); err != nil {
		return err
	}
	return create[sdc.User](ctx, env, *dir, fill("/accounts/%s/users", args[:1]), in)
}

func (c commands) createPolicy(ctx context.Context, env *proc.Env, args []string) error {
	fs := proc.Flags(env, "policy create")
	dir := c.dirFlag(env, fs)
	var rules proc.Strings
	fs.Var(&rules, "rule", "`text` of a rule, such as 'CAN getobject'; may be given several times")
	args, err := proc.Parse(env, fs, args, "ACCOUNT", "NAME")
	if err != nil {
		return err
	}
	if len(rules) == 0 {
		return proc.Usage("policy create: at least one -rule is required")
	}
	return create[sdc.Policy](ctx, env, *dir, fill("/accounts/%s/policies", args[:1]), NewPolicy{Name: args[1], Rules: rules})
}

func (c commands) createRole(ctx context.Context, env *proc.Env, args []string) error {
	fs := proc.Flags(env, "role create")
	dir := c.dirFlag(env, fs)
	var policies, members, defaults proc.Strings
	fs.Var(&policies, "policy", "`name` of a policy; may be given several times")
	fs.Var(&members, "member", "`login` of a subuser, an account, or account/user; may be given several times")
	fs.Var(&defaults, "default-member", "`login` of a member for whom the role is active without being asked for")
	args, err := proc.Parse(env, fs, args, "ACCOUNT", "NAME")
	if err != nil {
		return err
	}
	return create[sdc.Role](ctx, env, *dir, fill("/accounts/%s/roles", args[:1]), NewRole{Name: args[1], Policies: policies, Members: members, DefaultMembers: defaults})
}
