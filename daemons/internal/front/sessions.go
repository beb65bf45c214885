package front

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mobulacloud/mobula/manta/jobs/jobapi"
	"github.com/mobulacloud/mobula/manta/sessions"
	"github.com/mobulacloud/mobula/manta/sessions/slave"
	"github.com/mobulacloud/mobula/manta/webapi"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
)

// openSessions opens what joins terminals and tasks, and returns its routes. There is one head node, so it knows of no other.
func (f *Front) openSessions(ctx context.Context, cfg Config, api *jobapi.API) ([]webapi.Route, error) {
	var err error
	if f.Sessions, err = sessions.New(sessions.Config{Store: f.Records, Job: api.Job, Logger: cfg.Log}); err != nil {
		return nil, err
	}
	if err := f.Sessions.Define(ctx); err != nil {
		return nil, err
	}
	return f.Sessions.Routes(), nil
}

// publish stores the program that interactive sessions name, as the account that clients expect it of. It tries until it succeeds or ctx ends, since storage nodes may
// come later than the head node.
func (f *Front) publish(ctx context.Context) error {
	login, _, _ := strings.Cut(strings.TrimPrefix(slave.Object, "/"), "/")
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(30*time.Second), backoff.WithMaxElapsedTime(0))
	err := backoff.RetryNotify(func() error { return f.publishOnce(ctx, login) }, backoff.WithContext(retry, ctx), func(err error, after time.Duration) {
		f.log.Debug("sessions are not to be had yet", "err", err, "again", after)
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (f *Front) publishOnce(ctx context.Context, login string) error {
	account, err := f.Accounts.AccountByLogin(ctx, login)
	if errors.Is(err, &sdc.Error{Code: "ResourceNotFound"}) {
		// It has no key, so nobody can act as it from outside.
		account, err = f.Accounts.CreateAccount(ctx, sdc.Account{Login: login, ApprovedForProvisioning: true})
	}
	if err != nil {
		return err
	}
	mark, err := f.Accounts.Mark(ctx)
	if err != nil {
		return err
	}
	if err := f.Identity.WaitMark(ctx, mark); err != nil {
		return err
	}
	token, err := f.Identity.MintToken(&authcache.Caller{Account: &account}, &account, false)
	if err != nil {
		return err
	}
	send := func(method, target, contentType, body string) (int, error) {
		req, err := http.NewRequestWithContext(ctx, method, InsideURL+target, strings.NewReader(body))
		if err != nil {
			return 0, err
		}
		req.Header.Set("Authorization", "Token "+token)
		req.Header.Set("Content-Type", contentType)
		resp, err := f.Inside.RoundTrip(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	// Head nodes of other versions may have put another there; the last one to start wins.
	for _, step := range []struct{ target, contentType, body string }{
		{path.Dir(slave.Object), "application/json; type=directory", ""},
		{slave.Object, "text/x-shellscript", slave.Script},
	} {
		status, err := send(http.MethodPut, step.target, step.contentType, step.body)
		if err == nil && status != http.StatusNoContent {
			err = fmt.Errorf("store %s: status %d", step.target, status)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
