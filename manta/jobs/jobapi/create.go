package jobapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/manta/webapi"
)

// create makes a job and its directories.
func (a *API) create(r *webapi.Request) error {
	if err := a.authorize(r, r.Path); err != nil {
		return err
	}
	id := uuid.NewString()
	dir := r.Path.Join(id)
	if err := a.mayPut(r, dir.Join("stor")); err != nil {
		return err
	}
	roles, err := a.identity.NewRoleTags(r.Caller, r.Owner, r.Request.Header.Get("Role-Tag"))
	if err != nil {
		return err
	}
	b, err := r.ReadBody(jobs.MaxDefinition)
	if err != nil {
		return err
	}
	d, err := jobs.ParseDefinition(b, r.Caller.Operator && r.Caller.User == nil)
	if err != nil {
		return manta.Errorf(http.StatusBadRequest, CodeInvalidJob, "%s", err.Error())
	}
	token, err := a.identity.MintToken(r.Caller, r.Owner, true)
	if err != nil {
		return err
	}
	j := &jobs.Job{
		ID: id, Name: d.Name, Owner: r.Owner.UUID, Login: r.Owner.Login,
		Auth:   jobs.Auth{Token: token, Login: r.Caller.Login(), UUID: r.Caller.Account.UUID},
		Phases: d.Phases, Transient: d.Transient, Options: d.Options,
	}
	if r.Caller.User != nil {
		j.Auth.User = r.Caller.User.UUID
	}
	ctx, cancel := afterwards(r)
	defer cancel()
	if err := a.makeDirectories(ctx, dir.Key(r.Owner.UUID), roles); err != nil {
		return err
	}
	if err := a.records.Create(ctx, j); err != nil {
		return errors.Join(err, a.removeDirectories(ctx, dir.Key(r.Owner.UUID)))
	}
	r.Answer().Set("Location", dir.String())
	r.Empty(http.StatusCreated)
	return nil
}

// mayPut refuses users whose job could not store anything: what a job makes carries the roles that are active now.
func (a *API) mayPut(r *webapi.Request, stor manta.Path) error {
	if r.Caller.User == nil {
		return nil
	}
	for _, action := range []string{"putobject", "putdirectory"} {
		if err := r.AuthorizeOn(action, stor, r.Caller.ActiveRoles); err != nil {
			e := manta.Errorf(http.StatusForbidden, CodeMissingPermission, "missing role allowing %s", action)
			e.Err = err
			return e
		}
	}
	return nil
}

func (a *API) makeDirectories(ctx context.Context, dir manta.Key, roles []string) error {
	put := func(ctx context.Context, key manta.Key) error {
		_, _, err := a.namespace.PutDirectory(ctx, key, manta.Entry{Roles: roles}, namespace.Options{})
		return err
	}
	err := put(ctx, dir)
	if err == nil {
		group, ctx := errgroup.WithContext(ctx)
		for _, name := range []string{"live", "stor"} {
			group.Go(func() error { return put(ctx, dir+manta.Key("/"+name)) })
		}
		err = group.Wait()
	}
	if err != nil {
		return fmt.Errorf("make directories of a job: %w", err)
	}
	return nil
}

// removeDirectories takes away those of a job that did not come to be.
func (a *API) removeDirectories(ctx context.Context, dir manta.Key) (err error) {
	for _, name := range []string{"/live", "/stor", ""} {
		_, e := a.namespace.Delete(ctx, dir+manta.Key(name), namespace.Options{})
		err = errors.Join(err, e)
	}
	return err
}
