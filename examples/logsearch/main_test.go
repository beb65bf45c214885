package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/jobs/jobstest"
)

func TestMain(m *testing.M) { os.Exit(jobstest.Main(m)) }

func TestRun(t *testing.T) {
	c := jobstest.Client(t)
	logs := made(3, 3, 20)
	for _, tt := range []struct {
		expr  string
		hours int
	}{
		{"ERROR", 24}, {"T(07|11):.*WARN.*(disk|it's)", 2}, {"nothing has this", 0}, {"'", 0}, {"-e", 0},
	} {
		var out bytes.Buffer
		s := search{c: c, dir: "~~/stor/examples-logsearch"}
		if err := s.run(t.Context(), logs, tt.expr, &out); err != nil {
			t.Errorf("%s: %v", tt.expr, err)
			continue
		}
		if n := strings.Count(out.String(), "2026-03-01T"); n != tt.hours {
			t.Errorf("%s: %d hours in %s, want %d", tt.expr, n, out.String(), tt.hours)
		}
		if _, err := c.HeadObject(t.Context(), &client.HeadObjectInput{Path: s.dir}); err == nil {
			t.Error("something was left in the store")
		}
	}
	if err := (search{c: c}).run(t.Context(), logs, "(", nil); err == nil {
		t.Error("an expression that is none was taken")
	}
}
