package image

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Manifest describes an image, version 2 of the format.
type Manifest struct {
	V           int        `json:"v"`
	UUID        string     `json:"uuid"`
	Owner       string     `json:"owner"`
	Name        string     `json:"name"`
	Version     string     `json:"version"`
	State       string     `json:"state,omitempty"`
	Disabled    bool       `json:"disabled"`
	Public      bool       `json:"public"`
	PublishedAt *time.Time `json:"published_at,omitempty"`
	Type        string     `json:"type"`
	OS          string     `json:"os"`
	Origin      string     `json:"origin,omitempty"`
	Description string     `json:"description,omitempty"`
	Homepage    string     `json:"homepage,omitempty"`
	EULA        string     `json:"eula,omitempty"`
	Icon        bool       `json:"icon,omitempty"`
	ACL         []string   `json:"acl,omitempty"`
	Channels    []string   `json:"channels,omitempty"`
	Files       []File     `json:"files"`

	Requirements         *Requirements  `json:"requirements,omitempty"`
	Users                []User         `json:"users,omitempty"`
	GeneratePasswords    *bool          `json:"generate_passwords,omitempty"`
	InheritedDirectories []string       `json:"inherited_directories,omitempty"`
	Tags                 map[string]any `json:"tags,omitempty"`
	BillingTags          []string       `json:"billing_tags,omitempty"`
	Traits               map[string]any `json:"traits,omitempty"`

	// Of images of type zvol.
	NICDriver  string `json:"nic_driver,omitempty"`
	DiskDriver string `json:"disk_driver,omitempty"`
	CPUType    string `json:"cpu_type,omitempty"`
	ImageSize  int64  `json:"image_size,omitempty"` // MiB
}

// File is an image's file.
type File struct {
	SHA1        string `json:"sha1"`
	Size        int64  `json:"size"`
	Compression string `json:"compression"`
	DatasetGUID string `json:"dataset_guid,omitempty"`
	// Digest and UncompressedDigest are "sha256:hex"; they are checked where they are given.
	Digest             string `json:"digest,omitempty"`
	UncompressedDigest string `json:"uncompressedDigest,omitempty"`
	Stor               string `json:"stor,omitempty"`
}

// Requirements is what an image needs of a zone and its host.
type Requirements struct {
	Networks    []Network         `json:"networks,omitempty"`
	Brand       string            `json:"brand,omitempty"`
	SSHKey      bool              `json:"ssh_key,omitempty"`
	MinRAM      int64             `json:"min_ram,omitempty"`
	MaxRAM      int64             `json:"max_ram,omitempty"`
	MinPlatform map[string]string `json:"min_platform,omitempty"`
	MaxPlatform map[string]string `json:"max_platform,omitempty"`
	Bootrom     string            `json:"bootrom,omitempty"`
}

// Network is a NIC that an image wants.
type Network struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// User is somebody for whom a password is made, in internal_metadata under "<name>_pw".
type User struct {
	Name string `json:"name"`
}

// Passwords names the users for whom passwords are to be made.
func (m *Manifest) Passwords() []string {
	if m.GeneratePasswords != nil && !*m.GeneratePasswords {
		return nil
	}
	var out []string
	for _, u := range m.Users {
		out = append(out, u.Name)
	}
	return out
}

// ComputeState gives the state that follows from the other fields; Manifest.State is what a source said.
func (m *Manifest) ComputeState() string {
	switch {
	case m.State == "creating", m.State == "failed":
		return m.State
	case m.PublishedAt == nil:
		return "unactivated"
	case m.Disabled:
		return "disabled"
	}
	return "active"
}

// maxManifest bounds a manifest's bytes.
const maxManifest = 1 << 20

// ParseManifest reads and checks a manifest. Fields it does not know are left out. Errors match [ErrManifest].
func ParseManifest(b []byte) (Manifest, error) {
	var m Manifest
	if len(b) > maxManifest {
		return m, fmt.Errorf("%w: %d bytes", ErrManifest, len(b))
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%w: %v", ErrManifest, err)
	}
	m.State = m.ComputeState()
	return m, m.Validate()
}

// NewUUID makes an image's uuid.
func NewUUID() string { return uuid.NewString() }
