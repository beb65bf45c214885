package jobstest_test

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/jobs/jobstest"
)

func TestMain(m *testing.M) { os.Exit(jobstest.Main(m)) }

func get(t *testing.T, c *client.Client, path string) string {
	t.Helper()
	obj, err := c.GetObject(t.Context(), &client.GetObjectInput{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Body.Close()
	b, err := io.ReadAll(obj.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func put(t *testing.T, c *client.Client, path, content string) {
	t.Helper()
	if _, err := c.PutObject(t.Context(), &client.PutObjectInput{Path: path, Body: strings.NewReader(content), MakeParents: true}); err != nil {
		t.Fatal(err)
	}
}

func TestCloud(t *testing.T) {
	c := jobstest.New(t).Account("alice")
	for i := range 5 {
		put(t, c, fmt.Sprint("~~/stor/in/", i), strings.Repeat("x\n", i))
	}
	put(t, c, "~~/stor/tool", "#!/bin/sh\nwc -l")
	inputs := []string{"~~/stor/in/0", "~~/stor/in/1", "~~/stor/in/2", "~~/stor/in/3", "~~/stor/in/4", "~~/stor/in/none"}
	tests := []struct {
		name   string
		job    *client.JobBuilder
		want   []string // contents of the outputs, sorted
		errors []string // codes and messages
	}{
		{"map", c.Job().Map("wc -l"), []string{"0\n", "1\n", "2\n", "3\n", "4\n"}, []string{"ResourceNotFoundError"}},
		{"map and reduce", c.Job().Map("wc -l").Reduce("awk '{n += $1} END {print n}'"), []string{"10\n"}, []string{"ResourceNotFoundError"}},
		{"asset", c.Job().Map("/assets/alice/stor/tool").Asset("~~/stor/tool").Init("true").Reduce("sort -n | tail -1"), []string{"4\n"}, []string{"ResourceNotFoundError"}},
		{"mpipe and mcat", c.Job().Map("echo a | mpipe; mcat $MANTA_INPUT_OBJECT").Reduce("sort | uniq -c | awk '{print $2 $1}'"), []string{"a5\nx10\n"}, []string{"ResourceNotFoundError"}},
		{"reducers", c.Job().Map("seq 10 | msplit -n 3").Reduce("sort -n | uniq -c | wc -l").Count(3).Reduce("awk '{n += $1} END {print n}'"), []string{"10\n"}, []string{"ResourceNotFoundError"}},
		{"failures", c.Job().Map("test $(wc -l) -lt 4 || exit 3"), []string{"", "", "", ""}, []string{"ResourceNotFoundError", "UserTaskError: user command exited with code 3"}},
		{"signal", c.Job().Reduce("kill -KILL $$"), nil, []string{"ResourceNotFoundError", "UserTaskError: user command terminated by SIGKILL"}},
		{"commit", c.Job().Reduce("curl -s -X POST ${MANTA_URL}my/jobs/task/commit; sleep 100"), nil, []string{"ResourceNotFoundError"}},
		{"init", c.Job().Map("wc").Init("exit 4"), nil, []string{"ResourceNotFoundError", "TaskInitError: user command exited with code 4"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			job, err := tt.job.Run(t.Context(), slices.Values(inputs))
			if err != nil {
				t.Fatal(err)
			}
			var got, errs []string
			for path, err := range job.FollowOutputs(t.Context(), client.WaitOptions{MaxWait: time.Minute}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, get(t, c, path))
			}
			for e, err := range job.Errors(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				s := e.Code
				if e.Code != "ResourceNotFoundError" {
					s += ": " + e.Message
				}
				if !slices.Contains(errs, s) {
					errs = append(errs, s)
				}
			}
			slices.Sort(got)
			slices.Sort(errs)
			if !slices.Equal(got, tt.want) || !slices.Equal(errs, tt.errors) {
				t.Errorf("outputs %q, want %q\nerrors %q, want %q", got, tt.want, errs, tt.errors)
			}
		})
	}
}
