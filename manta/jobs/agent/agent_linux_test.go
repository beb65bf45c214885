package agent

import (
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/manta/jobs"
)

func TestMap(t *testing.T) {
	w := newWorld(t, nil)
	s := w.connect("sup")
	small := w.put("alice", "/alice/stor/a b.txt", "one two\nthree\n")
	large := w.put("alice", "/alice/stor/large", strings.Repeat("0123456789abcde\n", 1<<16))
	empty := w.put("alice", "/alice/stor/empty", "")
	job := s.open("alice", jobs.Phase{Exec: "wc"}, jobs.Phase{Exec: `cmp "$MANTA_INPUT_FILE" /dev/stdin && ls -l $MANTA_INPUT_FILE`})
	for in, want := range map[string]string{small.Path: " 2  3 14\n", empty.Path: "0 0 0\n"} {
		if got := s.output("alice", s.start(job, 0, w.input("alice", in))); got != want {
			t.Errorf("wc of %s printed %q, want %q", in, got, want)
		}
	}
	if got := s.output("alice", s.start(job, 0, large)); got != "  65536   65536 1048576\n" {
		t.Errorf("wc of a large object printed %q", got)
	}
	t.Log(s.output("alice", s.start(job, 1, large)))
}
