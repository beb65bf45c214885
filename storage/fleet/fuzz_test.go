package fleet

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// FuzzReport sends reports over the wire. What is taken must be valid, and come out of the records again.
func FuzzReport(f *testing.F) {
	ctx := context.Background()
	store := metastoretest.NewMemory()
	f.Cleanup(func() { store.Close() })
	registry, err := NewRegistry(ctx, store)
	if err != nil {
		f.Fatal(err)
	}
	handler := NewHandler(registry, func(*http.Request) (string, error) { return "1.stor", nil }, nil)
	full, err := json.Marshal(Report{Node: "1.stor", Datacenter: "dc", Address: "https://1.stor", Damaged: []string{storagetest.NewID().String()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(full))
	f.Add(`{"manta_storage_id":"1.stor","datacenter":"dc","usage":{"Capacity":1e3,"Available":-1}}`)
	f.Add(`{"manta_storage_id":"1.stor","datacenter":"\u0000"}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, body string) {
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, ReportPath, strings.NewReader(body)))
		if rec.Code != http.StatusNoContent {
			if rec.Code != http.StatusBadRequest && rec.Code != http.StatusForbidden {
				t.Errorf("status %d: %s", rec.Code, rec.Body)
			}
			return
		}
		nodes, err := registry.Nodes(t.Context())
		if err != nil || len(nodes) != 1 {
			t.Fatalf("Nodes: %v, %v", nodes, err)
		}
		if err := nodes[0].Validate(); err != nil {
			t.Errorf("stored: %v", err)
		}
	})
}
