package webapi

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
)

// TestNodesComeAndGo puts, gets and deletes while one storage node after another dies and comes back. What was acknowledged must be there, whole; what was not may be there
// or not, but never in part.
func TestNodesComeAndGo(t *testing.T) {
	rounds := 60
	if testenv.Long() {
		rounds = 5000
	}
	w := newWorld(t, worldOptions{nodes: 4})
	stop := make(chan struct{})
	var trouble sync.WaitGroup
	trouble.Go(func() {
		rng := rand.New(rand.NewPCG(1, 1))
		var names []string
		for name := range w.nodes {
			names = append(names, name)
		}
		slices.Sort(names)
		for {
			node := w.nodes[names[rng.IntN(len(names))]]
			switch rng.IntN(2) {
			case 0:
				node.Kill()
			case 1:
				node.KillAfter(rng.Int64N(200000))
			}
			for range 20 + rng.IntN(40) { // as long as some requests take
				select {
				case <-stop:
					node.Revive()
					w.fleet.Refresh(t.Context())
					return
				default:
					w.do(call{method: "GET", path: "/alice/public"})
				}
			}
			node.Revive()
			w.fleet.Refresh(t.Context())
		}
	})
	type state struct{ acknowledged, possible []string } // "" stands for no object
	final := make([]map[string]*state, 4)
	var workers sync.WaitGroup
	for i := range final {
		final[i] = map[string]*state{}
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 2))
			for n := range rounds {
				path := fmt.Sprintf("/alice/stor/%d-%d", i, rng.IntN(4))
				s := final[i][path]
				if s == nil {
					s = &state{acknowledged: []string{""}}
					final[i][path] = s
				}
				allowed := append(slices.Clone(s.acknowledged), s.possible...)
				switch rng.IntN(4) {
				case 0, 1:
					body := strings.Repeat(fmt.Sprintf("%d-%d;", i, n), 1+rng.IntN(30000))
					header := []string{}
					if rng.IntN(3) == 0 {
						header = append(header, "Transfer-Encoding: chunked")
					}
					a := w.do(call{as: "alice", method: "PUT", path: path, body: body, header: header})
					switch {
					case a.StatusCode == 204:
						s.acknowledged, s.possible = []string{body}, nil
					case a.StatusCode < 500:
						t.Errorf("PUT %s: %d %s", path, a.StatusCode, a.body)
					default:
						s.possible = append(s.possible, body)
					}
				case 2:
					a := w.do(call{as: "alice", method: "GET", path: path})
					switch {
					case a.StatusCode == 200 && int64(len(a.body)) < a.ContentLength: // broken off, and the client sees that
					case a.StatusCode == 200 && !slices.Contains(allowed, a.body), a.StatusCode == 404 && !slices.Contains(allowed, ""):
						t.Errorf("GET %s: %d, %d bytes that nobody stored last", path, a.StatusCode, len(a.body))
					}
				case 3:
					a := w.do(call{as: "alice", method: "DELETE", path: path})
					switch {
					case a.StatusCode == 204, a.StatusCode == 404 && slices.Contains(allowed, ""):
						s.acknowledged, s.possible = []string{""}, nil
					default:
						t.Errorf("DELETE %s: %d %s", path, a.StatusCode, a.body)
					}
				}
			}
		})
	}
	workers.Wait()
	close(stop)
	trouble.Wait()
	for _, node := range w.nodes {
		node.Revive()
	}
	if err := w.fleet.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, keys := range final {
		for path, s := range keys {
			a := w.do(call{as: "alice", method: "GET", path: path})
			allowed := append(slices.Clone(s.acknowledged), s.possible...)
			got := a.body
			if a.StatusCode == 404 {
				got = ""
			}
			if a.StatusCode != 200 && a.StatusCode != 404 || !slices.Contains(allowed, got) {
				t.Errorf("in the end %s is %d, %d bytes that nobody stored last", path, a.StatusCode, len(a.body))
			}
		}
	}
	m := w.storage.Metrics()
	if m.Replaced == 0 && m.Failovers == 0 && m.UploadsFailed == 0 {
		t.Errorf("no trouble was met: %+v", m)
	}
}
