package jobapi

import (
	"bytes"
	"cmp"
	"net/http"
	"strconv"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/webapi"
)

// maxList is the greatest number of jobs in a listing.
const maxList = 1000

// list answers with jobs that there are still records of, oldest first. The state "live" selects all of them, as in the original.
func (a *API) list(r *webapi.Request) error {
	dir := r.Path
	if dir.Rest() == "/jobs/live" {
		dir = dir.Dir()
	}
	if err := a.authorize(r, dir); err != nil {
		return err
	}
	o := jobs.ListOptions{Owner: r.Owner.UUID, Name: r.Query.Get("name")}
	for _, parameter := range []string{"state", "status"} {
		switch v := r.Query.Get(parameter); v {
		case "", "live":
		case "running":
			o.State = jobs.Running
		default:
			return invalidParameter(parameter, v)
		}
	}
	if !isName(o.Name) {
		return invalidParameter("name", o.Name)
	}
	limit, err := strconv.Atoi(cmp.Or(r.Query.Get("limit"), "1000"))
	if err != nil || limit < 1 {
		return invalidParameter("limit", r.Query.Get("limit"))
	}
	o.Limit = min(limit, maxList)
	var b bytes.Buffer
	for j, err := range a.records.List(r.Context(), o) {
		if err != nil {
			return err
		}
		line, err := jobs.Encode(struct {
			Name  string         `json:"name"`
			Type  string         `json:"type"`
			Mtime jobs.Timestamp `json:"mtime"`
		}{j.ID, "directory", jobs.Timestamp(j.TimeCreated)})
		if err != nil {
			return err
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	r.Blob(http.StatusOK, "application/x-json-stream; type=job", b.Bytes())
	return nil
}

func invalidParameter(name, value string) error {
	return manta.Errorf(http.StatusBadRequest, manta.CodeInvalidParameter, "%.100q is an invalid value for %q", value, name)
}

// isName reports whether a name can be asked for: letters, digits, '_' and '-', or nothing at all.
func isName(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
