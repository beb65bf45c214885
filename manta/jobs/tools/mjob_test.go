package tools_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/manta/jobs/jobstest"
)

func TestMain(m *testing.M) { os.Exit(jobstest.Main(m)) }

// A shell runs the programs as processes, as an account of a cloud with jobs.
type shell struct {
	t   *testing.T
	env []string
	bin string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	c := jobstest.New(t)
	c.Account("alice")
	s := &shell{t: t, bin: t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mjob", "mput", "mget", "mls", "mfind", "mmkdir", "mpipe"} {
		if err := os.Symlink(self, filepath.Join(s.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	env := c.Environ("alice")
	env["PATH"] = s.bin + ":" + os.Getenv("PATH")
	for k, v := range maps.All(env) {
		s.env = append(s.env, k+"="+v)
	}
	return s
}

func (s *shell) run(script string) (code int, out, errs string) {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(s.t.Context(), "bash", "-c", script)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), stdout.String(), stderr.String()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return 0, stdout.String(), stderr.String()
}

func (s *shell) want(code int, out, part, script string) {
	s.t.Helper()
	c, o, e := s.run(script)
	if c != code || !regexp.MustCompile("^"+out+"$").MatchString(o) || !strings.Contains(e, part) || part == "" && e != "" {
		s.t.Errorf("%s = %d\nstdout %q, want %q\nstderr %q, want %q and %d", script, c, o, out, e, part, code)
	}
}

const jobID = `[0-9a-f]{8}-[0-9a-f-]{27}\n`

func TestMjob(t *testing.T) {
	s := newShell(t)
	s.want(0, "", "", `mmkdir ~~/stor/logs; for i in 1 2 3; do seq $((i * 10)) | mput ~~/stor/logs/$i; done`)
	s.want(0, "60\n", "added 3 inputs to ", `mfind -t o ~~/stor/logs | mjob create -o -m 'wc -l' -r "awk '{n += \$1} END {print n}'"`)
	s.want(0, "60\n", "", `mfind -t o ~~/stor/logs | mjob create -qo wc -l ^^ 'awk "{n += \$1} END {print n}"'`)
	s.want(0, "", "", `mjob list -s running`)

	s.want(0, jobID, "warning: input stream left open", `script -qec 'mjob create --name one -m cat' /dev/null </dev/null | tr -d '\r' >&2; mjob list -n one`)
	s.want(0, jobID, "added 1 input to", `job=$(mjob list -n one); echo ~~/stor/logs/1 | mjob addinputs -o $job; mjob list -s running`)
	s.want(0, "/alice/stor/logs/1\n", "", `mjob inputs $(mjob list -n one)`)
	s.want(0, "", "", `mjob close $(mjob list -n one); mjob watch $(mjob list -n one)`)
	s.want(1, "", "InvalidJobStateError", `echo x | mjob addinputs $(mjob list -n one)`)
	s.want(1, "", "InvalidJobStateError", `mjob cancel $(mjob list -n one)`)
	s.want(0, "10\n", "", `mget $(mjob outputs $(mjob list -n one)) | tail -1`)
	s.want(0, `\{"id":".*"name":"one","state":"done","cancelled":false,"inputDone":true.*"tasksDone":1.*\n`, "", `mjob get $(mjob list -n one)`)

	s.want(1, "", "had 2 errors", `printf '%s\n' ~~/stor/logs/1 ~~/stor/none ~~/stor/logs/2 | mjob create --name bad -q -o -m 'test $(tail -1) = 20 || exit 7'`)
	s.want(0, "7 /alice/stor/logs/1\n", "", `mjob errors $(mjob list -n bad) | jq -r 'select(.code == "UserTaskError") | (.message | split(" ") | last) + " " + .input'`)
	s.want(0, "/alice/stor/logs/1\n/alice/stor/none\n", "", `mjob failures $(mjob list -n bad) | sort`)
	s.want(0, "true\n", "", `job=$(mjob create -m cat --open -q </dev/null); mjob cancel $job; mjob watch $job; mjob get $job | jq .cancelled`)

	s.want(1, "", "must be specified", `mjob create </dev/null`)
	s.want(1, "", "must be specified", `mjob get`)
	s.want(1, "", "cannot use -m/-r along", `mjob create -m a b </dev/null`)
	s.want(1, "", "InvalidJobError", `mjob create --memory 1 -m a </dev/null`)
	s.want(1, "", "not a positive number", `mjob create --memory x -m a </dev/null`)
	s.want(1, "", "ResourceNotFoundError", `mjob get 3ec32136-b125-11e2-8487-1b418dd6974b`)
	s.want(1, "", "is not here", `mjob share x`)
	s.want(1, "", "unknown command", `mjob fly`)
	s.want(0, "(?s)usage: mjob COMMAND.*", "", `mjob help`)
	s.want(0, "(?s)usage: mjob create.*--cat-outputs.*", "", `mjob create --help`)
}

func TestMjob_definition(t *testing.T) {
	s := newShell(t)
	file := filepath.Join(t.TempDir(), "job.json")
	if err := os.WriteFile(file, []byte(`{"name": "f", "phases": [{"exec": "grep x"}, {"type": "reduce", "exec": "wc", "count": 2}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, want string }{
		{"--asset ~~/stor/a -s /b/c --init i --memory 512 --disk 4 --image '*' -m m --count 3 -r r -n x",
			`{"name":"x","phases":[{"type":"map","exec":"m","init":"i","assets":["~~/stor/a","/b/c"],"memory":512,"disk":4,"image":"*"},{"type":"reduce","exec":"r","count":3}]}`},
		{"--count 2 -m m", `{"name":"","phases":[{"type":"map","exec":"m"}]}`},
		{"grep foo ^^ sort '|' uniq -c", `{"name":"","phases":[{"type":"map","exec":"grep foo"},{"type":"reduce","exec":"sort | uniq -c"}]}`},
		{"^^^^ a ^ b", `{"name":"","phases":[{"type":"reduce","exec":"a","count":2},{"type":"map","exec":"b"}]}`},
		{"--memory 256 a ^^ b", `{"name":"","phases":[{"type":"map","exec":"a","memory":256},{"type":"reduce","exec":"b","memory":256}]}`},
		{"-f " + file, `{"name":"f","phases":[{"exec":"grep x"},{"type":"reduce","exec":"wc","count":2}]}`},
	} {
		code, out, errs := s.run("mjob create --dry-run " + tt.args + " | jq -c .")
		if code != 0 || strings.TrimSpace(out) != tt.want {
			t.Errorf("mjob create %s = %d %s %s\nwant %s", tt.args, code, out, errs, tt.want)
		}
	}
	s.want(1, "", "no such file", "mjob create --dry-run -f /nowhere")
}
