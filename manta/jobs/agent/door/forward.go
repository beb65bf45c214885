package door

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
)

// An errand is a request on its way to the store.
type errand struct {
	s      *session
	stream string // stdout, stderr, core; "" when it emits nothing
	Emitted
}

type errandKey struct{}

// methods are those of the store's API. TRACE would show the token to whoever asks.
var methods = map[string]bool{
	http.MethodGet: true, http.MethodHead: true, http.MethodPut: true, http.MethodPost: true, http.MethodDelete: true, http.MethodOptions: true,
}

// forward takes a request to the store.
func (d *Door) forward(w http.ResponseWriter, r *http.Request) {
	s := d.enter()
	if s == nil {
		notNow.write(w)
		return
	}
	defer s.leave()
	if !methods[r.Method] {
		badMethod.write(w)
		return
	}
	stream := streamOf(r.Header)
	// Even an attempt that fails means that the program gives out its stdout by itself.
	if r.Method == http.MethodPut && stream == "stdout" {
		s.explicit()
	}
	reducer, ok := reducerOf(r.Header)
	if !ok {
		badReducer.write(w)
		return
	}
	if d.perturbed() {
		injected.write(w)
		return
	}
	path, err := manta.ParsePath(rawPath(r))
	if err != nil {
		refusal{http.StatusConflict, "InvalidArgument", badObjectName + err.Error()}.write(w)
		return
	}
	r, cancel := s.bind(w, r)
	defer cancel()
	if !d.slot(r.Context()) {
		notNow.write(w)
		return
	}
	defer func() { <-d.slots }()

	e := &errand{s: s, Emitted: Emitted{Path: path.String(), Reducer: reducer}}
	if r.Method == http.MethodPut && !isDirectory(r.Header.Get("Content-Type")) {
		if r.Header.Get(headerReference) != "" {
			if !s.emit(stream, e.Emitted) {
				notNow.write(w)
				return
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
		e.stream = stream
	}
	d.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), errandKey{}, e)))
}

// rewrite makes the request that the store gets.
func (d *Door) rewrite(p *httputil.ProxyRequest) {
	d.direct(p.Out)
	for _, name := range []string{headerStream, headerReducer, headerReference} {
		p.Out.Header.Del(name)
	}
	p.Out.Trailer = nil
	if !strings.EqualFold(p.Out.Header.Get("Upgrade"), "websocket") {
		// Any other protocol could carry requests of which nothing would be known here.
		p.Out.Header.Del("Upgrade")
		p.Out.Header.Del("Connection")
	}
	p.Out.URL.RawQuery = p.In.URL.RawQuery // the store judges what it is worth
	if p.Out.Body == nil && p.In.Header["Content-Length"] == nil && p.In.Method == http.MethodPut && p.In.URL.Query().Has("metadata") {
		// A change of metadata must not have a length, not even 0, which net/http would add.
		p.Out.Body, p.Out.ContentLength = io.NopCloser(emptyBody{}), -1
	}
}

type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }

var errOver = errors.New("door: the task is over")

// answered sees the store's answer before the program does. What is emitted is known to the agent by then, so that a program that ends after its last answer
// leaves nothing behind that is not counted.
func (d *Door) answered(resp *http.Response) error {
	e := resp.Request.Context().Value(errandKey{}).(*errand)
	if e.stream == "" || resp.StatusCode >= 400 || resp.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	if !e.s.emit(e.stream, e.Emitted) {
		return errOver
	}
	return nil
}

// broke answers a request that got no answer from the store.
func (d *Door) broke(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errOver):
		notNow.write(w)
	case r.Context().Err() != nil:
		// The program has gone, or its task has: nobody reads an answer.
		panic(http.ErrAbortHandler)
	default:
		d.log.WarnContext(r.Context(), "the store did not answer a task", "method", r.Method, "path", r.URL.Path, "err", err)
		unreachable.write(w)
	}
}

// Headers by which a program says what a PUT is to its task.
const (
	headerStream    = "X-Manta-Stream"
	headerReducer   = "X-Manta-Reducer"
	headerReference = "X-Manta-Reference"
)

// streamOf returns which stream of its task an object is to be; "" for none. A header with another value counts as none.
func streamOf(h http.Header) string {
	if v := h[headerStream]; len(v) == 1 {
		switch v[0] {
		case "stdout", "stderr", "core":
			return v[0]
		}
	}
	return ""
}

// reducerOf returns the reducer that an object is for, -1 for none in particular.
func reducerOf(h http.Header) (int, bool) {
	v, sent := h[headerReducer]
	if !sent {
		return -1, true
	}
	if len(v) != 1 {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(v[0]), 10, 16)
	if err != nil || n >= jobs.MaxReducers {
		return 0, false
	}
	return int(n), true
}

// isDirectory reports whether a PUT with this content type makes a directory, which is nothing to emit.
func isDirectory(contentType string) bool {
	t, params, err := mime.ParseMediaType(contentType)
	return err == nil && t == "application/json" && params["type"] == "directory"
}

// rawPath returns the path as it was sent, undecoded.
func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if strings.HasPrefix(path, "/") {
		return path
	}
	return r.URL.EscapedPath() // a proxy's form of request has the whole URL
}
