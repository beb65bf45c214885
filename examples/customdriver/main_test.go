//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
)

func TestRun(t *testing.T) {
	testenv.NeedRoot(t)
	var out, log bytes.Buffer
	if err := run(t.Context(), t.TempDir(), &out, &log); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), log.String())
	}
	if out.String() != "hello from zone 0\n" {
		t.Errorf("printed %q", out.String())
	}
	for _, want := range []string{": ok in ", `exec ["sh"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the driver wrote %q, want %q in it", log.String(), want)
		}
	}
}
