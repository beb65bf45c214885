package nodehttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/mobulacloud/mobula/storage"
)

// HandlerConfig shapes a [Handler].
type HandlerConfig struct {
	// Node is what is served. Required.
	Node storage.Node

	// MaxRequests bounds the requests under way; more are answered 503 with Retry-After. 0 = 1,024.
	MaxRequests int

	// Stall is how long a peer may take to send or to accept the next piece of a body before it is cut off. 0 = 30 s.
	Stall time.Duration

	// Log gets faults of the node, with request_id. nil = nothing.
	Log *slog.Logger
}

// A Handler serves a storage node over HTTP. Use [NewHandler].
type Handler struct {
	cfg   HandlerConfig
	mux   *http.ServeMux
	slots chan struct{}
}

// NewHandler returns the service of a node.
func NewHandler(cfg HandlerConfig) (*Handler, error) {
	if cfg.Node == nil || cfg.MaxRequests < 0 || cfg.Stall < 0 {
		return nil, fmt.Errorf("%w: nodehttp handler without a node, or a negative limit", storage.ErrInvalid)
	}
	if cfg.MaxRequests == 0 {
		cfg.MaxRequests = 1024
	}
	if cfg.Stall == 0 {
		cfg.Stall = 30 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{cfg: cfg, mux: http.NewServeMux(), slots: make(chan struct{}, cfg.MaxRequests)}
	object := func(pattern string, f func(*exchange, storage.ObjectID)) {
		h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			x := h.exchange(w, r)
			id, err := storage.ParseObjectID(r.PathValue("owner") + "/" + r.PathValue("object"))
			if err != nil {
				x.fail(err)
				return
			}
			f(x, id)
		})
	}
	object("PUT /{owner}/{object}", (*exchange).put)
	object("GET /{owner}/{object}", (*exchange).get) // and HEAD
	object("DELETE /{owner}/{object}", (*exchange).delete)
	object("POST /mobula/v1/undelete/{owner}/{object}", (*exchange).undelete)
	object("POST /mobula/v1/verify/{owner}/{object}", (*exchange).verify)
	plain := func(pattern string, f func(*exchange)) {
		h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { f(h.exchange(w, r)) })
	}
	plain("POST /mpu/v1/commit/{id}", (*exchange).assemble)
	plain("GET /mobula/v1/objects", (*exchange).list)
	plain("GET /mobula/v1/usage", (*exchange).usage)
	return h, nil
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		h.exchange(w, r).fail(fmt.Errorf("%w: %d requests under way", storage.ErrUnavailable, h.cfg.MaxRequests))
		return
	}
	h.mux.ServeHTTP(w, r)
}

// exchange is one request on its way.
type exchange struct {
	h    *Handler
	node storage.Node
	w    http.ResponseWriter
	r    *http.Request
	rc   *http.ResponseController
	id   string
}

func (h *Handler) exchange(w http.ResponseWriter, r *http.Request) *exchange {
	id := r.Header.Get(headerRequestID)
	if !validRequestID(id) {
		id = uuid.NewString()
	}
	w.Header().Set(headerRequestID, id)
	x := &exchange{h: h, node: h.cfg.Node, w: w, r: r, rc: http.NewResponseController(w), id: id}
	x.moving()
	return x
}

// validRequestID keeps what a peer calls its request from filling or forging the log.
func validRequestID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// moving gives the peer a new term for its next piece.
func (x *exchange) moving() {
	t := time.Now().Add(x.h.cfg.Stall)
	_ = x.rc.SetReadDeadline(t) // not every connection knows deadlines
	_ = x.rc.SetWriteDeadline(t)
}

// waiting takes the term away while the node works and the peer can do nothing.
func (x *exchange) waiting() {
	_ = x.rc.SetReadDeadline(time.Time{})
	_ = x.rc.SetWriteDeadline(time.Time{})
}

func (x *exchange) ctx() context.Context { return x.r.Context() }

// fail answers an error.
func (x *exchange) fail(err error) {
	x.moving()
	code, status := codeOf(err)
	message := err.Error()
	if code == "internal" || code == "corrupt" || code == "read_only" {
		x.h.cfg.Log.ErrorContext(x.ctx(), "request failed", "request_id", x.id, "method", x.r.Method, "path", x.r.URL.Path, "err", err)
	}
	if code == "internal" {
		message = "the node failed; its log has the detail under the request id"
	}
	h := x.w.Header()
	h.Del("Trailer")
	h.Set(headerError, code)
	h.Set("Content-Type", "application/json")
	if status == http.StatusServiceUnavailable && h.Get("Retry-After") == "" {
		h.Set("Retry-After", "5")
	}
	body, _ := json.Marshal(wireError{Code: code, Message: message})
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		_, _ = x.w.Write(body)
	}
}

func (x *exchange) delete(id storage.ObjectID) {
	if err := x.node.Delete(x.ctx(), id); err != nil {
		x.fail(err)
		return
	}
	x.w.WriteHeader(http.StatusNoContent)
}

func (x *exchange) undelete(id storage.ObjectID) {
	if err := x.node.Undelete(x.ctx(), id); err != nil {
		x.fail(err)
		return
	}
	x.w.WriteHeader(http.StatusNoContent)
}

func (x *exchange) verify(id storage.ObjectID) {
	x.waiting()
	info, err := x.node.Verify(x.ctx(), id)
	if err != nil {
		x.fail(err)
		return
	}
	x.done(http.StatusNoContent, info)
}

// done answers a success that is described by headers alone.
func (x *exchange) done(status int, info storage.Info) {
	x.moving()
	writeInfo(x.w.Header(), info)
	x.w.WriteHeader(status)
}

func (x *exchange) assemble() {
	var req commitRequest
	body := http.MaxBytesReader(x.w, x.r.Body, maxCommitRequest)
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		x.fail(fmt.Errorf("%w: commit request: %w", storage.ErrInvalid, err))
		return
	}
	target, err := storage.ParseObjectID(req.Account + "/" + req.ObjectID)
	if err == nil && (req.Version != commitVersion || req.NBytes < 0) {
		err = fmt.Errorf("%w: commit request of version %d, %d bytes", storage.ErrInvalid, req.Version, req.NBytes)
	}
	sources := make([]storage.ObjectID, len(req.Parts))
	for i, part := range req.Parts {
		if !strings.Contains(part, "/") {
			part = req.Account + "/" + part
		}
		if err == nil {
			sources[i], err = storage.ParseObjectID(part)
		}
	}
	if err != nil {
		x.fail(err)
		return
	}
	x.waiting()
	info, err := x.node.Assemble(x.ctx(), target, sources, req.NBytes)
	if err != nil {
		if errors.Is(err, storage.ErrChecksum) { // the original's status for another size
			x.w.Header().Set(headerError, "checksum")
			x.failAs(http.StatusConflict, err)
			return
		}
		x.fail(err)
		return
	}
	x.done(http.StatusNoContent, info)
}

// failAs answers an error with a status of the original's.
func (x *exchange) failAs(status int, err error) {
	x.moving()
	code, _ := codeOf(err)
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(status)
	_ = json.NewEncoder(x.w).Encode(wireError{Code: code, Message: err.Error()})
}

func (x *exchange) list() {
	var after storage.ObjectID
	if s := x.r.URL.Query().Get("after"); s != "" {
		var err error
		if after, err = storage.ParseObjectID(s); err != nil {
			x.fail(err)
			return
		}
	}
	x.w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(movingWriter{x})
	n := 0
	for info, err := range x.node.List(x.ctx(), after) {
		if err != nil && n == 0 {
			x.fail(err)
			return
		}
		if err != nil {
			code, _ := codeOf(err)
			_ = out.Encode(wireInfo{Error: &wireError{Code: code, Message: "the listing broke off"}})
			x.h.cfg.Log.ErrorContext(x.ctx(), "listing broke off", "request_id", x.id, "err", err)
			return
		}
		if out.Encode(wireInfo{
			ID: info.ID.String(), Size: info.Size, MD5: info.MD5[:], CRC32C: info.CRC32C, Created: info.Created.UnixNano(), Verified: info.Verified.UnixNano(),
		}) != nil {
			return // the peer is gone
		}
		n++
	}
	_ = out.Encode(wireInfo{End: true})
}

// movingWriter writes to the peer and gives it a new term each time.
type movingWriter struct{ x *exchange }

func (m movingWriter) Write(p []byte) (int, error) {
	m.x.moving()
	return m.x.w.Write(p)
}

func (x *exchange) usage() {
	u, err := x.node.Usage(x.ctx())
	if err != nil {
		x.fail(err)
		return
	}
	out := wireUsage{
		Capacity: u.Capacity, Available: u.Available, Objects: u.Objects, Bytes: u.Bytes, Tombstones: u.Tombstones, Damaged: u.Damaged, ReadOnly: u.ReadOnly,
	}
	if !u.OldestUnverified.IsZero() {
		out.OldestUnverified = u.OldestUnverified.UnixNano()
	}
	x.w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(x.w).Encode(out)
}
