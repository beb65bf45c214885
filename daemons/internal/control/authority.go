package control

import (
	"context"
	"errors"
	"net/http"

	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/internal/pki"
	"github.com/mobulacloud/mobula/sdc"
)

// Authority serves the part of the API that looks after the private certificate authority.
type Authority struct {
	Authority *pki.Authority
}

// Routes adds the API to a mux.
func (s *Authority) Routes(mux *http.ServeMux) {
	route := func(pattern string, handle func(*http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			err := handle(r)
			if errors.Is(err, pki.ErrRotating) {
				err = &sdc.Error{Code: "InvalidState", Message: err.Error(), Status: http.StatusConflict}
			}
			var out pki.Rotation
			if err == nil {
				out, err = s.Authority.Rotation(r.Context())
			}
			Reply(w, out, err)
		})
	}
	route("GET /ca", func(*http.Request) error { return nil })
	route("POST /ca/rotate", func(r *http.Request) error { return s.Authority.Rotate(r.Context()) })
	route("POST /ca/force", func(r *http.Request) error { return s.Authority.Force(r.Context()) })
}

// AuthorityCommands returns the commands that look after the private certificate authority.
func AuthorityCommands(dirFlag func(env *proc.Env, fs FlagSet) *string) []proc.Command {
	c := commands{dirFlag}
	return []proc.Command{
		{Name: "ca show", Summary: "print the certificate authority, and how far its rotation is, as JSON", Run: c.show("ca show", "/ca")},
		{Name: "ca rotate", Summary: "replace the certificate authority, while everybody goes on", Run: c.authority("rotate")},
		{Name: "ca force", Summary: "take a rotation's next step without the nodes it waits for; they have to join again", Run: c.authority("force")},
	}
}

func (c commands) authority(verb string) func(context.Context, *proc.Env, []string) error {
	return func(ctx context.Context, env *proc.Env, args []string) error {
		fs := proc.Flags(env, "ca "+verb)
		dir := c.dirFlag(env, fs)
		if _, err := proc.Parse(env, fs, args); err != nil {
			return err
		}
		var out pki.Rotation
		if err := call(ctx, env, *dir, http.MethodPost, "/ca/"+verb, nil, &out); err != nil {
			return err
		}
		return printJSON(env, out)
	}
}
