package jobs_test

import (
	"context"
	"fmt"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

// A job from its definition to its end, with the supervisor's part played by hand.
func Example() {
	ctx := context.Background()
	records, err := jobs.NewRecords(metastoretest.NewMemory())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := records.Define(ctx); err != nil {
		fmt.Println(err)
		return
	}
	d, err := jobs.ParseDefinition([]byte(`{"name":"lines","phases":[{"exec":"wc -l"}]}`), false)
	if err != nil {
		fmt.Println(err)
		return
	}
	job := &jobs.Job{ID: "7a1b8f4e-0000-4000-8000-000000000001", Name: d.Name, Owner: "alice's uuid", Login: "alice", Phases: d.Phases}
	for _, step := range []func() error{
		func() error { return records.Create(ctx, job) },
		func() error { return records.AddInputs(ctx, job.ID, []string{"/alice/stor/a"}) },
		func() error { return records.EndInput(ctx, job.ID) },
	} {
		if err := step(); err != nil {
			fmt.Println(err)
			return
		}
	}

	claim, err := records.Claim(ctx, job.ID, "supervisor-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	for in, err := range records.Inputs(ctx, job.ID, 0) {
		if err != nil {
			fmt.Println(err)
			return
		}
		var commit jobs.Commit
		for i, path := range in.Paths {
			commit.Outcomes = append(commit.Outcomes, jobs.Outcome{Number: in.First + int64(i), Task: "t1", OK: true})
			commit.Outputs = append(commit.Outputs, jobs.OutputBase("alice", "JOB", path, 0)+"t1")
		}
		if err := claim.Commit(ctx, &commit); err != nil {
			fmt.Println(err)
			return
		}
	}
	if _, err := claim.Update(ctx, func(j *jobs.Job) error { j.State = jobs.Done; return nil }); err != nil {
		fmt.Println(err)
		return
	}
	outputs, err := records.RecentOutputs(ctx, job.ID, 100)
	fmt.Println(outputs, err)
	fmt.Println(records.AddInputs(ctx, job.ID, []string{"/alice/stor/b"}))
	// Output:
	// [/alice/jobs/JOB/stor/alice/stor/a.0.t1] <nil>
	// job 7a1b8f4e-0000-4000-8000-000000000001 is in state 'done'
}
