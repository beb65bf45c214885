package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/supervisor/internal/ledger"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
)

// An answer is what came of looking an input up: the input, or a failure with a code, or neither if it has to be done again.
type answer struct {
	input   *task.Input
	failure jobs.Failure
}

// look finds inputs and holds them to what the job may read. The error, if any, is why some could not be looked up.
func (s *Supervisor) look(ctx context.Context, o *task.Open, list []ledger.Lookup) ([]answer, error) {
	found := make([]answer, len(list))
	// Who the job acts for is asked anew for each batch: an account or a role may be gone.
	caller, denied := s.caller(ctx, o)
	if transient(denied) {
		return found, denied
	}
	var fault error
	for i := range list {
		in, failure, err := s.lookOne(ctx, caller, denied, &list[i])
		if err != nil {
			if fault = errors.Join(fault, err); ctx.Err() != nil {
				return found, fault
			}
			continue
		}
		found[i] = answer{in, failure}
	}
	return found, fault
}

// caller authenticates the job's token.
func (s *Supervisor) caller(ctx context.Context, o *task.Open) (*authcache.Caller, error) {
	target := (&url.URL{Path: "/" + o.Login + "/stor"}).EscapedPath()
	return s.cfg.Identity.Authenticate(ctx, authcache.Request{
		Method: http.MethodGet, Target: target, Proto: "HTTP/1.1", Header: http.Header{"Authorization": {"Token " + o.Token}, "Date": {time.Now().UTC().Format(http.TimeFormat)}},
	})
}

// transient reports whether an error says nothing about the object or the caller.
func transient(err error) bool {
	e, ok := errors.AsType[*sdc.Error](err)
	return err != nil && (!ok || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusInternalServerError)
}

func refusal(code, format string, args ...any) jobs.Failure {
	return jobs.Failure{Code: code, Message: fmt.Sprintf(format, args...)}
}

// parse reads a path as jobs have them: as it is, without percent-encoding.
func parse(path string) (manta.Path, error) {
	return manta.ParsePath(strings.ReplaceAll(path, "%", "%25"))
}

// lookOne looks one input up. denied is why the job's token is not good any more, if so. The order of the checks, and the words, are the original's.
func (s *Supervisor) lookOne(ctx context.Context, caller *authcache.Caller, denied error, k *ledger.Lookup) (*task.Input, jobs.Failure, error) {
	missing := refusal(jobs.CodeResourceNotFound, "no such object: \"%s\"", k.Path)
	forbidden := func(err error) jobs.Failure {
		f := refusal(jobs.CodeAuthorization, "permission denied: \"%s\"", k.Path)
		f.Internal = err.Error()
		return f
	}
	path, err := parse(k.Path)
	if err != nil || path.Rest() == "" {
		return nil, refusal(jobs.CodeResourceNotFound, "malformed object name: \"%s\"", k.Path), nil
	}
	if denied != nil {
		return nil, forbidden(denied), nil
	}
	owner, err := s.cfg.Identity.Owner(caller, path.Login(), path.String())
	switch e, _ := errors.AsType[*sdc.Error](err); {
	case err == nil:
	case transient(err):
		return nil, jobs.Failure{}, err
	case e.Code == codeNoAccount:
		return nil, missing, nil
	default:
		return nil, forbidden(err), nil
	}
	if path.IsRoot() {
		return nil, missing, nil
	}
	st, err := s.cfg.Namespace.Look(ctx, path.Key(owner.UUID), false)
	switch {
	case err != nil:
		return nil, jobs.Failure{}, fmt.Errorf("look at an input: %w", err)
	case st.Entry == nil:
		return nil, missing, nil
	case st.Entry.IsDirectory():
		return nil, refusal(jobs.CodeInvalidArgument, "objects of type \"directory\" are not supported: \"%s\"", k.Path), nil
	}
	err = s.cfg.Identity.ActivateRoles(caller, owner, "")
	if err == nil {
		err = s.cfg.Identity.Authorize(ctx, authcache.AuthzRequest{
			Caller: caller, Owner: owner, Action: "getobject", Resource: "/" + owner.Login + path.Rest(), RequestPath: path.String(), RoleTags: st.Entry.Roles,
			Conditions: authcache.Conditions{Time: time.Now(), Method: http.MethodGet, Overwrite: true},
		})
	}
	switch {
	case err == nil:
	case transient(err):
		return nil, jobs.Failure{}, err
	default:
		return nil, forbidden(err), nil
	}
	in := &task.Input{Path: path.String(), Size: st.Entry.Size}
	if k.Origin != "" {
		origin, err := parse(k.Origin)
		if err != nil {
			return nil, refusal(jobs.CodeResourceNotFound, "malformed object name: \"%s\"", k.Path), nil
		}
		in.Origin = origin.String()
	}
	if in.Size > 0 {
		if in.Object, err = st.Entry.BytesID(); err != nil {
			return nil, jobs.Failure{Code: jobs.CodeInternal, Message: "internal error", Internal: err.Error()}, nil
		}
		for _, shark := range st.Entry.Sharks {
			in.Copies = append(in.Copies, shark.Node)
		}
		if len(in.Copies) == 0 {
			return nil, jobs.Failure{Code: jobs.CodeInternal, Message: "internal error", Internal: "no copies of an object"}, nil
		}
	}
	return in, jobs.Failure{}, nil
}

// codeNoAccount is authcache's of a login that is nobody's.
const codeNoAccount = "AccountDoesNotExist"
