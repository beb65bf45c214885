package agent

import (
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// BenchmarkSmallTasks is one job of grep -c on objects of 4 KiB; an operation is a task.
func BenchmarkSmallTasks(b *testing.B) {
	w := newWorld(b, nil)
	s := w.connect("sup")
	const objects = 64
	var inputs []*task.Input
	for i := range objects {
		inputs = append(inputs, w.put("alice", fmt.Sprintf("/alice/stor/o%d", i), strings.Repeat("a line with an x in it\n", 178)))
	}
	job := s.open("alice", jobs.Phase{Exec: "grep -c x"})
	s.output("alice", s.start(job, 0, inputs[0]))
	left, inZones := 0, int64(0)
	var before, after unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &before)
	receive := func() {
		list, err := s.stream.Receive(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range list {
			if r.Done != nil {
				left--
				inZones += r.Done.Usage.UserNS + r.Done.Usage.SystemNS
				if r.Done.Failure != nil {
					b.Fatalf("%+v", r.Done.Failure)
				}
			}
		}
	}
	n := 0
	for b.Loop() {
		for left >= 200 {
			receive()
		}
		s.send(task.Order{Start: &task.Start{Job: job, Task: uuid.NewString(), Input: inputs[n%objects]}})
		left++
		n++
	}
	for left > 0 {
		receive()
	}
	unix.Getrusage(unix.RUSAGE_SELF, &after)
	here := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(here)/1e6/float64(n), "here-cpu-ms/op")
	b.ReportMetric(float64(inZones)/1e6/float64(n), "zones-cpu-ms/op")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "tasks/s")
}

// BenchmarkLargeTasks is one job on objects of 64 MiB, and the same command on the same files by this host itself.
func BenchmarkLargeTasks(b *testing.B) {
	const size, objects = 64 << 20, 4
	w := newWorld(b, nil)
	s := w.connect("sup")
	body := strings.Repeat("a line of some length with an x in it, as logs have them, and then some more\n", size/77)
	var inputs []*task.Input
	var files []string
	for i := range objects {
		in := w.put("alice", fmt.Sprintf("/alice/stor/o%d", i), body)
		f, _, err := w.stores[in.Copies[0]].OpenFile(b.Context(), in.Object)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		in.Copies = in.Copies[:1]
		inputs, files = append(inputs, in), append(files, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()))
	}
	const exec = "grep -c 'x in'"
	if err := osexec.Command("cat", files...).Run(); err != nil { // so that both find it in memory
		b.Fatal(err)
	}
	b.Run("tasks", func(b *testing.B) {
		job := s.open("alice", jobs.Phase{Exec: exec})
		b.SetBytes(size * objects)
		for b.Loop() {
			w.agent.intact.forget()
			var ids []string
			for _, in := range inputs {
				ids = append(ids, s.start(job, 0, in))
			}
			for _, id := range ids {
				if d := s.wait(id); d.Failure != nil {
					b.Fatal(d.Failure)
				}
			}
		}
	})
	b.Run("local", func(b *testing.B) {
		b.SetBytes(size * objects)
		for b.Loop() {
			var g errgroup.Group
			g.SetLimit(runtime.NumCPU())
			for _, name := range files {
				g.Go(func() error {
					_, err := osexec.Command("bash", "-c", exec+" < "+name).Output() // grep stops early when nobody reads its output
					return err
				})
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func (i *intact) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.until = nil
}
