package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/mobulacloud/mobula/storage"
)

// ReportPath is where [NewHandler] takes reports.
const ReportPath = "/storage/v1/reports"

const maxReport = 64 << 10

// NewHandler takes reports over HTTP for a Registrar. peer tells which node a request comes from, usually from its client
// certificate; an error of it, and a report about another node, are refused with 403.
func NewHandler(to Registrar, peer func(*http.Request) (node string, err error), log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+ReportPath, func(w http.ResponseWriter, req *http.Request) {
		node, err := peer(req)
		if err != nil {
			answer(w, http.StatusForbidden, "forbidden", "no node's certificate")
			return
		}
		var r Report
		d := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxReport))
		if err := d.Decode(&r); err != nil {
			answer(w, http.StatusBadRequest, codeInvalid, "body is not a report")
			return
		}
		if r.Node != node {
			answer(w, http.StatusForbidden, "forbidden", "report about another node")
			return
		}
		switch err := to.Report(req.Context(), r); {
		case err == nil:
			w.WriteHeader(http.StatusNoContent)
		case errors.Is(err, ErrRemoved):
			answer(w, http.StatusGone, codeRemoved, err.Error())
		case errors.Is(err, storage.ErrInvalid):
			answer(w, http.StatusBadRequest, codeInvalid, err.Error())
		default:
			log.ErrorContext(req.Context(), "report not stored", "node", node, "err", err)
			answer(w, http.StatusServiceUnavailable, "unavailable", "report could not be stored")
		}
	})
	return mux
}

const (
	codeRemoved = "removed"
	codeInvalid = "invalid"
)

type wireError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func answer(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(wireError{code, message})
}

// A Client is a Registrar behind [NewHandler]. Use [NewClient].
type Client struct {
	http *http.Client
	url  string
}

// NewClient returns a Registrar at base, such as "https://head:8443". The HTTP client brings the node's certificate.
func NewClient(client *http.Client, base string) (*Client, error) {
	u, err := url.JoinPath(base, ReportPath)
	if err != nil || client == nil {
		return nil, fmt.Errorf("%w: fleet: client of %.200q", storage.ErrInvalid, base)
	}
	return &Client{client, u}, nil
}

// Report implements [Registrar].
func (c *Client) Report(ctx context.Context, r Report) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("%w: report: %w", storage.ErrInvalid, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: report: %w", storage.ErrInvalid, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: report: %w", storage.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	var e wireError
	// A proxy's page is no reason to fail harder than its status.
	_ = json.NewDecoder(io.LimitReader(resp.Body, maxReport)).Decode(&e)
	err = fmt.Errorf("report of %s: %s: %.200q", r.Node, resp.Status, e.Message)
	switch {
	case resp.StatusCode == http.StatusGone && e.Code == codeRemoved:
		return fmt.Errorf("%w: %w", ErrRemoved, err)
	case resp.StatusCode == http.StatusBadRequest && e.Code == codeInvalid:
		return fmt.Errorf("%w: %w", storage.ErrInvalid, err)
	case resp.StatusCode >= 500:
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return err
}
