package sessions

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs/jobapi"
	"github.com/mobulacloud/mobula/manta/webapi"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// Codes of refusals.
const (
	CodeExpectedUpgrade     = "ExpectedUpgrade"
	CodeEntityAlreadyExists = "EntityAlreadyExists"
)

// Routes returns the routes for webapi.Config.Routes.
func (r *Reflector) Routes() []webapi.Route {
	return []webapi.Route{{Name: "MedusaAttach", Method: "GET", Pattern: "/:login/medusa/attach/:id/:type", Action: "mlogin", Handle: r.attach}}
}

// attach serves one side of a session for as long as it lasts.
func (r *Reflector) attach(q *webapi.Request) error {
	err := r.tryAttach(q)
	if err != nil {
		r.failed.Add(1)
	}
	return refusal(q, err)
}

func (r *Reflector) tryAttach(q *webapi.Request) error {
	j, err := r.cfg.Job(q)
	if err == nil {
		err = jobapi.Open(j)
	}
	if err != nil {
		return err
	}
	if !isUpgrade(q.Request) {
		return manta.Errorf(http.StatusBadRequest, CodeExpectedUpgrade, "%s requires a Websocket Upgrade", q.Path)
	}
	accept := func() (*peer, error) { return r.accept(upgrade{q}, q.Request) }
	switch kind := q.Params["type"]; kind {
	case "master":
		return r.master(q.Context(), j.ID, j.Owner, accept)
	case "slave":
		if s := r.find(j.ID); s != nil {
			return r.slave(s, accept)
		}
		where, _, err := r.where(q.Context(), j.ID)
		if errors.Is(err, metastore.ErrNotFound) || err == nil && (where.Address == r.cfg.Address || r.cfg.Dial == nil) {
			return errNone
		}
		if err != nil {
			return err
		}
		return r.pipe(q, where)
	default:
		return manta.Errorf(http.StatusBadRequest, manta.CodeInvalidParameter, "%.100q is an invalid value for %q", kind, "type")
	}
}

func refusal(q *webapi.Request, err error) error {
	switch {
	case errors.Is(err, errNone):
		return manta.Errorf(http.StatusNotFound, manta.CodeResourceNotFound, "Session for job %s was not found", q.Params["id"])
	case errors.Is(err, errExists):
		return manta.Errorf(http.StatusConflict, CodeEntityAlreadyExists, "session exists already")
	case errors.Is(err, errTooMany), errors.Is(err, errClosed):
		e := manta.Errorf(http.StatusServiceUnavailable, manta.CodeThrottled, "too many sessions")
		e.RetryAfter = 30 * time.Second
		return e
	}
	return err
}

// isUpgrade reports whether a request asks for a WebSocket in a form that can be accepted. The original's client says no version.
func isUpgrade(q *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(q.Header.Get("Sec-WebSocket-Key")))
	version := q.Header.Get("Sec-WebSocket-Version")
	return err == nil && len(key) == 16 && len(q.Header["Sec-Websocket-Key"]) == 1 && (version == "" || version == "13") &&
		q.ProtoMajor == 1 && q.ProtoMinor == 1 && hasToken(q.Header["Connection"], "upgrade") && hasToken(q.Header["Upgrade"], "websocket")
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// accept makes a WebSocket of a request's connection.
func (r *Reflector) accept(w http.ResponseWriter, q *http.Request) (*peer, error) {
	q.Header.Set("Sec-WebSocket-Version", "13")
	conn, err := websocket.Accept(w, q, &websocket.AcceptOptions{
		Subprotocols:       []string{Subprotocol},
		InsecureSkipVerify: true, // a page of another origin has no credentials that a browser would add
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(r.cfg.MaxMessage)
	return &peer{conn: conn, plain: conn.Subprotocol() == Subprotocol, silence: r.cfg.Silence}, nil
}

// upgrade shows a request of the front door to the WebSocket library.
type upgrade struct{ *webapi.Request }

func (u upgrade) Header() http.Header    { return u.Answer() }
func (u upgrade) WriteHeader(status int) { u.WriteHead(status) }
