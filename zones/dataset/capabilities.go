package dataset

// Capabilities is what a pool can keep. A verb that asks for more fails with [ErrUnsupported] and changes nothing.
type Capabilities struct {
	// Driver names the pool's kind: "btrfs", "overlay".
	Driver string `json:"driver"`
	// Quota: a dataset's bytes can be limited, and the limit holds against whoever writes.
	Quota bool `json:"quota"`
	// SharedQuota: a dataset can be counted within another's quota ([Options.Within]).
	SharedQuota bool `json:"shared_quota"`
	// LiveSnapshot: Snapshot works, atomically, while the dataset is written. Without it the verb fails with [ErrBusy] then.
	LiveSnapshot bool `json:"live_snapshot"`
	// IncrementalSend: Send takes a base.
	IncrementalSend bool `json:"incremental_send"`
	// FastUsage: Usage costs no walk over the files.
	FastUsage bool `json:"fast_usage"`
	// ConstantSnapshot: Snapshot and Clone take the same time whatever the dataset's size.
	ConstantSnapshot bool `json:"constant_snapshot"`
	// Checksums: data is verified when it is read.
	Checksums bool `json:"checksums"`
	// Growable: the pool grows by itself as long as the file system below it has room.
	Growable bool `json:"growable"`
	// SendFormat names the format of Send: "btrfs" or "tar". Every pool receives both (a full stream; an incremental one needs
	// IncrementalSend and the same SendFormat).
	SendFormat string `json:"send_format"`
}
