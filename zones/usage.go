package zones

import "time"

// Usage is a machine's meters at one instant. Counters only grow while the machine runs and start at 0 with it.
type Usage struct {
	Time time.Time `json:"time"`
	CPU  CPUUsage  `json:"cpu"`
	// Memory is in bytes.
	Memory MemoryUsage `json:"memory"`
	Disk   DiskUsage   `json:"disk"`
	// Network has one entry for each interface, loopback left out.
	Network []NetworkUsage `json:"network,omitempty"`
	// Processes is how many threads and processes there are now; 0 with a VM's insides unknown.
	Processes int64 `json:"processes"`
}

// CPUUsage is processor time.
type CPUUsage struct {
	User   time.Duration `json:"user_ns"`
	System time.Duration `json:"system_ns"`
	Total  time.Duration `json:"total_ns"`
	// Throttled is how long the cap held it back, in Periods of which ThrottledPeriods were cut.
	Throttled        time.Duration `json:"throttled_ns"`
	Periods          uint64        `json:"periods"`
	ThrottledPeriods uint64        `json:"throttled_periods"`
}

// MemoryUsage is memory in bytes.
type MemoryUsage struct {
	// RSS is anonymous memory, Cache the page cache charged to it, Total both and kernel memory.
	RSS   uint64 `json:"rss"`
	Cache uint64 `json:"cache"`
	Total uint64 `json:"total"`
	Peak  uint64 `json:"peak"`
	Swap  uint64 `json:"swap"`
	Limit uint64 `json:"limit"`
	// OOMKills is how often the limit had a process killed.
	OOMKills uint64 `json:"oom_kills"`
}

// DiskUsage is block input and output as the kernel charges it; cached reads cost nothing here.
type DiskUsage struct {
	ReadBytes  uint64 `json:"read_bytes"`
	WriteBytes uint64 `json:"write_bytes"`
	ReadOps    uint64 `json:"read_ops"`
	WriteOps   uint64 `json:"write_ops"`
}

// NetworkUsage is one interface as the machine sees it: Rx is what came to it.
type NetworkUsage struct {
	Interface string `json:"interface"`
	RxBytes   uint64 `json:"rx_bytes"`
	TxBytes   uint64 `json:"tx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	TxPackets uint64 `json:"tx_packets"`
	RxDropped uint64 `json:"rx_dropped"`
	TxDropped uint64 `json:"tx_dropped"`
	RxErrors  uint64 `json:"rx_errors"`
	TxErrors  uint64 `json:"tx_errors"`
}
