package jobs

import (
	"context"
	"fmt"
	"testing"

	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

func benchRecords(b *testing.B) *Records {
	store, err := pebble.Open(b.TempDir(), pebble.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	return newRecords(b, store)
}

// BenchmarkJob is all that the records of the smallest job cost: made, given one input, ended, claimed, committed, done.
func BenchmarkJob(b *testing.B) {
	r := benchRecords(b)
	ctx := b.Context()
	for b.Loop() {
		if err := smallest(ctx, r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJobParallel has 32 of them at a time, which share syncs.
func BenchmarkJobParallel(b *testing.B) {
	r := benchRecords(b)
	ctx := b.Context()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := smallest(ctx, r); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func smallest(ctx context.Context, r *Records) error {
	j := newJob()
	if err := r.Create(ctx, j); err != nil {
		return err
	}
	if err := r.AddInputs(ctx, j.ID, []string{"/alice/stor/a"}); err != nil {
		return err
	}
	if err := r.EndInput(ctx, j.ID); err != nil {
		return err
	}
	c, err := r.Claim(ctx, j.ID, "one")
	if err != nil {
		return err
	}
	if err := c.Commit(ctx, &Commit{Outcomes: []Outcome{{Task: "t", OK: true}}, Outputs: []string{"/alice/stor/o"}}); err != nil {
		return err
	}
	_, err = c.Update(ctx, finish)
	return err
}

// BenchmarkAddInputs adds a thousand inputs at a time.
func BenchmarkAddInputs(b *testing.B) {
	r := benchRecords(b)
	j := create(b, r)
	paths := make([]string, 1000)
	for i := range paths {
		paths[i] = fmt.Sprintf("/alice/stor/some/directory/%d", i)
	}
	for b.Loop() {
		if err := r.AddInputs(b.Context(), j.ID, paths); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "inputs/s")
}

// BenchmarkCommit commits outcomes of one job, one after another: a hundred tasks at a time.
func BenchmarkCommit(b *testing.B) {
	r := benchRecords(b)
	c := claim(b, r, create(b, r).ID, "one")
	x := &Commit{}
	for i := range 100 {
		x.Outcomes = append(x.Outcomes, Outcome{Number: int64(i), Task: "11111111-1111-4111-8111-111111111111", OK: true})
		x.Outputs = append(x.Outputs, fmt.Sprintf("/alice/jobs/JOB/stor/alice/stor/some/object.0.%d", i))
	}
	for b.Loop() {
		if err := c.Commit(b.Context(), x); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "tasks/s")
}
