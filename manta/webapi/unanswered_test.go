package webapi

import (
	"context"
	"fmt"
	"net/http"
	"syscall"
	"testing"

	"github.com/mobulacloud/mobula/storage"
)

// What is not answered must not look like success: net/http writes "200 OK" for a handler that returns in silence, and a client would
// take that for an acknowledgement.
func TestUnanswered_isNeverSuccess(t *testing.T) {
	for name, handle := range map[string]func(*Request) error{
		"silence":                   func(*Request) error { return nil },
		"connection to a node lost": func(*Request) error { return fmt.Errorf("%w: %w", storage.ErrUnavailable, syscall.ECONNRESET) },
		"a part's own cancellation": func(*Request) error { return fmt.Errorf("copy: %w", context.Canceled) },
		"a pipe to a node broken":   func(*Request) error { return fmt.Errorf("copy: %w", syscall.EPIPE) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{config: func(c *Config) {
				c.Routes = []Route{{Name: "Test", Method: "PUT", Pattern: "/:login/test", Open: true, Handle: handle}}
			}})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, w.web.URL+"/alice/test", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return // the connection was broken: nobody takes that for an answer
			}
			defer resp.Body.Close()
			if resp.StatusCode < 500 {
				t.Errorf("status %d, want a fault or no answer at all", resp.StatusCode)
			}
		})
	}
}
