package pki

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// FuzzJoin sends requests to join. Nobody gets a certificate but for a good token.
func FuzzJoin(f *testing.F) {
	ca, err := OpenCA(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	tokens, err := OpenTokenDir(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { tokens.Close() })
	a := &Authority{CA: ca, Tokens: tokens}
	token, err := a.CreateToken(f.Context(), Identity{Storage, "1.stor"}, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(joinRequest{Token: token.ID(), Secret: token.secret[:], CSR: []byte{0x30, 0}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"token":"../../etc","secret":"","csr":""}`))
	f.Add([]byte(`{"token":"` + token.ID() + `"}`))
	handler := NewHandler(a)
	f.Fuzz(func(t *testing.T, body []byte) {
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, JoinPath, bytes.NewReader(body)))
		if rec.Code != http.StatusBadRequest && rec.Code != http.StatusForbidden {
			t.Errorf("status %d: %s", rec.Code, rec.Body)
		}
	})
}
