package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/sdc"
)

// Refusals that have to do with jobs, for errors.Is.
var (
	// ErrJobState says that a job takes no more input, or cannot be cancelled any more.
	ErrJobState error = &sdc.Error{Code: "InvalidJobState"}
	// ErrInvalidJob says that a job's definition is wrong.
	ErrInvalidJob error = &sdc.Error{Code: "InvalidJob"}
)

// PhaseType is what a phase does with its inputs.
type PhaseType string

// Types of phases.
const (
	Map    PhaseType = "map"    // a task for each input, on a server that has it
	Reduce PhaseType = "reduce" // Count tasks, each for all inputs that come to it
)

// A Phase is one step of a job.
type Phase struct {
	Type   PhaseType      `json:"type,omitempty"`   // Map if empty
	Exec   string         `json:"exec"`             // run by bash -c for each task
	Init   string         `json:"init,omitempty"`   // run once in a zone before its first task
	Assets []string       `json:"assets,omitempty"` // objects that stand below /assets, executable
	Count  int            `json:"count,omitempty"`  // of reducers: 1 to 128, 1 if 0
	Memory int            `json:"memory,omitempty"` // MiB: a power of two from 128 to 8192, 1024 if 0
	Disk   int            `json:"disk,omitempty"`   // GiB: a power of two from 2 to 1024, 8 if 0
	Image  string         `json:"image,omitempty"`  // a range of versions; any if empty
	Uarg   map[string]any `json:"uarg,omitempty"`   // kept with the job
}

// A JobBuilder puts a job together. Methods that have to do with a phase are for the one that was added last.
type JobBuilder struct {
	c   *Client
	in  CreateJobInput
	err error
}

// Job begins a job:
//
//	job, err := c.Job().Map("grep -c ERROR").Reduce("awk '{n += $1} END {print n}'").Create(ctx)
func (c *Client) Job() *JobBuilder { return &JobBuilder{c: c} }

// Name gives the job a name, for people and for [Client.ListJobs].
func (b *JobBuilder) Name(name string) *JobBuilder {
	b.in.Name = name
	return b
}

// Map adds a map phase.
func (b *JobBuilder) Map(exec string) *JobBuilder { return b.Phase(Phase{Type: Map, Exec: exec}) }

// Reduce adds a reduce phase.
func (b *JobBuilder) Reduce(exec string) *JobBuilder {
	return b.Phase(Phase{Type: Reduce, Exec: exec})
}

// Phase adds a phase.
func (b *JobBuilder) Phase(p Phase) *JobBuilder {
	b.in.Phases = append(b.in.Phases, p)
	return b
}

// Init sets the program that runs once in each zone of the phase before its first task.
func (b *JobBuilder) Init(exec string) *JobBuilder { return b.last(func(p *Phase) { p.Init = exec }) }

// Asset adds objects that stand as executable files below /assets in the phase's zones: ~~/stor/x as /assets/LOGIN/stor/x.
func (b *JobBuilder) Asset(paths ...string) *JobBuilder {
	return b.last(func(p *Phase) { p.Assets = append(p.Assets, paths...) })
}

// Count sets the number of the phase's reducers.
func (b *JobBuilder) Count(n int) *JobBuilder { return b.last(func(p *Phase) { p.Count = n }) }

// Memory sets the memory of the phase's zones, in MiB.
func (b *JobBuilder) Memory(mib int) *JobBuilder { return b.last(func(p *Phase) { p.Memory = mib }) }

// Disk sets the disk space of the phase's zones, in GiB.
func (b *JobBuilder) Disk(gib int) *JobBuilder { return b.last(func(p *Phase) { p.Disk = gib }) }

// Image sets the range of versions of the image that the phase needs.
func (b *JobBuilder) Image(versions string) *JobBuilder {
	return b.last(func(p *Phase) { p.Image = versions })
}

func (b *JobBuilder) last(set func(*Phase)) *JobBuilder {
	if n := len(b.in.Phases); n > 0 {
		set(&b.in.Phases[n-1])
	} else if b.err == nil {
		b.err = fmt.Errorf("%w: a job's phase is described before there is one", ErrInput)
	}
	return b
}

// Create makes the job. It runs at once, waits for input, and ends when that has ended and all has been worked off: see [Job.AddInputs] and
// [Job.EndInput].
func (b *JobBuilder) Create(ctx context.Context) (*Job, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.c.CreateJob(ctx, &b.in)
}

// Run makes the job, gives it its inputs, and ends them. Should that fail the job is cancelled.
func (b *JobBuilder) Run(ctx context.Context, inputs iter.Seq[string]) (*Job, error) {
	job, err := b.Create(ctx)
	if err != nil {
		return nil, err
	}
	if err = job.AddInputs(ctx, inputs); err == nil {
		err = job.EndInput(ctx)
	}
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return nil, errors.Join(err, job.Cancel(undo))
	}
	return job, nil
}

// CreateJobInput describes a job.
type CreateJobInput struct {
	Name   string
	Phases []Phase // at least one
	// Transient says that nobody will want to see the job again, so that operators may remove it.
	Transient bool
}

// CreateJob makes a job.
func (c *Client) CreateJob(ctx context.Context, in *CreateJobInput) (*Job, error) {
	phases := make([]Phase, len(in.Phases))
	for i, p := range in.Phases {
		for k, asset := range p.Assets {
			path, err := c.resolve(asset)
			if err != nil {
				return nil, err
			}
			if k == 0 {
				p.Assets = append([]string(nil), p.Assets...) // the caller's stays as it is
			}
			p.Assets[k] = path
		}
		phases[i] = p
	}
	body, err := json.Marshal(struct {
		Name      string  `json:"name"`
		Phases    []Phase `json:"phases"`
		Transient bool    `json:"transient,omitempty"`
	}{in.Name, phases, in.Transient})
	if err != nil {
		return nil, fmt.Errorf("CreateJob: %w", err)
	}
	h := http.Header{"Content-Type": {"application/json; type=job"}}
	head, err := c.call(ctx, in, &operation{name: "CreateJob", method: http.MethodPost, path: "~~/jobs", header: h, body: bytes.NewReader(body), size: int64(len(body))})
	if err != nil {
		return nil, err
	}
	_, id, ok := strings.Cut(head.Get("Location"), "/jobs/")
	if !ok || id == "" || strings.Contains(id, "/") {
		return nil, fmt.Errorf("CreateJob: the answer's location is %q", head.Get("Location"))
	}
	return c.OpenJob(id), nil
}

// ListJobsInput says which jobs are listed.
type ListJobsInput struct {
	// Running leaves out jobs that are done, Live those whose details only their archive has. Without either all are listed.
	Running, Live bool
	// Name leaves out jobs of another name, and those whose details only their archive has.
	Name string
	// Limit is how many are listed at the most, when one of the above is set: 1000, which is also the greatest number, when 0.
	Limit int
}

// A JobEntry is a line of a listing of jobs.
type JobEntry struct {
	ID      string
	Created time.Time // of an archived job: of its directory
}

// ListJobs yields jobs of the account.
func (c *Client) ListJobs(ctx context.Context, in *ListJobsInput) iter.Seq2[*JobEntry, error] {
	return func(yield func(*JobEntry, error) bool) {
		if !in.Running && !in.Live && in.Name == "" {
			for e, err := range c.List(ctx, &ListInput{Path: "~~/jobs", OnlyDirectories: true}) {
				if err != nil {
					yield(nil, err)
					return
				}
				if !yield(&JobEntry{ID: e.Name, Created: e.Modified}, nil) {
					return
				}
			}
			return
		}
		q := url.Values{"state": {"live"}}
		if in.Running {
			q.Set("state", "running")
		}
		if in.Name != "" {
			q.Set("name", in.Name)
		}
		if in.Limit > 0 {
			q.Set("limit", strconv.Itoa(in.Limit))
		}
		op := &operation{name: "ListJobs", method: http.MethodGet, path: "~~/jobs", query: q, repeatable: true}
		for line, err := range c.lines(ctx, in, op) {
			var e Entry
			if err == nil {
				err = json.Unmarshal(line, &e)
			}
			if err != nil {
				yield(nil, fmt.Errorf("ListJobs: %w", err))
				return
			}
			if !yield(&JobEntry{ID: e.Name, Created: e.Modified}, nil) {
				return
			}
		}
	}
}
