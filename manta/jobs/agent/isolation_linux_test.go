package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// leave puts a secret everywhere where a task can put something, and stays for a while.
const leave = `
for f in /tmp/x /var/tmp/x /root/x /etc/x /dev/shm/x /run/x /assets/x /opt/x /x; do echo SECRET-OF-ALICE > $f; done
setsid sleep 1111 & setsid perl -MIO::Socket -e '$s = IO::Socket::INET->new(Listen => 5, LocalAddr => "0.0.0.0:7777") or die; sleep 1000' SECRET-OF-ALICE &
ipcmk -M 4096 > /dev/null; echo export LEAK=SECRET-OF-ALICE >> /etc/profile
echo here; sleep "$1"`

// look finds what others left or have. The last line is there to show that looking works.
const look = `
grep -rs SECRET-OF-ALICE / --exclude-dir=proc --exclude-dir=usr --exclude-dir=sys -l
ps axww -o args= | grep -E 'SECRET|sleep 1111' | grep -v grep
cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -E 'alice|SECRET'
(exec 3<>/dev/tcp/127.0.0.1/7777) 2>/dev/null && echo connected
tail -n +2 /proc/sysvipc/shm
find /manta -type f | grep alice
ls -d /run/mobula* /var/lib/mobula* 2>/dev/null
curl -s -o /dev/null -w '%{http_code}\n' ${MANTA_URL}alice/stor/secret
curl -s ${MANTA_URL}bob/stor/in`

// TestIsolation looks for one owner's things in another's tasks: at the same time, and in the zone that was used, after it was reset.
func TestIsolation(t *testing.T) {
	for _, zones := range []int{1, 3} {
		w := newWorld(t, func(c *Config) { c.Zones = zones })
		s := w.connect("sup")
		secret := w.put("alice", "/alice/stor/secret", "SECRET-OF-ALICE\n")
		in := w.put("bob", "/bob/stor/in", "mine\n")
		stay := "10"
		if zones == 1 {
			stay = "0"
		}
		alice := s.open("alice", jobs.Phase{Exec: strings.ReplaceAll(leave, `"$1"`, stay)})
		bob := s.open("bob", jobs.Phase{Exec: look})
		left := s.start(alice, 0, secret)
		if zones == 1 {
			if got := s.output("alice", left); got != "here\n" {
				t.Fatalf("printed %q", got)
			}
			s.send(task.Order{Shut: alice})
		} else {
			time.Sleep(time.Second)
		}
		if got := s.output("bob", s.start(bob, 0, in)); got != "403\nmine\n" {
			t.Errorf("with %d zones another owner's task found\n%s", zones, got)
		}
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	}
}

// TestSameGroupShares: tasks of one phase share their zone, and files that they leave, but no processes.
func TestSameGroupShares(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Zones = 1 })
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/in", "x")
	job := s.open("alice", jobs.Phase{Exec: "ls /var/tmp; touch /var/tmp/was-here; pgrep -c sleep; sleep 1000 & sleep 0.2", Init: "echo x >> /var/tmp/inits"})
	for i, want := range []string{"inits\n0\n", "inits\nwas-here\n0\n"} {
		if got := s.output("alice", s.start(job, 0, in)); got != want {
			t.Errorf("task %d found %q, want %q", i, got, want)
		}
	}
	if n := w.agent.Metrics().Inits; n != 1 {
		t.Errorf("%d inits", n)
	}
}

// leftovers are all things on this host that belong to an agent on a directory.
func leftovers(t *testing.T, dir string) string {
	var found []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	run := runDir(dir)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, run) || strings.Contains(line, dir+"/") {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	if _, err := os.Stat(run); err == nil {
		found = append(found, run)
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/mobula-jobs-" + filepath.Base(run))
	found = append(found, groups...)
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, l := range loops {
		if b, _ := os.ReadFile(l); bytes.HasPrefix(b, []byte(dir)) {
			found = append(found, l)
		}
	}
	return strings.Join(found, "\n")
}

// TestMain also is the process that TestKilled kills.
func TestMain(m *testing.M) {
	if conf := os.Getenv("MOBULA_AGENT_CHILD"); conf != "" {
		child(conf)
		return
	}
	os.Exit(m.Run())
}

type childConfig struct {
	Dir, URL string
	Open     task.Open
}

// child runs an agent with a task that does not end, and says so.
func child(conf string) {
	var c childConfig
	if err := json.Unmarshal([]byte(conf), &c); err != nil {
		panic(err)
	}
	a, err := Open(context.Background(), Config{Name: "child", Front: newFront(), FrontURL: c.URL, Dir: c.Dir, Zones: 3, FirstID: 1<<29 + 1<<28})
	if err != nil {
		panic(err)
	}
	go a.Run(context.Background())
	s, err := a.Connect(context.Background(), "sup")
	if err != nil {
		panic(err)
	}
	orders := []task.Order{{Open: &c.Open}}
	for i := range 2 {
		orders = append(orders, task.Order{Start: &task.Start{Job: c.Open.Job, Task: string(rune('a' + i)), Phase: i, Input: &task.Input{Path: "/alice/stor/empty"}}})
	}
	if err := s.Send(context.Background(), orders...); err != nil {
		panic(err)
	}
	for a.Metrics().ZonesBusy < 2 {
		time.Sleep(time.Millisecond)
	}
	os.Stdout.WriteString("up\n")
	select {}
}

// TestKilled kills an agent's process while tasks run. The next one clears everything away and works; its end leaves nothing.
func TestKilled(t *testing.T) {
	w := storeWorld(t)
	dir := filepath.Join(w.dir, "agent")
	conf, err := json.Marshal(childConfig{dir, w.url, task.Open{Job: "00000000-0000-4000-8000-000000000001", Assigned: 1, Owner: w.uuids["alice"], Login: "alice", Token: w.tokens["alice"],
		Phases: []jobs.Phase{{Type: jobs.Map, Exec: "sleep 4242"}, {Type: jobs.Map, Exec: "while :; do :; done # 4242"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "MOBULA_AGENT_CHILD="+string(conf))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, _ := bufio.NewReader(out).ReadString('\n')
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if line != "up\n" {
			t.Fatalf("round %d: the agent printed %q", round, line)
		}
	}
	if leftovers(t, dir) == "" {
		t.Fatal("the test sees nothing of what was left")
	}
	w.startAgent(nil)
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/in", "hello\n")
	job := s.open("alice", jobs.Phase{Exec: "cat; pgrep -f 4242"}, jobs.Phase{Exec: "cat"})
	if got := s.output("alice", s.start(job, 1, in)); got != "hello\n" {
		t.Errorf("printed %q", got)
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	if left := leftovers(t, dir); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// TestZoneDies: the end of a zone under a task is no fault of the task's, and its neighbours go on.
func TestZoneDies(t *testing.T) {
	w := newWorld(t, nil)
	s := w.connect("sup")
	in := w.put("alice", "/alice/stor/in", "hello\n")
	job := s.open("alice", jobs.Phase{Exec: "echo $$ > /var/tmp/on; sleep 1000"}, jobs.Phase{Exec: "sleep 1; cat"})
	id, beside := s.start(job, 0, in), s.start(job, 1, in)
	killed := 0
	for killed == 0 {
		out, _ := exec.Command("pgrep", "-f", "^sleep 1000$").Output()
		for pid := range strings.FieldsSeq(string(out)) {
			// Its first process, by the way of its bash.
			group, _ := os.ReadFile("/proc/" + pid + "/cgroup")
			if !strings.Contains(string(group), "mobula-jobs-"+filepath.Base(runDir(filepath.Join(w.dir, "agent")))) {
				continue
			}
			for p := pid; p != "1" && p != ""; {
				stat, err := os.ReadFile("/proc/" + p + "/status")
				if err != nil {
					break
				}
				if ns := field(stat, "NSpid:"); len(ns) == 2 && ns[1] == "1" {
					n, _ := strconv.Atoi(p)
					if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
					killed++
					break
				}
				p = field(stat, "PPid:")[0]
			}
		}
	}
	if d := s.wait(id); d.Failure == nil || !d.System || d.Failure.Message != "internal error" || d.Failure.Code != jobs.CodeInternal {
		t.Errorf("the task ended with %+v", d.Failure)
	}
	if got := s.output("alice", beside); got != "hello\n" {
		t.Errorf("the neighbour printed %q", got)
	}
	if got := s.output("alice", s.start(job, 1, in)); got != "hello\n" {
		t.Errorf("afterwards it printed %q", got)
	}
}

// field is the values of a line of /proc's status.
func field(status []byte, name string) []string {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Fields(rest)
		}
	}
	return []string{""}
}
