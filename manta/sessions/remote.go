package sessions

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/webapi"
)

// Handler returns what other front doors call: GET /attach/ID/slave for sessions that are here, and GET /status. It asks nobody who he is.
func (r *Reflector) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(r.Status()) // the caller may be gone
	})
	mux.HandleFunc("GET /attach/{id}/slave", func(w http.ResponseWriter, q *http.Request) {
		s := r.find(q.PathValue("id"))
		switch {
		case !isUpgrade(q):
			http.Error(w, "must upgrade", http.StatusBadRequest)
			return
		case s == nil:
			http.Error(w, "no such session", http.StatusNotFound)
			return
		}
		switch err := r.slave(s, func() (*peer, error) { return r.accept(w, q) }); {
		case errors.Is(err, errExists):
			http.Error(w, "session has a slave", http.StatusConflict)
		case errors.Is(err, errNone):
			http.Error(w, "no such session", http.StatusNotFound)
		}
	})
	return mux
}

// pipe connects a slave with a session that another front door has, and carries bytes between them.
func (r *Reflector) pipe(q *webapi.Request, where record) error {
	ctx, cancel := context.WithTimeout(q.Context(), 10*time.Second)
	defer cancel()
	back, br, resp, err := r.call(ctx, where, q.Header)
	if err != nil {
		e := manta.Errorf(http.StatusServiceUnavailable, manta.CodeServiceUnavailable, "manta is unable to serve this request")
		e.Err = fmt.Errorf("session %s at %s: %w", where.ID, where.Address, err)
		e.RetryAfter = time.Second
		return e
	}
	defer back.Close()
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols:
	case http.StatusNotFound:
		return errNone
	case http.StatusConflict:
		return errExists
	default:
		return fmt.Errorf("session %s at %s: status %d", where.ID, where.Address, resp.StatusCode)
	}
	h := q.Answer()
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Accept", "Sec-Websocket-Protocol"} {
		if v := resp.Header.Get(name); v != "" {
			h.Set(name, v)
		}
	}
	q.WriteHead(http.StatusSwitchingProtocols)
	front, rw, err := q.Hijack()
	if err != nil {
		return err
	}
	defer front.Close()
	r.piped.Add(1)
	// The reflector there pings the slave, so a living pair is never silent for long.
	patience := r.cfg.Silence * 3 / 2
	done := make(chan struct{}, 2)
	carry := func(to, from net.Conn, src io.Reader) {
		defer func() { done <- struct{}{} }()
		buf := make([]byte, 32<<10)
		for {
			_ = from.SetReadDeadline(time.Now().Add(patience)) // a connection without deadlines is closed by its own end
			n, err := src.Read(buf)
			if n > 0 {
				_ = to.SetWriteDeadline(time.Now().Add(patience))
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	go carry(back, front, rw.Reader)
	go carry(front, back, br)
	<-done
	back.Close()
	front.Close()
	<-done
	return nil
}

// call asks another front door for a session.
func (r *Reflector) call(ctx context.Context, where record, h http.Header) (net.Conn, *bufio.Reader, *http.Response, error) {
	conn, err := r.cfg.Dial(ctx, where.Address)
	if err != nil {
		return nil, nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	q := (&http.Request{
		Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: where.Address, Path: "/attach/" + where.ID + "/slave"},
		ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Host: where.Address,
	}).WithContext(ctx)
	q.Header.Set("Connection", "Upgrade")
	q.Header.Set("Upgrade", "websocket")
	for _, name := range []string{"Sec-Websocket-Key", "Sec-Websocket-Protocol"} {
		if v := h.Get(name); v != "" {
			q.Header.Set(name, v)
		}
	}
	err = q.Write(conn)
	br := bufio.NewReader(conn)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(br, q)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, nil, err
	}
	return conn, br, resp, nil
}
