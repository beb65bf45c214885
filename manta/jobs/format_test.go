package jobs

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/storage/metastore"
)

var writeSamples = flag.Bool("write-samples", false, "write testdata/format1.json anew, which only a change of a format that was never released justifies")

type sample struct {
	Bucket string          `json:"bucket"`
	Key    metastore.Key   `json:"key"`
	Value  json.RawMessage `json:"value"`
}

// sampled is what the sample holds.
func sampled() (*Job, []string, Commit) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 5e6, time.UTC)
	j := &Job{
		ID: "aaaaaaaa-1111-4111-8111-111111111111", Name: "sample", Owner: alice, Login: "alice",
		Auth: Auth{Token: "token", Login: "alice/bob", UUID: alice, User: "22222222-2222-4222-8222-222222222222"},
		Phases: []Phase{
			{Type: Map, Exec: "wc", Init: "true", Assets: []string{"/alice/stor/asset"}, Memory: 128, Disk: 2, Image: "13.x", Uarg: map[string]any{"a": "b"}},
			{Type: Reduce, Exec: "sort", Count: 3},
		},
		Transient: true, Options: Options{FrequentCheckpoint: true}, State: Done, Supervisor: "one",
		Stats:       Stats{Assigns: 1, InputsRead: 2, Tasks: 3, TasksOK: 4, TasksFailed: 5, Outputs: 6, Errors: 7, Retries: 8},
		TimeCreated: at, TimeAssigned: at, TimeInputDone: at, TimeCancelled: at, TimeDone: at, TimeArchiveStarted: at, TimeArchiveDone: at, TimeInput: at,
	}
	return j, []string{"/alice/stor/a", "/alice/stor/é"}, Commit{
		Outcomes: []Outcome{{Phase: 0, Number: 1, Task: "t", OK: true}, {Phase: 1, Number: 2}},
		Emitted:  []Emitted{{Phase: 1, Number: 4, Path: "/alice/stor/e", Origin: "/alice/stor/a", Reducer: 2}},
		Outputs:  []string{"/alice/stor/o"},
		Errors: []Failure{{
			Phase: 1, Code: CodeUserTask, Message: "m", Internal: "i", Input: "/alice/stor/e", Origin: "/alice/stor/a", Task: "t",
			Server: "1.stor", Machine: "z", Stderr: "/alice/err", Core: "/alice/core", Time: at,
		}},
		Retries: 9,
	}
}

// TestFormats reads what older programs have written. The sample stays as it is.
func TestFormats(t *testing.T) {
	file := filepath.Join("testdata", "format1.json")
	if *writeSamples {
		writeSample(t, file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var samples []sample
	if err := json.Unmarshal(text, &samples); err != nil {
		t.Fatal(err)
	}
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		for _, s := range samples {
			if _, err := r.store.Commit(ctx, metastore.Batch{metastore.Put{Bucket: s.Bucket, Key: s.Key, Value: s.Value}}); err != nil {
				t.Fatal(err)
			}
		}
		j, inputs, commit := sampled()
		if diff := cmp.Diff(j, get(t, r, j.ID)); diff != "" {
			t.Errorf("job (-want +got):\n%s", diff)
		}
		if _, got := readInputs(t, r, j.ID, 0); !slices.Equal(got, inputs) {
			t.Errorf("inputs %q", got)
		}
		c := claim(t, r, j.ID, "two")
		got, _ := collect(t, c)
		if diff := cmp.Diff(commit, got); diff != "" {
			t.Errorf("commits (-want +got):\n%s", diff)
		}
		if beats, err := r.Beats(ctx); err != nil || beats["one"] == "" {
			t.Errorf("Beats = %v, %v", beats, err)
		}
		if got := ids(t, r.List(ctx, ListOptions{Owner: alice})); !slices.Equal(got, []string{j.ID}) {
			t.Errorf("List = %v", got)
		}
		if err := c.Commit(ctx, &Commit{Retries: 1}); err != nil {
			t.Error(err)
		}
		if err := r.Delete(ctx, j.ID); err != nil {
			t.Error(err)
		}
	})
}

func writeSample(t *testing.T, file string) {
	r := newRecords(t, newMemory(t))
	ctx := t.Context()
	j, inputs, commit := sampled()
	made := *j
	if err := r.Create(ctx, &made); err != nil {
		t.Fatal(err)
	}
	if err := r.AddInputs(ctx, j.ID, inputs); err != nil {
		t.Fatal(err)
	}
	c := claim(t, r, j.ID, "one")
	if err := c.Commit(ctx, &commit); err != nil {
		t.Fatal(err)
	}
	if err := r.Beat(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	// Times are fixed, and the job has everything that a job can have.
	op, err := putJob(j, metastore.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	gate, err := putGate(j.ID, &gateRecord{Next: int64(len(inputs)), Closed: closedDone, Time: j.TimeInput}, metastore.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Commit(ctx, metastore.Batch{op, gate}); err != nil {
		t.Fatal(err)
	}
	var samples []sample
	for _, b := range buckets {
		for rec, err := range r.store.Find(ctx, b.Name, metastore.Query{Scan: true}) {
			if err != nil {
				t.Fatal(err)
			}
			samples = append(samples, sample{b.Name, rec.Key, rec.Value})
		}
	}
	text, err := json.MarshalIndent(samples, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o666); err != nil {
		t.Fatal(err)
	}
}
