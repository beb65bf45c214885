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
	TrustPath = "/pki/v1/trust"
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
	Certificate []byte   `json:"certificate"`       // DER
	Authority   []byte   `json:"authority"`         // DER
	Trusted     [][]byte `json:"trusted,omitempty"` // DER; from an older head node only the authority
}

type trustRequest struct {
	Have [][]byte `json:"have"` // fingerprints of the authorities that the peer trusts
}

type trustAnswer struct {
	Trusted [][]byte `json:"trusted"` // DER
	Renew   bool     `json:"renew,omitempty"`
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
		issued, err := a.Join(r.Context(), in.Token, in.Secret, in.CSR)
		a.answer(w, r, issued, err)
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
		issued, err := a.Renew(r.Context(), peer, in.CSR)
		a.answer(w, r, issued, err)
	})
	mux.HandleFunc("POST "+TrustPath, func(w http.ResponseWriter, r *http.Request) {
		peer, err := PeerIdentity(r.TLS)
		if err != nil {
			a.answer(w, r, nil, err)
			return
		}
		var in trustRequest
		if !decode(w, r, &in) {
			return
		}
		chain := r.TLS.VerifiedChains[0]
		t, err := a.Trust(r.Context(), peer, chain[len(chain)-1], in.Have)
		if err != nil {
			a.answer(w, r, nil, err)
			return
		}
		reply(w, http.StatusOK, trustAnswer{raws(t.Trusted), t.Renew})
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

func (a *Authority) answer(w http.ResponseWriter, r *http.Request, issued *Issued, err error) {
	if err == nil {
		reply(w, http.StatusOK, certificateAnswer{issued.Certificate.Raw, issued.Authority.Raw, raws(issued.Trusted)})
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

// postForCertificate sends a request for a certificate.
func postForCertificate(ctx context.Context, client *http.Client, url string, in any) (*Issued, error) {
	var out certificateAnswer
	if err := post(ctx, client, url, in, &out); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(out.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	ca, err := x509.ParseCertificate(out.Authority)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	trusted, err := parseTrusted(out.Trusted)
	return &Issued{cert, ca, trusted}, err
}

func parseTrusted(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) > maxTrusted {
		return nil, fmt.Errorf("%d authorities to trust are too many", len(ders))
	}
	var list []*x509.Certificate
	for _, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("authority: %w", err)
		}
		list = append(list, cert)
	}
	return list, nil
}

// post sends a request to a head node and decodes its answer into out. It leaves no connection behind: the next one shall show the certificate of then.
func post(ctx context.Context, client *http.Client, url string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var e errorAnswer
		_ = json.Unmarshal(data, &e) // whatever it is, the status counts
		for _, known := range wireErrors {
			if e.Code == known.code {
				return known.err
			}
		}
		return fmt.Errorf("%s: %.200q", resp.Status, e.Message)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("unreadable answer: %w", err)
	}
	return nil
}
