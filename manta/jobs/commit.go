package jobs

// A Commit is what a supervisor learnt, in one atomic record of a job: tasks that ended, and what came of them.
type Commit struct {
	// Outcomes are of tasks that ended, for the first and only time.
	Outcomes []Outcome `json:"outcomes,omitempty"`
	// Emitted are their outputs that are inputs of a later phase, in any order.
	Emitted []Emitted `json:"emitted,omitempty"`
	// Outputs are those that are outputs of the job: paths.
	Outputs []string `json:"outputs,omitempty"`
	// Errors are those that users see.
	Errors []Failure `json:"errors,omitempty"`
	// Retries is how many attempts came to nothing and were made again.
	Retries int64 `json:"retries,omitempty"`
}

// An Outcome is the end of one task.
type Outcome struct {
	Phase int `json:"phase"`
	// Number is that of the input within its phase, from 0; of a reducer, its index.
	Number int64 `json:"number"`
	// Task is the id of the attempt that counts; "" when there was none, as for an input that does not exist.
	Task string `json:"task,omitempty"`
	OK   bool   `json:"ok"`
	// Input says that this is not of a reducer, but of an input of a reduce phase that cannot be read: Number is the input's then.
	Input bool `json:"input,omitempty"`
}

// An Emitted is an object that a task handed to the next phase.
type Emitted struct {
	// Phase and Number are those of the input that it becomes.
	Phase  int   `json:"phase"`
	Number int64 `json:"number"`
	// Path of the object, normalised: /login/stor/a.
	Path string `json:"path"`
	// Origin is the input of phase 0 that it came of, as the job's owner gave it; "" below a reducer.
	Origin string `json:"p0input,omitempty"`
	// Reducer is the index it was sent to, -1 for none in particular. A supervisor makes -1 of a reduce phase a number before it commits.
	Reducer int `json:"rIdx"`
}
