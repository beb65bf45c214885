package agent

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// reduce starts a reducer with all of its inputs.
func (s *supervisor) reduce(job string, phase, index int, inputs ...*task.Input) string {
	s.t.Helper()
	id := uuid.NewString()
	s.send(task.Order{Start: &task.Start{Job: job, Phase: phase, Task: id, Reducer: index}})
	for _, in := range inputs {
		s.send(task.Order{Feed: &task.Feed{Task: id, Inputs: []task.Input{*in}}})
	}
	s.send(task.Order{Feed: &task.Feed{Task: id, End: true}})
	return id
}

// TestEnvironment compares all that a task could find of us in its environment.
func TestEnvironment(t *testing.T) {
	w := newWorld(t, nil)
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/obj 1", "x")
	const show = `env | egrep '^(MANTA_|HOME|DTRACE_|mc_)' | sort; pwd; id -un; echo $HOSTNAME; echo "$BASH_EXECUTION_STRING" | wc -l`
	job := s.open("alice", jobs.Phase{Exec: show, Init: "env | egrep '^(MANTA_|HOME|DTRACE_|mc_)' | sort > /var/tmp/env"}, jobs.Phase{Type: jobs.Reduce, Exec: show, Count: 2},
		jobs.Phase{Exec: "cat /var/tmp/env", Init: "env | egrep '^(MANTA_|HOME|DTRACE_|mc_)' | sort > /var/tmp/env"})
	base := "/alice/jobs/" + job + "/stor"
	common := "DTRACE_DOF_INIT_DISABLE=1\nHOME=/root\n"
	tests := []struct{ id, want string }{
		{s.start(job, 0, in), common + `MANTA_INPUT_FILE=/manta/alice/stor/obj 1
MANTA_INPUT_OBJECT=/alice/stor/obj 1
MANTA_JOB_ID=` + job + `
MANTA_NO_AUTH=true
MANTA_OUTPUT_BASE=` + base + `/alice/stor/obj 1.0.
MANTA_URL=http://localhost:80/
MANTA_USER=alice
mc_input_file=/manta/alice/stor/obj 1
mc_input_key=/alice/stor/obj 1
/
root
task
1`},
		{s.reduce(job, 1, 1), common + `MANTA_JOB_ID=` + job + `
MANTA_NO_AUTH=true
MANTA_OUTPUT_BASE=` + base + `/reduce.1.
MANTA_REDUCER=1
MANTA_URL=http://localhost:80/
MANTA_USER=alice
/
root
task
1`},
		{s.start(job, 2, in), common + `MANTA_JOB_ID=` + job + `
MANTA_NO_AUTH=true
MANTA_OUTPUT_BASE=` + base + `/alice/stor/obj 1.2.
MANTA_URL=http://localhost:80/
MANTA_USER=alice`},
	}
	for i, tt := range tests {
		if got := strings.TrimSpace(s.output("alice", tt.id)); got != tt.want {
			t.Errorf("phase %d printed\n%s\nwant\n%s", i, got, tt.want)
		}
		if e := s.emits[tt.id][0]; !strings.HasPrefix(e.Path, base) || !strings.HasSuffix(e.Path, fmt.Sprintf(".%d.%s", i, tt.id)) || e.Reducer != -1 {
			t.Errorf("phase %d gave out %+v", i, e)
		}
	}
}

func TestReduce(t *testing.T) {
	w := newWorld(t, nil)
	s := w.connect("sup")
	var inputs []*task.Input
	want := ""
	for i := range 40 {
		body := fmt.Sprintf("object %d\n", i)
		if i%10 == 3 {
			body = strings.Repeat(body, 200_000) // files of the node, longer than a buffer
		}
		if i == 5 {
			body = ""
		}
		inputs = append(inputs, w.put("alice", fmt.Sprintf("/alice/stor/o%d", i), body))
		want += body
	}
	inputs[7].Copies = nil // through the front door
	inputs[13].Copies = []string{"elsewhere"}
	job := s.open("alice", jobs.Phase{Type: jobs.Reduce, Exec: "wc"}, jobs.Phase{Type: jobs.Reduce, Exec: "cat"}, jobs.Phase{Type: jobs.Reduce, Exec: "head -c 3"})
	if got := s.output("alice", s.reduce(job, 0, 0)); got != "      0       0       0\n" {
		t.Errorf("wc of nothing printed %q", got)
	}
	if got := s.output("alice", s.reduce(job, 1, 0, inputs...)); got != want {
		t.Errorf("cat gave %d bytes, want %d", len(got), len(want))
	}
	if got := s.output("alice", s.reduce(job, 2, 0, inputs...)); got != "obj" {
		t.Errorf("head gave %q", got)
	}
	gone := *inputs[1]
	gone.Path, gone.Copies = "/alice/stor/gone", nil
	f := s.failure(s.reduce(job, 1, 0, inputs[0], &gone))
	if f.Code != jobs.CodeServiceUnavailable || !strings.HasPrefix(f.Message, "error fetching inputs") || s.done[f.Task].System {
		t.Errorf("a missing input: %+v", f)
	}
}

// TestFailures is what a task's end is called, each with its neighbour in the same zone afterwards.
func TestFailures(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MemoryStock = 4 << 30 })
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/in", "hello\n")
	w.put("alice", "/alice/stor/asset.sh", "echo from the asset: $1\n")
	tests := []struct {
		name  string
		phase jobs.Phase
		code  string
		want  string // of the message
		out   string // when there is no error
		err   string // of stderr
		core  bool
	}{
		{name: "code", phase: jobs.Phase{Exec: "echo oops >&2; exit 7"}, code: jobs.CodeUserTask, want: "user command exited with code 7", err: "oops\n"},
		{name: "signal", phase: jobs.Phase{Exec: "kill -TERM $$"}, code: jobs.CodeUserTask, want: "user command terminated by SIGTERM"},
		{name: "core", phase: jobs.Phase{Exec: "kill -SEGV $$; sleep 1"}, code: jobs.CodeUserTask, want: "user command or child process dumped core", core: true},
		{name: "core of a child", phase: jobs.Phase{Exec: "bash -c 'kill -ABRT $$' ; true"}, code: jobs.CodeUserTask, want: "user command or child process dumped core", core: true, err: "bash: line 1:"},
		{name: "not a program", phase: jobs.Phase{Exec: "nonesuch"}, code: jobs.CodeUserTask, want: "user command exited with code 127", err: "bash: line 1: nonesuch: command not found\n"},
		{name: "asset", phase: jobs.Phase{Exec: "/assets/alice/stor/asset.sh 1; stat -c %A /assets/alice/stor/asset.sh", Assets: []string{"/alice/stor/asset.sh"}}, out: "from the asset: 1\n-rwxr-xr-x\n"},
		{name: "no asset", phase: jobs.Phase{Exec: "wc", Assets: []string{"/alice/stor/none"}}, code: jobs.CodeTaskInit,
			want: `failed to dispatch task: first of 1 error: error retrieving asset "/alice/stor/none" (status code 404)`},
		{name: "init", phase: jobs.Phase{Exec: "cat /tmp/ready", Init: "echo ready > /tmp/ready; echo discarded"}, out: "ready\n"},
		{name: "init fails", phase: jobs.Phase{Exec: "wc", Init: "exit 4"}, code: jobs.CodeTaskInit, want: "user command exited with code 4"},
		{name: "memory", phase: jobs.Phase{Exec: "exec perl -e '$x = \"x\" x (1<<29)'", Memory: 128}, code: jobs.CodeUserTask, want: "user task ran out of memory"},
		{name: "memory of a child", phase: jobs.Phase{Exec: "perl -e '$x = \"x\" x (1<<29)'; false", Memory: 128}, code: jobs.CodeUserTask,
			want: "user command exited with code 1 (WARNING: ran out of memory during execution)", err: "bash: line 1:"},
		{name: "memory of a child that is not missed", phase: jobs.Phase{Exec: "perl -e '$x = \"x\" x (1<<29)' 2>/dev/null; echo fine", Memory: 128}, out: "fine\n"},
		{name: "more memory", phase: jobs.Phase{Exec: "perl -e '$x = \"x\" x (1<<27); print length $x'", Memory: 4096}, out: "134217728"},
		{name: "too much memory", phase: jobs.Phase{Exec: "wc", Memory: 8192}, code: jobs.CodeTaskInit, want: "failed to dispatch task: not enough memory available"},
		{name: "image", phase: jobs.Phase{Exec: "wc", Image: ">=17.0.0"}, code: jobs.CodeInvalidArgument, want: "failed to dispatch task: requested image is not available"},
		{name: "closed stdout", phase: jobs.Phase{Exec: "exec >&-; echo lost; sleep 0.1"}, out: ""},
		{name: "left behind", phase: jobs.Phase{Exec: "sleep 1000 & (setsid sleep 1000 & ); echo on"}, out: "on\n"},
		{name: "no mounts", phase: jobs.Phase{Exec: "mount -t tmpfs x /mnt 2>&1 | grep -c -i 'permission denied'; ls -A /mnt; umount /manta 2>/dev/null || mv /manta /m 2>/dev/null || echo no"}, out: "1\nno\n"},
		{name: "read-only input", phase: jobs.Phase{Exec: "echo x > $MANTA_INPUT_FILE || touch /manta/new || echo x > /dev/stdin || cat $MANTA_INPUT_FILE 2>/dev/null"}, out: "hello\n", err: "x"},
		{name: "network", phase: jobs.Phase{Exec: "cat /proc/net/dev | tail -n +3 | cut -d: -f1; curl -s -o /dev/null -w '%{http_code}\\n' ${MANTA_URL}alice/stor/in; curl -s -m 2 http://127.0.0.1:8080/ || echo none"}, out: "    lo\n200\nnone\n"},
		{name: "aborted downloads", phase: jobs.Phase{Exec: "for i in $(seq 20); do curl -s ${MANTA_URL}alice/stor/in | true; done; echo survived"}, out: "survived\n"},
		{name: "told ok", phase: jobs.Phase{Exec: "echo lost; curl -s -X POST ${MANTA_URL}my/jobs/task/commit; sleep 100"}, out: "-"},
		{name: "told wrong", phase: jobs.Phase{Exec: "curl -s -X POST ${MANTA_URL}my/jobs/task/fail; sleep 100"}, code: jobs.CodeUserTask, want: "no message given"},
		{name: "explicit", phase: jobs.Phase{Exec: "echo lost; echo kept | curl -s -T - -H 'content-type: text/plain' -H 'x-manta-stream: stdout' ${MANTA_URL}alice/stor/explicit"}, out: "kept\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			job := s.open("alice", tt.phase, jobs.Phase{Exec: "cat"})
			begin := time.Now()
			id, after := s.start(job, 0, in), s.start(job, 1, in)
			d := s.wait(id)
			t.Logf("%v, %+v", time.Since(begin).Round(time.Millisecond), d.Usage)
			switch {
			case tt.code == "" && tt.out == "-":
				if d.Failure != nil || len(s.emits[id]) != 0 {
					t.Errorf("%+v, outputs %v", d.Failure, s.emits[id])
				}
			case tt.code == "":
				if got := s.output("alice", id); got != tt.out {
					t.Errorf("printed %q, want %q", got, tt.out)
				}
			case d.Failure == nil:
				t.Fatalf("went well, want %s", tt.want)
			default:
				f := d.Failure
				if f.Code != tt.code || f.Message != tt.want || d.System || f.Task != id {
					t.Errorf("failed by %+v, want %s", *f, tt.want)
				}
				if tt.err != "" && (f.Stderr == "" || !strings.HasPrefix(w.get("alice", f.Stderr), tt.err)) {
					t.Errorf("stderr is %q, want %q", f.Stderr, tt.err)
				}
				if tt.core {
					want := fmt.Sprintf(`^/alice/jobs/%s/stor/cores/0/core\.bash\.[0-9a-f-]{36}$`, job)
					if !regexp.MustCompile(want).MatchString(f.Core) || !strings.HasPrefix(w.get("alice", f.Core), "\x7fELF") {
						t.Errorf("core is %q", f.Core)
					}
				}
			}
			if got := s.output("alice", after); got != "hello\n" {
				t.Errorf("the neighbour printed %q", got)
			}
			s.send(task.Order{Shut: job})
		})
	}
}

// TestInitAborts: what waits behind a failed init fails with it.
func TestInitAborts(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Zones = 1 })
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/in", "hello\n")
	job := s.open("alice", jobs.Phase{Exec: "cat", Init: "sleep 0.5; exit 1"})
	var ids []string
	for range 5 {
		ids = append(ids, s.start(job, 0, in))
	}
	first, others := 0, 0
	for _, id := range ids {
		switch f := s.failure(id); f.Message {
		case "user command exited with code 1":
			first++
		case "task aborted because a previous task failed to initialize (see other errors for details)":
			others++
		default:
			t.Errorf("%+v", f)
		}
	}
	if first != 1 || others != 4 {
		t.Errorf("%d and %d", first, others)
	}
}

// TestDiskFull fills the smallest disk there is; package cell has the same with a small one.
func TestDiskFull(t *testing.T) {
	if !testenv.Long() {
		t.Skip("writes a gigabyte: set MOBULA_LONG=1")
	}
	w := newWorld(t, func(c *Config) { c.DiskStock = 1 << 40 })
	if !w.agent.zones.(realZones).Quotas() {
		t.Skip("no quotas here")
	}
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/in", "hello\n")
	job := s.open("alice", jobs.Phase{Exec: "head -c 1200M /dev/zero > /var/tmp/junk", Disk: 1}, jobs.Phase{Exec: "cat"})
	id, beside := s.start(job, 0, in), s.start(job, 1, in)
	if got := s.output("alice", beside); got != "hello\n" {
		t.Errorf("the neighbour printed %q", got)
	}
	if f := s.failure(id); f.Message != "user task ran out of local disk space" || f.Code != jobs.CodeUserTask {
		t.Errorf("failed by %+v", *f)
	}
}

// TestCancel ends what does not end by itself, each in well under a second.
func TestCancel(t *testing.T) {
	w := newWorld(t, nil)
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/in", "hello\n")
	for name, exec := range map[string]string{
		"loop":      "echo on; while :; do :; done",
		"fork bomb": "echo on; f() { f | f & }; f; sleep 1000",
		"deaf":      "trap '' TERM HUP INT; echo on; (trap '' TERM; sleep 1000) & sleep 1000; sleep 1000",
		"stopped":   "echo on; kill -STOP $$",
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			job := s.open("alice", jobs.Phase{Exec: exec}, jobs.Phase{Exec: "cat"})
			id := s.start(job, 0, in)
			time.Sleep(time.Second) // let it do its worst
			if got := s.output("alice", s.start(job, 1, in)); got != "hello\n" {
				t.Errorf("the neighbour printed %q", got)
			}
			w.agent.mu.Lock()
			over := w.agent.attempts[id].over
			w.agent.mu.Unlock()
			begin := time.Now()
			s.send(task.Order{Cancel: id})
			<-over
			if took := time.Since(begin); took > 3*time.Second { // it is milliseconds where nobody else keeps the processors busy
				t.Errorf("took %v to end", took)
			} else {
				t.Log("ended after", took)
			}
			if got := s.output("alice", s.start(job, 1, in)); got != "hello\n" {
				t.Errorf("afterwards the neighbour printed %q", got)
			}
			waiting := uuid.NewString() // a reducer whose input does not come
			reduce := s.open("alice", jobs.Phase{Type: jobs.Reduce, Exec: "cat"})
			s.send(task.Order{Start: &task.Start{Job: reduce, Task: waiting}})
			s.send(task.Order{Feed: &task.Feed{Task: waiting, Inputs: []task.Input{*in}}})
			begin = time.Now()
			s.send(task.Order{Shut: reduce}) // waits
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("a waiting reducer took %v to end", took)
			}
			if s.done[id] != nil {
				t.Errorf("a cancelled task was reported: %+v", s.done[id])
			}
			s.send(task.Order{Shut: job})
		})
	}
}

// TestBigStderr writes a lot there, a gigabyte in a long run, and goes well.
func TestBigStderr(t *testing.T) {
	size := "100M"
	if testenv.Long() {
		size = "1G"
	}
	w := newWorld(t, nil)
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/in", "hello\n")
	job := s.open("alice", jobs.Phase{Exec: "head -c " + size + " /dev/zero >&2; cat"}, jobs.Phase{Exec: "cat"})
	id := s.start(job, 0, in)
	if got := s.output("alice", s.start(job, 1, in)); got != "hello\n" {
		t.Errorf("the neighbour printed %q", got)
	}
	if got := s.output("alice", id); got != "hello\n" {
		t.Errorf("printed %q", got)
	}
}

// TestLongNames runs on objects whose names no file can have.
func TestLongNames(t *testing.T) {
	w := newWorld(t, nil)
	s := w.connect("sup")
	name := "/alice/stor/" + strings.Repeat("n", 300)
	in := w.put("alice", name, "hello\n")
	job := s.open("alice", jobs.Phase{Exec: `cat "$MANTA_INPUT_FILE"; echo "$MANTA_INPUT_FILE"; echo "$MANTA_INPUT_OBJECT"`}, jobs.Phase{Exec: "exit 1"})
	want := "hello\n/manta/alice/stor/" + strings.Repeat("n", 251) + "_...\n" + name + "\n"
	if got := s.output("alice", s.start(job, 0, in)); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if f := s.failure(s.start(job, 1, in)); f.Message != "user command exited with code 1"+warnUnusual {
		t.Errorf("failed by %q", f.Message)
	}
}

// TestWithoutShell: a command that needs no shell finds all as if there had been one, but for the variable _.
func TestWithoutShell(t *testing.T) {
	w := newWorld(t, nil)
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/in", "hello\n")
	job := s.open("alice", jobs.Phase{Exec: "env"}, jobs.Phase{Exec: "\\env"}, jobs.Phase{Exec: "nonesuch 'a b'"}, jobs.Phase{Exec: "/etc/passwd"}, jobs.Phase{Exec: "grep -c nothing"},
		jobs.Phase{Exec: "./script one", Init: "echo 'echo script $1' > /script; chmod 755 /script"})
	lines := func(text string) []string {
		list := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return strings.HasPrefix(l, "_=") }) // bash's word for the command's path
		slices.Sort(list)
		return list
	}
	plain := strings.ReplaceAll(s.output("alice", s.start(job, 0, in)), "/in.0.", "/in.1.")
	shell := s.output("alice", s.start(job, 1, in))
	if d := cmp.Diff(lines(shell), lines(plain)); d != "" {
		t.Errorf("by bash, and without:\n%s", d)
	}
	for i, want := range map[int]string{2: "127 bash: line 1: nonesuch: command not found\n", 3: "126 bash: line 1: /etc/passwd: Permission denied\n", 4: "1 "} {
		f := s.failure(s.start(job, i, in))
		text := strings.TrimPrefix(f.Message, "user command exited with code ") + " "
		if f.Stderr != "" {
			text += w.get("alice", f.Stderr)
		}
		if text != want {
			t.Errorf("phase %d failed with %q, want %q", i, text, want)
		}
	}
	if got := s.output("alice", s.start(job, 5, in)); got != "script one\n" {
		t.Errorf("a script without a first line printed %q", got)
	}
}
