//go:build linux

package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
)

// childJob is what a child process of the tests is to do: one verb, dying by SIGKILL at a step.
type childJob struct {
	Dir     string
	Btrfs   bool
	Network bool
	Verb    string
	ID      string
	DieAt   int // 0: live
	File    string
	Random  uint64 // verbs at random until killed
}

func TestMain(m *testing.M) {
	if j := os.Getenv("MOBULA_HOST_CHILD"); j != "" {
		os.Exit(child(j))
	}
	os.Exit(m.Run())
}

func child(j string) int {
	var job childJob
	if err := json.Unmarshal([]byte(j), &job); err != nil {
		fmt.Println(err)
		return 2
	}
	ctx := context.Background()
	o, err := lab{dir: job.Dir, btrfs: job.Btrfs, network: job.Network}.open(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println("open:", err)
		return 2
	}
	defer o.close()
	var n atomic.Int64
	o.step = func(string) {
		if int(n.Add(1)) == job.DieAt {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if job.Random != 0 {
		randomVerbs(ctx, o, rand.New(rand.NewPCG(job.Random, 1)), job)
		return 0
	}
	if err := verb(ctx, o, job); err != nil {
		fmt.Println(job.Verb+":", err)
		return 2
	}
	return 0
}

func verb(ctx context.Context, o *opened, job childJob) error {
	switch job.Verb {
	case "create":
		s, err := zones.ParseSpec([]byte(`{"brand":"joyent-minimal","image_uuid":"sparse","max_physical_memory":64,"uuid":"` + job.ID + `"}`))
		if err == nil {
			_, err = o.Create(ctx, s)
		}
		return err
	case "start":
		return o.Start(ctx, job.ID, StartOptions{})
	case "stop":
		return o.Stop(ctx, job.ID, StopOptions{})
	case "reboot":
		return o.Reboot(ctx, job.ID, StopOptions{})
	case "delete":
		return o.Delete(ctx, job.ID)
	case "update":
		_, err := o.Update(ctx, job.ID, []byte(`{"max_physical_memory":96,"set_tags":{"a":"b"},"cpu_cap":50}`))
		return err
	case "snapshot":
		return o.CreateSnapshot(ctx, job.ID, "new")
	case "delete-snapshot":
		return o.DeleteSnapshot(ctx, job.ID, "old")
	case "rollback":
		return o.RollbackSnapshot(ctx, job.ID, "old")
	case "reprovision":
		return o.Reprovision(ctx, job.ID, "sparse")
	case "send":
		f, err := os.Create(job.File)
		if err != nil {
			return err
		}
		defer f.Close()
		return o.Send(ctx, job.ID, f, SendOptions{})
	case "receive":
		f, err := os.Open(job.File)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = o.Receive(ctx, f)
		return err
	}
	return errors.New("unknown verb")
}

// spawn runs a child and reports whether it was killed.
func (j childJob) spawn(t *testing.T, after time.Duration) (killed bool) {
	t.Helper()
	b, _ := json.Marshal(j)
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "MOBULA_HOST_CHILD="+string(b))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	// Zones that it starts may keep its output open.
	c.WaitDelay = 100 * time.Millisecond
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if after > 0 {
		defer time.AfterFunc(after, func() { c.Process.Kill() }).Stop()
	}
	err := c.Wait()
	if st, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return true
	}
	if c.ProcessState.ExitCode() != 0 {
		t.Fatalf("child %s: %v: %s", j.Verb, err, out.String())
	}
	return false
}

// crashCase is a verb with a zone in the state it starts from, and what may be true after a crash.
type crashCase struct {
	verb    string
	running bool // the zone runs before
	absent  bool // the zone is not there before
	// check says whether the zone is as before or as asked; file is the content of /root/f.
	check func(z *zones.Zone, file string) bool
}

func fileIs(want ...string) func(*zones.Zone, string) bool {
	return func(_ *zones.Zone, f string) bool { return slices.Contains(want, f) }
}

var crashCases = []crashCase{
	{verb: "create", absent: true, check: func(z *zones.Zone, _ string) bool { return z == nil || z.State == zones.StateRunning }},
	{verb: "start", check: func(z *zones.Zone, f string) bool { return z != nil && f == "new" }},
	{verb: "stop", running: true, check: func(z *zones.Zone, f string) bool { return z != nil && f == "new" }},
	{verb: "reboot", running: true, check: func(z *zones.Zone, f string) bool { return z != nil && z.State == zones.StateRunning && f == "new" }},
	{verb: "delete", running: true, check: func(z *zones.Zone, f string) bool {
		return z == nil || z.State == zones.StateRunning && f == "new"
	}},
	{verb: "update", running: true, check: func(z *zones.Zone, f string) bool {
		asked := z.MaxPhysicalMemory == 96 && z.Tags["a"] == "b" && z.CPUCap == 50
		before := z.MaxPhysicalMemory == 64 && len(z.Tags) == 0 && z.CPUCap == 0
		return z.State == zones.StateRunning && (asked || before)
	}},
	{verb: "snapshot", check: func(z *zones.Zone, f string) bool {
		return f == "new" && (len(z.Snapshots) == 1 || len(z.Snapshots) == 2)
	}},
	{verb: "delete-snapshot", check: func(z *zones.Zone, f string) bool { return f == "new" && len(z.Snapshots) <= 1 }},
	{verb: "rollback", running: true, check: func(z *zones.Zone, f string) bool {
		return z.State == zones.StateRunning && (f == "old" || f == "new") && len(z.Snapshots) == 1
	}},
	{verb: "reprovision", running: true, check: func(z *zones.Zone, f string) bool {
		return z.State == zones.StateRunning && (f == "" && len(z.Snapshots) == 0 || f == "new" && len(z.Snapshots) == 1)
	}},
	{verb: "send", check: fileIs("new")},
	{verb: "receive", absent: true, check: func(z *zones.Zone, f string) bool { return z == nil || f == "new" }},
}

// A process that is killed at any step of any verb leaves what the next Open settles: the zone is as before or as asked, nothing leaks,
// and another zone that runs has noticed nothing. By default a few steps of each verb; MOBULA_LONG=1 takes all.
func TestKilledAtEveryStep(t *testing.T) {
	l := newLab(t, lab{})
	ctx := t.Context()
	o, err := l.open(ctx, l.logger(t))
	if err != nil {
		t.Fatal(err)
	}
	bystander, err := o.Create(ctx, spec(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	prepared := l.dir + "/prepared"
	makeZone(t, o, "5e5e5e5e-0000-4000-8000-000000000000", crashCase{})
	if err := verb(ctx, o, childJob{Verb: "send", ID: "5e5e5e5e-0000-4000-8000-000000000000", File: prepared}); err != nil {
		t.Fatal(err)
	}
	if err := o.Delete(ctx, "5e5e5e5e-0000-4000-8000-000000000000"); err != nil {
		t.Fatal(err)
	}
	o.close()
	for _, c := range crashCases {
		t.Run(c.verb, func(t *testing.T) {
			for step := 1; ; step++ {
				o := mustOpen(t, l)
				id := fmt.Sprintf("c0c0c0c0-0000-4000-8000-%012d", step)
				job := childJob{Dir: l.dir, Verb: c.verb, ID: id, DieAt: step, File: l.dir + "/sent"}
				if c.verb == "receive" {
					job.ID, job.File = "5e5e5e5e-0000-4000-8000-000000000000", prepared
				}
				if !c.absent {
					makeZone(t, o, id, c)
				}
				o.close()
				killed := job.spawn(t, 0)
				o = mustOpen(t, l)
				checkZone(t, o, c, job.ID, step)
				if z, err := o.Get(ctx, bystander.UUID); err != nil || z.PID != bystander.PID {
					t.Errorf("step %d: the other zone: %+v, %v", step, z, err)
				}
				if err := o.Delete(ctx, job.ID); err != nil && !errors.Is(err, zones.ErrNotExist) {
					t.Fatal(err)
				}
				clean(t, l, o, bystander.UUID)
				o.close()
				if !killed {
					t.Logf("%s has %d steps", c.verb, step-1)
					break
				}
				if !testenv.Long() {
					step += rand.IntN(8)
				}
			}
		})
	}
}

func mustOpen(t *testing.T, l lab) *opened {
	t.Helper()
	o, err := l.open(t.Context(), l.logger(t))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// makeZone makes a zone with a file /root/f that says "new", and a snapshot "old" in which it says "old".
func makeZone(t *testing.T, o *opened, id string, c crashCase) {
	t.Helper()
	ctx := t.Context()
	s := spec(t, `"autoboot":false,"uuid":"`+id+`"`)
	if _, err := o.Create(ctx, s); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"old", "new"} {
		z, err := o.acquire(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		err = z.inRoot(ctx, func(r *os.Root) error { return r.WriteFile("root/f", []byte(body), 0o644) })
		z.unlock()
		if err == nil && body == "old" {
			err = o.CreateSnapshot(ctx, id, "old")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if c.running {
		if err := o.Start(ctx, id, StartOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func checkZone(t *testing.T, o *opened, c crashCase, id string, step int) {
	t.Helper()
	ctx := t.Context()
	z, err := o.Get(ctx, id)
	if errors.Is(err, zones.ErrNotExist) {
		if !c.check(nil, "") {
			t.Errorf("step %d: the zone is gone", step)
		}
		return
	}
	if err != nil {
		t.Fatalf("step %d: %v", step, err)
	}
	r, _ := o.load(id)
	if r.Op != nil {
		t.Errorf("step %d: %s is still under way", step, r.Op.Verb)
	}
	file := ""
	if z.State == zones.StateRunning {
		file = o.sh(t, id, "cat /root/f 2>/dev/null || true")
	} else {
		zz, err := o.acquire(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		err = zz.inRoot(ctx, func(r *os.Root) error {
			b, err := r.ReadFile("root/f")
			file = string(b)
			if errors.Is(err, os.ErrNotExist) {
				err = nil
			}
			return err
		})
		zz.unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	if !c.check(z, file) {
		t.Errorf("step %d: neither as before nor as asked: state %s, file %q, snapshots %v, memory %d", step, z.State, file, z.Snapshots, z.MaxPhysicalMemory)
	}
}
