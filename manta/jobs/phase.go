package jobs

// PhaseType is what a phase does with its inputs.
type PhaseType string

// Types of phases. The original also takes "storage-map" for Map.
const (
	Map    PhaseType = "map"    // a task for each input
	Reduce PhaseType = "reduce" // Count tasks, each for all inputs that come to it
)

// A Phase is one step of a job, as its creator wrote it down and with Type filled in.
type Phase struct {
	Type   PhaseType `json:"type"`
	Exec   string    `json:"exec"`             // run by bash -c, for each task
	Init   string    `json:"init,omitempty"`   // run by bash -c, once in a zone before its first task
	Assets []string  `json:"assets,omitempty"` // paths of objects that stand below /assets
	Count  int       `json:"count,omitempty"`  // of reducers; 0 means 1
	Memory int       `json:"memory,omitempty"` // MiB; 0 means DefaultMemory
	Disk   int       `json:"disk,omitempty"`   // GiB; 0 means DefaultDisk
	Image  string    `json:"image,omitempty"`  // semver range; "" means any
	// Uarg is for those who read the job; nothing here does.
	Uarg map[string]any `json:"uarg,omitempty"`
}

// Limits of a job's definition, and what a phase gets that does not say.
const (
	MaxDefinition = 100_000 // bytes of JSON
	MaxReducers   = 128
	DefaultMemory = 1024 // MiB
	DefaultDisk   = 8    // GiB
)

// Sizes that a phase may ask for.
var (
	MemorySizes = []int{128, 256, 512, 1024, 2048, 4096, 8192}    // MiB
	DiskSizes   = []int{2, 4, 8, 16, 32, 64, 128, 256, 512, 1024} // GiB
)

// Reducers returns how many reducers the phase has; a map phase has none.
func (p *Phase) Reducers() int {
	if p.Type != Reduce {
		return 0
	}
	return max(p.Count, 1)
}
