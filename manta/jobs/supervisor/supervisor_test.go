package supervisor

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
)

func TestMap(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.must(w.put("/alice/stor/a", "text a\n"))
	w.must(w.put("/alice/stor/b c%20d", "text b\n"))
	w.must(w.put("/alice/stor/empty", ""))
	w.supervise("one")
	id := w.submit("alice", []string{"/alice/stor/a", "//alice//stor/b c%20d", "/alice/stor/missing", "/alice/stor/empty"}, "upper")
	j := w.await(id, archived)
	want := result{Outputs: []string{"", "TEXT A\n", "TEXT B\n"}, Errors: []string{`phase 0: input "/alice/stor/missing" ResourceNotFoundError: no such object: "/alice/stor/missing"`}}
	if diff := cmp.Diff(want, w.result(id)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	stats := jobs.Stats{Assigns: 1, InputsRead: 4, Tasks: 3, TasksOK: 3, Outputs: 3, Errors: 1}
	if diff := cmp.Diff(stats, j.Stats); diff != "" {
		t.Errorf("counters: -want +got\n%s", diff)
	}
	if j.State != jobs.Done || j.TimeDone.IsZero() || j.TimeArchiveStarted.IsZero() {
		t.Errorf("job is %+v", j)
	}
	dir := jobs.Dir("alice", id)
	for name, check := range map[string]func(string) bool{
		"in.txt": func(s string) bool {
			return strings.Count(s, "\n") == 4 && strings.HasPrefix(s, "/alice/stor/a\n//alice//stor/b")
		},
		"out.txt": func(s string) bool {
			return strings.Count(s, "\n") == 3 && strings.HasPrefix(s, dir+"/stor/alice/stor/")
		},
		"err.txt":  func(s string) bool { return strings.Contains(s, `"code":"ResourceNotFoundError"`) },
		"fail.txt": func(s string) bool { return s == "/alice/stor/missing\n" },
		"job.json": func(s string) bool {
			return strings.Contains(s, `"state":"done"`) && strings.Contains(s, `"timeArchiveDone":`)
		},
	} {
		if s, ok := w.get(dir + "/" + name); !ok || !check(s) {
			t.Errorf("archived %s is %q, %v", name, s, ok)
		}
	}
	if st, err := w.ns.Look(t.Context(), w.key(dir+"/live"), false); err != nil || st.Entry != nil {
		t.Errorf("live is there after the archive: %v, %v", st, err)
	}
}

func TestPhases(t *testing.T) {
	w := newWorld(t, worldOptions{})
	var inputs []string
	for i := range 40 {
		path := fmt.Sprintf("/alice/stor/in/%02d", i)
		w.must(w.put(path, fmt.Sprintf("b %d\na %d\n", i, i)))
		inputs = append(inputs, path)
	}
	w.supervise("one")
	for name, c := range map[string]struct {
		inputs   []string
		programs []string
		want     result
	}{
		"map map":        {inputs[:1], []string{"cat", "upper"}, result{Outputs: []string{"B 0\nA 0\n"}}},
		"map reduce":     {inputs, []string{"cat", "reduce 1:count"}, result{Outputs: []string{"80\n"}}},
		"reduce":         {inputs, []string{"reduce 3:cat", "reduce 1:count"}, result{Outputs: []string{"80\n"}}},
		"split":          {inputs, []string{"split 2", "reduce 2:count"}, result{Outputs: []string{"40\n", "40\n"}}},
		"no input":       {nil, []string{"cat", "reduce 2:count"}, result{Outputs: []string{"0\n", "0\n"}}},
		"nothing":        {nil, []string{"cat"}, result{}},
		"four":           {inputs, []string{"cat", "reduce 4:cat", "split 1", "reduce 1:count"}, result{Outputs: []string{"80\n"}, Errors: nil}},
		"by reference":   {inputs[:3], []string{"ref /alice/stor/in/07", "reduce 1:count"}, result{Outputs: []string{"6\n"}}},
		"no such output": {inputs[:1], []string{"ref /alice/stor/x", "reduce 1:count"}, result{Outputs: []string{"0\n"}, Errors: []string{`phase 1: input "/alice/stor/x" (from job input "/alice/stor/in/00") ResourceNotFoundError: no such object: "/alice/stor/x"`}}},
		"failing":        {inputs[:1], []string{"fail", "reduce 1:count"}, result{Outputs: []string{"0\n"}, Errors: []string{`phase 0: input "/alice/stor/in/00" UserTaskError: user command exited with code 1`}}},
		"failing reduce": {inputs[:1], []string{"cat", "reduce 1:fail"}, result{Errors: []string{`phase 1: reduce UserTaskError: user command exited with code 1`}}},
		"idle reducers":  {inputs[:2], []string{"cat", "reduce 2:none", "cat"}, result{}},
	} {
		t.Run(name, func(t *testing.T) {
			id := w.submit("alice", c.inputs, c.programs...)
			j := w.await(id, archived)
			if diff := cmp.Diff(c.want, w.result(id)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if j.Stats.Retries != 0 {
				t.Errorf("%d retries", j.Stats.Retries)
			}
		})
	}
}

func TestNoSuchReducer(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.must(w.put("/alice/stor/a", "c\n")) // 99 mod 7 is 1
	w.supervise("one")
	id := w.submit("alice", []string{"/alice/stor/a"}, "split 7", "reduce 1:count")
	w.await(id, archived)
	r := w.result(id)
	if len(r.Errors) != 1 || !strings.HasSuffix(r.Errors[0], `InvalidArgumentError: reducer "1" specified, but only 1 reducers exist`) || len(r.Stray) != 1 || len(r.Outputs) != 1 {
		t.Errorf("%+v", r)
	}
}

// TestRefusals holds that inputs which cannot be read are refused in the original's words.
func TestRefusals(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.account("bob")
	w.account("eve")
	if err := w.mkdirp(w.key("/alice/stor/dir")); err != nil {
		t.Fatal(err)
	}
	w.must(w.put("/alice/stor/mine", "x"))
	w.must(w.put("/alice/public/open", "x"))
	w.must(w.put("/bob/stor/theirs", "x"))
	w.must(w.put("/bob/public/open", "x"))
	w.must(w.put("/eve/stor/shown", "x"))
	// Eve lets everybody read one object, by an anonymous user.
	ctx := t.Context()
	anonymous, err := w.dir.CreateUser(ctx, sdc.User{Account: w.accounts["eve"].UUID, Login: sdc.AnonymousUser, Email: "a@example.com"})
	w.must(err)
	policy, err := w.dir.CreatePolicy(ctx, sdc.Policy{Account: w.accounts["eve"].UUID, Name: "read", Rules: []string{"CAN getobject"}})
	w.must(err)
	role, err := w.dir.CreateRole(ctx, sdc.Role{Account: w.accounts["eve"].UUID, Name: "all", Members: []string{anonymous.UUID}, DefaultMembers: []string{anonymous.UUID}, Policies: []string{policy.UUID}})
	w.must(err)
	w.follow()
	_, err = w.ns.SetMetadata(ctx, w.key("/eve/stor/shown"), namespace.Metadata{Roles: []string{role.UUID}}, namespace.Options{})
	w.must(err)
	w.must(w.put("/eve/stor/hidden", "x"))
	cases := []struct{ input, want string }{
		{"/alice/stor/mine", ""},
		{"/alice/public/open", ""},
		{"/bob/public/open", ""},
		{"/eve/stor/shown", ""},
		{"/bob/stor/theirs", `AuthorizationError: permission denied: "/bob/stor/theirs"`},
		{"/eve/stor/hidden", `AuthorizationError: permission denied: "/eve/stor/hidden"`},
		{"/bob/stor/none", `ResourceNotFoundError: no such object: "/bob/stor/none"`},
		{"/nobody/stor/x", `ResourceNotFoundError: no such object: "/nobody/stor/x"`},
		{"/alice/stor/none", `ResourceNotFoundError: no such object: "/alice/stor/none"`},
		{"/alice/stor/mine/below", `ResourceNotFoundError: no such object: "/alice/stor/mine/below"`},
		{"/alice/stor", `ResourceNotFoundError: no such object: "/alice/stor"`},
		{"/alice/jobs", `ResourceNotFoundError: no such object: "/alice/jobs"`},
		{"/", `ResourceNotFoundError: malformed object name: "/"`},
		{"/alice", `ResourceNotFoundError: malformed object name: "/alice"`},
		{"alice/stor/mine", `ResourceNotFoundError: malformed object name: "alice/stor/mine"`},
		{"/alice/stor/../x", `ResourceNotFoundError: malformed object name: "/alice/stor/../x"`},
		{"/alice/stor/dir", `InvalidArgumentError: objects of type "directory" are not supported: "/alice/stor/dir"`},
	}
	w.supervise("one")
	var inputs []string
	want := map[string]string{}
	for _, c := range cases {
		inputs = append(inputs, c.input)
		want[c.input] = c.want
	}
	for _, programs := range [][]string{{"none"}, {"reduce 1:none"}} {
		id := w.submit("alice", inputs, programs...)
		w.await(id, archived)
		got := map[string]string{}
		for _, in := range inputs {
			got[in] = ""
		}
		for list, err := range w.records.Errors(ctx, id) {
			w.must(err)
			for _, f := range list {
				got[f.Input] = f.Code + ": " + f.Message
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v: -want +got\n%s", programs, diff)
		}
	}
}

// TestRoles holds that the job of a user reads what the user's active roles let a job read, and no more, and nothing once the user is shut out.
func TestRoles(t *testing.T) {
	w := newWorld(t, worldOptions{})
	ctx := t.Context()
	alice := w.accounts["alice"]
	user, err := w.dir.CreateUser(ctx, sdc.User{Account: alice.UUID, Login: "carol", Email: "c@example.com"})
	w.must(err)
	role := func(name string, rules ...string) string {
		policy, err := w.dir.CreatePolicy(ctx, sdc.Policy{Account: alice.UUID, Name: "p" + name, Rules: rules})
		w.must(err)
		r, err := w.dir.CreateRole(ctx, sdc.Role{Account: alice.UUID, Name: name, Members: []string{user.UUID}, Policies: []string{policy.UUID}})
		w.must(err)
		return r.UUID
	}
	active := role("active", "CAN getobject WHEN fromjob = true")
	idle := role("idle", "CAN getobject")
	w.follow()
	for name, tag := range map[string]string{"tagged": active, "other": idle, "plain": ""} {
		w.must(w.put("/alice/stor/"+name, "x"))
		if tag != "" {
			_, err := w.ns.SetMetadata(ctx, w.key("/alice/stor/"+name), namespace.Metadata{Roles: []string{tag}}, namespace.Options{})
			w.must(err)
		}
	}
	carol := &authcache.Caller{Account: alice, User: &user, ActiveRoles: []string{active}}
	s := w.supervise("one")
	o := w.open("alice")
	look := func(token string) (codes []string) {
		t.Helper()
		o.Token = token
		found, err := s.look(ctx, o, lookups("/alice/stor/tagged", "/alice/stor/other", "/alice/stor/plain"))
		w.must(err)
		for _, a := range found {
			codes = append(codes, a.failure.Code)
		}
		return codes
	}
	token := func(fromJob bool) string {
		t.Helper()
		text, err := w.identity.MintToken(carol, alice, fromJob)
		w.must(err)
		return text
	}
	const no = jobs.CodeAuthorization
	if diff := cmp.Diff([]string{"", no, no}, look(token(true))); diff != "" {
		t.Errorf("of a job: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{no, no, no}, look(token(false))); diff != "" {
		t.Errorf("of no job: -want +got\n%s", diff)
	}
	before := token(true)
	_, err = w.dir.UpdateUser(ctx, user.UUID, func(u *sdc.User) error { u.Disabled = true; return nil })
	w.must(err)
	w.follow()
	if diff := cmp.Diff([]string{no, no, no}, look(before)); diff != "" {
		t.Errorf("of a user that is shut out: -want +got\n%s", diff)
	}
}

// TestSnaplink holds that a linked object is read where its creator's bytes are.
func TestSnaplink(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.account("bob")
	w.must(w.put("/bob/public/a", "x", "2.stor"))
	w.must(w.mkdirp(w.key("/alice/stor/d")))
	_, err := w.ns.Link(t.Context(), w.key("/alice/stor/d/link"), w.key("/bob/public/a"), nil, namespace.Options{})
	w.must(err)
	st, err := w.ns.Look(t.Context(), w.key("/bob/public/a"), false)
	w.must(err)
	s := w.supervise("one")
	o := w.open("alice")
	found, err := s.look(context.Background(), o, lookups("/alice/stor/d/link"))
	if err != nil || found[0].input == nil {
		t.Fatalf("%+v, %v", found, err)
	}
	in := found[0].input
	if in.Object.Owner.String() != w.accounts["bob"].UUID || in.Object.Object.String() != st.Entry.ObjectID || len(in.Copies) != 1 || in.Copies[0] != "2.stor" {
		t.Errorf("input %+v", in)
	}
}
