package main

import (
	"github.com/mobulacloud/mobula/daemons/internal/front"
)

// A Config is the head node's configuration.
type Config struct {
	// Dir holds all state.
	Dir string `json:"dir"`

	// LogLevel is debug, info (with a line for every request), warn or error.
	LogLevel string `json:"log_level"`

	// Name is what answers carry as x-server-name; the host's name when empty.
	Name string `json:"name,omitempty"`

	// Manta is the object store's door. It speaks TLS, with Cert and Key. Without them it speaks in the clear, which is allowed on loopback
	// and behind a proxy that speaks TLS.
	Manta Door `json:"manta"`

	// MantaV2 is a second door that speaks the second version's dialect; none when its address is empty.
	MantaV2 Door `json:"manta_v2,omitzero"`

	// MantaClear is the unprotected port: pre-signed requests and reads of public objects only; none when its address is empty.
	MantaClear Door `json:"manta_clear,omitzero"`

	// Nodes is where storage nodes join and report; mutual TLS of the private authority.
	Nodes Door `json:"nodes"`

	// Admin tells health and metrics, to a private network; none when its address is empty.
	Admin Door `json:"admin"`

	Store front.Config `json:"store"`
}

// A Door is an address to listen on.
type Door struct {
	Listen string `json:"listen,omitempty"`
	Cert   string `json:"cert,omitempty"` // PEM files
	Key    string `json:"key,omitempty"`

	// BehindProxy says that clients reach the door through a proxy that speaks TLS to them.
	BehindProxy bool `json:"behind_proxy,omitempty"`
}

func defaults() Config {
	return Config{
		Dir:      "/var/lib/mobula/headnode",
		LogLevel: "info",
		Manta:    Door{Listen: "127.0.0.1:8080"},
		Nodes:    Door{Listen: ":8443"},
		Admin:    Door{Listen: "127.0.0.1:8083"},
	}
}
