package jobapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/webapi"
)

// Codes of refusals.
const (
	CodeInvalidJob        = "InvalidJob"
	CodeInvalidJobState   = "InvalidJobState"
	CodeMissingPermission = "MissingPermission"
)

// Job returns the job that a request names in the parameter "id", if it is there, belongs to the path's owner, and the caller may do the route's action on it: the
// question is about the job's directory.
func (a *API) Job(r *webapi.Request) (*jobs.Job, error) {
	j, err := a.records.Get(r.Context(), r.Params["id"])
	if errors.Is(err, jobs.ErrNotFound) || err == nil && j.Owner != r.Owner.UUID {
		return nil, notFound(r)
	}
	if err != nil {
		return nil, err
	}
	dir, err := manta.ParsePath(jobs.Dir(r.Owner.Login, j.ID))
	if err != nil {
		return nil, err
	}
	return j, a.authorize(r, dir)
}

// authorize asks about a directory, by the tags that it carries if it is there.
func (a *API) authorize(r *webapi.Request, dir manta.Path) error {
	st, err := a.namespace.Look(r.Context(), dir.Key(r.Owner.UUID), false)
	if err != nil {
		return err
	}
	var tags []string
	if st.Entry != nil {
		tags = st.Entry.Roles
	}
	return r.AuthorizeOn(r.Route.Action, dir, tags)
}

func notFound(r *webapi.Request) error {
	return manta.Errorf(http.StatusNotFound, manta.CodeResourceNotFound, "%s was not found", r.Path)
}

// refusal turns errors of records into those of the protocol.
func refusal(r *webapi.Request, err error) error {
	if state, ok := errors.AsType[*jobs.StateError](err); ok {
		return manta.Errorf(http.StatusConflict, CodeInvalidJobState, "%s", state.Error())
	}
	if errors.Is(err, jobs.ErrNotFound) {
		return notFound(r)
	}
	return err
}

// Open refuses jobs that have ended, or were told to.
func Open(j *jobs.Job) error {
	state := ""
	switch {
	case j.State == jobs.Done:
		state = string(jobs.Done)
	case j.Cancelled():
		state = "cancelled"
	default:
		return nil
	}
	refused := &jobs.StateError{ID: j.ID, State: state}
	return manta.Errorf(http.StatusConflict, CodeInvalidJobState, "%s", refused.Error())
}

// change carries a change of the request's job out, unless the job has ended, and says that it is accepted.
func (a *API) change(r *webapi.Request, carry func(ctx context.Context, id string) error) error {
	j, err := a.Job(r)
	if err == nil {
		err = Open(j)
	}
	if err != nil {
		return err
	}
	ctx, cancel := afterwards(r)
	defer cancel()
	if err := carry(ctx, j.ID); err != nil {
		return refusal(r, err)
	}
	r.Empty(http.StatusAccepted)
	return nil
}

// afterwards returns a context for changes that are carried out even if the client leaves.
func afterwards(r *webapi.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), 30*time.Second)
}
