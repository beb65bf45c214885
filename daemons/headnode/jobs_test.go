package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta/client"
)

// computing returns a cluster of two storage nodes that run tasks, and stores some objects there. Nothing of the tasks is left on this machine afterwards.
func computing(t *testing.T, objects int) (c *cluster, m *client.Client, paths []string) {
	t.Helper()
	testenv.NeedRoot(t)
	c = newComputingCluster(t, 2, 3)
	t.Cleanup(func() { // before the processes are killed
		for name, p := range c.nodes {
			p.kill()
			if out, err := exec.Command(filepath.Join(c.bin, "storagenode"), "sweep", "-dir", c.nodeDir(name)).CombinedOutput(); err != nil {
				t.Errorf("sweep %s: %v\n%s", name, err, out)
			}
		}
	})
	m = c.client()
	for i := range objects {
		name := fmt.Sprintf("/alice/stor/in-%03d", i)
		if _, err := m.PutObject(t.Context(), &client.PutObjectInput{Path: name, Body: strings.NewReader(fmt.Sprintf("line of %03d\n", i))}); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, name)
	}
	return c, m, paths
}

// outcome is what a job made: every line of its outputs, sorted, and its counts.
func outcome(t *testing.T, c *cluster, j *client.Job) (lines []string, objects int) {
	t.Helper()
	m := c.client()
	var outputs []string
	for path, err := range j.Outputs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, path)
		content, err := get(t.Context(), m, path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(content) {
			lines = append(lines, strings.TrimSuffix(string(line), "\n"))
		}
	}
	for e, err := range j.Errors(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("job error: %v", e)
	}
	// Nothing else is left below the job.
	err := m.Walk(t.Context(), j.Path()+"/stor", func(e *client.Entry) error {
		if e.Type != "directory" {
			objects++
			if !slices.Contains(outputs, e.Path()) {
				t.Errorf("%s is no output of the job", e.Path())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines, objects
}

func TestJobs_onSeparateNodes(t *testing.T) {
	c, m, paths := computing(t, 20)
	j, err := m.Job().Map("tr a-z A-Z; hostname >&2").Reduce("sort").Run(t.Context(), slices.Values(paths))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Wait(t.Context(), client.WaitOptions{}); err != nil {
		t.Fatal(err)
	}
	lines, objects := outcome(t, c, j)
	if objects != 1 || len(lines) != len(paths) || lines[7] != "LINE OF 007" {
		t.Errorf("%d outputs with %d lines: %q", objects, len(lines), lines)
	}
}

// TestJobs_everythingDies kills head node and storage nodes, with the agents and zones on them, again and again while a job runs: what it makes is
// exactly what it makes undisturbed.
func TestJobs_everythingDies(t *testing.T) {
	c, m, paths := computing(t, 60)
	var want []string
	for i := range paths {
		want = append(want, fmt.Sprintf("LINE OF %03d", i), fmt.Sprintf("from /alice/stor/in-%03d", i))
	}
	slices.Sort(want)
	j, err := m.Job().Map(`sleep 0.2; tr a-z A-Z | mpipe; echo "from $MANTA_INPUT_OBJECT" | mpipe`).Reduce("sort | mpipe").Count(2).Run(t.Context(), slices.Values(paths))
	if err != nil {
		t.Fatal(err)
	}
	kills := 6
	if testenv.Long() {
		kills = 60
	}
	for range kills {
		time.Sleep(time.Duration(rand.IntN(1200)) * time.Millisecond) // somewhere in the middle of things
		switch victim := rand.IntN(3); victim {
		case 0:
			c.head.kill()
			c.startHead()
		default:
			name := fmt.Sprintf("%d.stor.test", victim)
			c.nodes[name].kill()
			c.startNode(name)
		}
	}
	c.await("the job is done", func() bool {
		s, err := c.client().OpenJob(filepath.Base(j.Path())).Status(t.Context())
		return err == nil && s.State == client.JobDone
	})
	lines, _ := outcome(t, c, c.client().OpenJob(filepath.Base(j.Path())))
	if !slices.Equal(lines, want) {
		t.Errorf("%d lines, want %d:\n%q", len(lines), len(want), lines)
	}
}
