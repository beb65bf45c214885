package webapi

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mobulacloud/mobula/manta"
)

// An Audit describes a request that has ended: the original's audit line, from which access logs and usage reports are made.
type Audit struct {
	Time      time.Time // when the request came in
	RequestID string
	Operation string // the route's name; "" when there was none
	Method    string
	Target    string // as received; pre-signed URLs without their signature
	Status    int    // 499 when the client went away before it had an answer
	Code      string // of the error, or ""
	Err       error  // its cause, which the caller did not see

	Owner, OwnerUUID string // whose tree
	Caller           string // login, login/user or anonymous
	CallerUUID       string // of the account
	UserAgent        string
	RemoteAddr       string // of the connection
	SourceIP         string // of the caller
	ClearText        bool

	BytesIn, BytesOut int64         // of bodies
	Latency           time.Duration // until the head was written
	Duration          time.Duration

	Object, Replaced string // ids

	// Header is the request's, without credentials.
	Header http.Header
}

// credentials are headers that a log must never see.
var credentials = []string{"Authorization", "Cookie", "Proxy-Authorization", "X-Auth-Token"}

// finish counts a request that has ended and tells the audit.
func (s *Server) finish(r *Request, failure *manta.Error) {
	end := time.Now()
	if r.status == 0 {
		r.status = statusAbandoned
	}
	operation := ""
	if r.Route != nil {
		operation = r.Route.Name
	}
	latency := end.Sub(r.start)
	if !r.headAt.IsZero() {
		latency = r.headAt.Sub(r.start)
	}
	s.met.request(operation, r.Method, r.status, latency, end.Sub(r.start))
	if s.cfg.Audit == nil {
		return
	}
	for _, name := range credentials {
		delete(r.Request.Header, name) // the request is over: nobody needs them any more
	}
	a := &Audit{
		Time: r.start, RequestID: r.ID, Operation: operation, Method: r.Method, Target: redact(r.RequestURI), Status: r.status,
		UserAgent: r.header("User-Agent"), RemoteAddr: r.RemoteAddr, SourceIP: r.sourceIP(), ClearText: r.clearText,
		BytesIn: r.body.got, BytesOut: r.sent, Latency: latency, Duration: end.Sub(r.start), Object: r.Object, Replaced: r.Replaced, Header: r.Request.Header,
	}
	if failure != nil {
		a.Code, a.Err = failure.Code, failure.Err
	}
	if r.Owner != nil {
		a.Owner, a.OwnerUUID = r.Owner.Login, r.Owner.UUID
	}
	if r.Caller != nil {
		a.Caller = r.Caller.Login()
		if r.Caller.Account != nil {
			a.CallerUUID = r.Caller.Account.UUID
		}
	}
	s.cfg.Audit(a)
}

// An AuditLog writes a line for every request to a logger, from a goroutine of its own, so that no request waits for a disk. When it falls
// behind it drops lines, and says how many.
type AuditLog struct {
	log     *slog.Logger
	lines   chan *Audit
	dropped atomic.Int64
}

// NewAuditLog returns a log that holds up to size lines until they are written; 0 means 8,192. Run writes them.
func NewAuditLog(log *slog.Logger, size int) *AuditLog {
	if size <= 0 {
		size = 8192
	}
	return &AuditLog{log: log, lines: make(chan *Audit, size)}
}

// Add takes a line. It is a [Config.Audit].
func (l *AuditLog) Add(a *Audit) {
	select {
	case l.lines <- a:
	default:
		l.dropped.Add(1)
	}
}

// Run writes lines until ctx ends, then those that are left.
func (l *AuditLog) Run(ctx context.Context) error {
	for {
		select {
		case a := <-l.lines:
			l.write(a)
		case <-ctx.Done():
			for {
				select {
				case a := <-l.lines:
					l.write(a)
				default:
					return ctx.Err()
				}
			}
		}
	}
}

func (l *AuditLog) write(a *Audit) {
	if n := l.dropped.Swap(0); n > 0 {
		l.log.Warn("audit lines dropped", "lines", n)
	}
	attrs := []slog.Attr{
		slog.Bool("_audit", true), slog.String("request_id", a.RequestID), slog.String("operation", a.Operation), slog.String("method", a.Method),
		slog.String("target", a.Target), slog.Int("status", a.Status), slog.String("owner", a.Owner), slog.String("caller", a.Caller),
		slog.String("remote", a.RemoteAddr), slog.Bool("secure", !a.ClearText), slog.Int64("bytes_in", a.BytesIn), slog.Int64("bytes_out", a.BytesOut),
		slog.Duration("latency", a.Latency), slog.Duration("duration", a.Duration), slog.String("user_agent", a.UserAgent),
	}
	if a.Object != "" {
		attrs = append(attrs, slog.String("object", a.Object))
	}
	if a.Replaced != "" {
		attrs = append(attrs, slog.String("replaced", a.Replaced))
	}
	if a.Code != "" {
		attrs = append(attrs, slog.String("code", a.Code))
	}
	if a.Err != nil {
		attrs = append(attrs, slog.Any("err", a.Err))
	}
	l.log.LogAttrs(context.Background(), slog.LevelInfo, "handled", attrs...)
}

// redact takes the signature out of a pre-signed URL, so that a log gives nobody access.
func redact(target string) string {
	path, query, found := strings.Cut(target, "?")
	if !found || !strings.Contains(query, "signature=") {
		return target
	}
	parts := strings.Split(query, "&")
	for i, p := range parts {
		if strings.HasPrefix(p, "signature=") {
			parts[i] = "signature=REDACTED"
		}
	}
	return path + "?" + strings.Join(parts, "&")
}
