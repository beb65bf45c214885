package jobapi

import (
	"bytes"
	"net/http"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/webapi"
)

// newest is how many inputs, outputs or errors a listing shows.
const newest = 100

// status answers with the job.
func (a *API) status(r *webapi.Request) error {
	j, err := a.Job(r)
	if err != nil {
		return err
	}
	b, err := jobs.Encode(j.Status())
	if err != nil {
		return err
	}
	r.Blob(http.StatusOK, "application/json", b)
	return nil
}

// cancel asks for the job to end.
func (a *API) cancel(r *webapi.Request) error {
	return a.change(r, a.records.Cancel)
}

func (a *API) inputs(r *webapi.Request) error {
	return a.lines(r, func(id string) ([]string, error) { return a.records.RecentInputs(r.Context(), id, newest) })
}

func (a *API) outputs(r *webapi.Request) error {
	return a.lines(r, func(id string) ([]string, error) { return a.records.RecentOutputs(r.Context(), id, newest) })
}

// failures answers with the inputs of the job that the newest errors came of, where that is known.
func (a *API) failures(r *webapi.Request) error {
	return a.lines(r, func(id string) (inputs []string, err error) {
		list, err := a.records.RecentErrors(r.Context(), id, newest)
		for _, f := range list {
			if in := f.JobInput(); in != "" {
				inputs = append(inputs, in)
			}
		}
		return inputs, err
	})
}

// lines answers with a line for each of a few strings.
func (a *API) lines(r *webapi.Request, list func(id string) ([]string, error)) error {
	j, err := a.Job(r)
	if err != nil {
		return err
	}
	some, err := list(j.ID)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, line := range some {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	r.Blob(http.StatusOK, "text/plain", b.Bytes())
	return nil
}

// errors answers with the newest errors.
func (a *API) errors(r *webapi.Request) error {
	j, err := a.Job(r)
	if err != nil {
		return err
	}
	list, err := a.records.RecentErrors(r.Context(), j.ID, newest)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, f := range list {
		line, err := jobs.Encode(f.Line())
		if err != nil {
			return err
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	r.Blob(http.StatusOK, "application/x-json-stream; type=job-error", b.Bytes())
	return nil
}
