package jobapi

import (
	"errors"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/manta/webapi"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
)

// Identity makes what a job acts with. *[authcache.Cache] is one; its comments are the specification.
type Identity interface {
	MintToken(caller *authcache.Caller, owner *sdc.Account, fromJob bool) (string, error)
	NewRoleTags(caller *authcache.Caller, owner *sdc.Account, header string) (uuids []string, err error)
}

// Config describes an API. All of it is required.
type Config struct {
	Records   *jobs.Records
	Namespace *namespace.Namespace
	Identity  Identity
}

// An API answers requests about jobs.
type API struct {
	records   *jobs.Records
	namespace *namespace.Namespace
	identity  Identity
}

// New checks the configuration and returns an API.
func New(cfg Config) (*API, error) {
	if cfg.Records == nil || cfg.Namespace == nil || cfg.Identity == nil {
		return nil, errors.New("jobapi: Config.Records, Namespace and Identity are required")
	}
	return &API{cfg.Records, cfg.Namespace, cfg.Identity}, nil
}

// Routes returns the routes for webapi.Config.Routes.
func (a *API) Routes() []webapi.Route {
	const job = "/:login/jobs/:id/live/"
	return []webapi.Route{
		{Name: "CreateJob", Method: "POST", Pattern: "/:login/jobs", Action: "createjob", Handle: a.create},
		{Name: "ListJobs", Method: "GET", Pattern: "/:login/jobs", Query: []string{"state", "status", "name"}, Action: "listjobs", Handle: a.list},
		{Name: "ListJobs", Method: "GET", Pattern: "/:login/jobs/live", Action: "listjobs", Handle: a.list},
		{Name: "GetJobStatus", Method: "GET", Pattern: job + "status", Action: "getjob", Handle: a.status},
		{Name: "PostJobCancel", Method: "POST", Pattern: job + "cancel", Action: "managejob", Handle: a.cancel},
		{Name: "PostJobInput", Method: "POST", Pattern: job + "in", Action: "managejob", Handle: a.addInput},
		{Name: "PostJobInputDone", Method: "POST", Pattern: job + "in/end", Action: "managejob", Handle: a.endInput},
		{Name: "GetJobInput", Method: "GET", Pattern: job + "in", Action: "getjob", Handle: a.inputs},
		{Name: "GetJobOutput", Method: "GET", Pattern: job + "out", Action: "getjob", Handle: a.outputs},
		{Name: "GetJobFailures", Method: "GET", Pattern: job + "fail", Action: "getjob", Handle: a.failures},
		{Name: "GetJobErrors", Method: "GET", Pattern: job + "err", Action: "getjob", Handle: a.errors},
	}
}
