package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Paths that [NewHandler] serves.
const (
	JoinPath  = "/pki/v1/join"
	RenewPath = "/pki/v1/renew"
)

const maxBody = 16 << 10

type joinRequest struct {
	Token  string `json:"token"` // its id
	Secret []byte `json:"secret"`
	CSR    []byte `json:"csr"` // DER
}

type renewRequest struct {
	CSR []byte `json:"csr"` // DER
}

type certificateAnswer struct {
	Certificate []byte `json:"certificate"` // DER
	Authority   []byte `json:"authority"`   // DER
}

type errorAnswer struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Errors on the wire. The order is that of the test.
var wireErrors = []struct {
	err    error
	code   string
	status int
}{
	{ErrTokenUsed, "token_used", http.StatusForbidden},
	{ErrTokenExpired, "token_expired", http.StatusForbidden},
	{ErrTokenInvalid, "token_invalid", http.StatusForbidden},
	{ErrNotAdmitted, "not_admitted", http.StatusForbidden},
	{ErrIdentity, "identity", http.StatusForbidden},
	{ErrRequest, "bad_request", http.StatusBadRequest},
}

// NewHandler serves joining and renewal. It belongs on a listener with [Credentials.DoorServer]: joining is for those who have no certificate yet, and renewal asks for
// one itself.
func NewHandler(a *Authority) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+JoinPath, func(w http.ResponseWriter, r *http.Request) {
		var in joinRequest
		if !decode(w, r, &in) {
			return
		}
		cert, err := a.Join(r.Context(), in.Token, in.Secret, in.CSR)
		a.answer(w, r, cert, err)
	})
	mux.HandleFunc("POST "+RenewPath, func(w http.ResponseWriter, r *http.Request) {
		peer, err := PeerIdentity(r.TLS)
		if err != nil {
			a.answer(w, r, nil, err)
			return
		}
		var in renewRequest
		if !decode(w, r, &in) {
			return
		}
		cert, err := a.Renew(r.Context(), peer, in.CSR)
		a.answer(w, r, cert, err)
	})
	return mux
}

func decode(w http.ResponseWriter, r *http.Request, in any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		reply(w, http.StatusBadRequest, errorAnswer{"bad_request", "body is not what was expected"})
		return false
	}
	return true
}

func (a *Authority) answer(w http.ResponseWriter, r *http.Request, cert *x509.Certificate, err error) {
	if err == nil {
		reply(w, http.StatusOK, certificateAnswer{cert.Raw, a.CA.cert.Raw})
		return
	}
	for _, e := range wireErrors {
		if errors.Is(err, e.err) {
			reply(w, e.status, errorAnswer{e.code, e.err.Error()})
			return
		}
	}
	a.log().ErrorContext(r.Context(), "certificate not issued", "path", r.URL.Path, "err", err)
	reply(w, http.StatusInternalServerError, errorAnswer{"internal", "certificate could not be issued"})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// post sends a request for a certificate.
func post(ctx context.Context, client *http.Client, url string, in any) (cert, ca *x509.Certificate, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		var e errorAnswer
		_ = json.Unmarshal(data, &e) // whatever it is, the status counts
		for _, known := range wireErrors {
			if e.Code == known.code {
				return nil, nil, known.err
			}
		}
		return nil, nil, fmt.Errorf("%s: %.200q", resp.Status, e.Message)
	}
	var out certificateAnswer
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, nil, fmt.Errorf("unreadable answer: %w", err)
	}
	if cert, err = x509.ParseCertificate(out.Certificate); err != nil {
		return nil, nil, fmt.Errorf("certificate: %w", err)
	}
	if ca, err = x509.ParseCertificate(out.Authority); err != nil {
		return nil, nil, fmt.Errorf("authority: %w", err)
	}
	return cert, ca, nil
}
