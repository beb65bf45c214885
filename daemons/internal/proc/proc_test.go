package proc

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMain_dispatchesAndExits(t *testing.T) {
	var got []string
	commands := []Command{
		{Name: "up", Run: func(_ context.Context, env *Env, args []string) error {
			fs := Flags(env, "up")
			dir := fs.String("dir", "x", "where")
			if _, err := Parse(env, fs, args); err != nil {
				return err
			}
			got = append(got, "up "+*dir)
			return nil
		}},
		{Name: "account create", Args: "LOGIN", Run: func(_ context.Context, env *Env, args []string) error {
			fs := Flags(env, "account create")
			operator := fs.Bool("operator", false, "")
			var keys Strings
			fs.Var(&keys, "key", "")
			args, err := Parse(env, fs, args, "LOGIN")
			if err != nil {
				return err
			}
			if *operator {
				return errors.Join(errors.New("no"), errors.New("operators"))
			}
			got = append(got, "create "+args[0]+" "+keys.String())
			return nil
		}},
	}
	for _, tt := range []struct {
		args string
		code int
		ran  []string
		err  string
	}{
		{args: "", ran: []string{"up x"}},
		{args: "-dir d", ran: []string{"up d"}},
		{args: "up -dir d", ran: []string{"up d"}},
		{args: "account create bob -key a -key b", ran: []string{"create bob a,b"}},
		{args: "account create -key a bob", ran: []string{"create bob a"}},
		{args: "account create", code: 2, err: "missing LOGIN"},
		{args: "account create a b", code: 2, err: `unexpected argument "b"`},
		{args: "account create a -nope", code: 2, err: "-nope"},
		{args: "account create a -operator", code: 1, err: "no; operators\n"},
		{args: "account burn", code: 2, err: `no command "account"`},
		{args: "help"},
		{args: "up -h"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			got = nil
			var stdout, stderr bytes.Buffer
			env := &Env{Name: "prog", Stdout: &stdout, Stderr: &stderr}
			if code := Main(env, strings.Fields(tt.args), commands); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if diff := cmp.Diff(tt.ran, got); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(stderr.String(), tt.err) || strings.Count(stderr.String(), "\n") > 1 {
				t.Errorf("standard error is %q, want one line with %q", stderr.String(), tt.err)
			}
		})
	}
}
