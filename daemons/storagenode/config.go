package main

import "github.com/mobulacloud/mobula/daemons/internal/compute"

// A Config is a storage node's configuration.
type Config struct {
	// Dir holds the objects and all state.
	Dir string `json:"dir"`

	// LogLevel is debug, info, warn or error.
	LogLevel string `json:"log_level"`

	// Datacenter is what placement keeps copies apart by.
	Datacenter string `json:"datacenter"`

	// Listen is where the head node reaches this node; mutual TLS of its private authority.
	Listen string `json:"listen"`

	// Advertise is the host and port under which it does so; Listen, with this host's name, when empty.
	Advertise string `json:"advertise,omitempty"`

	// Admin tells health and metrics, to a private network; none when empty.
	Admin string `json:"admin,omitempty"`

	// CapacityGB bounds what objects take of the file system, in GiB; 0 means all of it but the reserve.
	CapacityGB int64 `json:"capacity_gb,omitempty"`

	// ScrubMBPerSecond bounds the background verification, in MiB/s; 16.
	ScrubMBPerSecond int64 `json:"scrub_mb_per_second,omitempty"`

	// GraceHours is how long a deleted object's bytes can be brought back; 48.
	GraceHours int `json:"grace_hours,omitempty"`

	// CacheMB is the memory for the index's blocks, in MiB; 16.
	CacheMB int64 `json:"cache_mb,omitempty"`

	// PackKB is the largest object that is kept in the journal with others instead of a file of its own, in KiB; 64.
	PackKB int64 `json:"pack_kb,omitempty"`

	// Compute runs tasks of jobs beside the objects; as root only.
	Compute compute.Config `json:"compute,omitzero"`
}

func defaults() Config {
	return Config{
		Dir:        "/var/lib/mobula/storagenode",
		LogLevel:   "info",
		Datacenter: "dc1",
		Listen:     ":8444",
		Admin:      "127.0.0.1:8085",
	}
}
