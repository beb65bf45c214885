package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/image"
	"github.com/mobulacloud/mobula/zones/internal/statefile"
)

const recordVersion = 1

// record is a zone as it is stored, in DIR/zones/UUID.json.
type record struct {
	Version  int         `json:"version"`
	Spec     *zones.Spec `json:"spec"`
	Created  time.Time   `json:"created"`
	Modified time.Time   `json:"modified"`
	// IDs is the zone's own range of the host's user ids.
	IDs zones.IDRange `json:"ids"`
	// Image is the uuid of what it was made from, with the sparse image's spelled out.
	Image string `json:"image,omitempty"`
	// Container is how a container's image wants to be run; it goes with the zone to a host without the image.
	Container *image.Container `json:"container,omitempty"`
	// Handle finds the running machine again; nil when there is none.
	Handle *zones.Handle `json:"handle,omitempty"`
	Booted time.Time     `json:"booted,omitzero"`
	// Exit is how it last ended.
	Exit *zones.ExitStatus `json:"exit,omitempty"`
	// Provisioning is set until the zone is done with its first boot.
	Provisioning *provisioning `json:"provisioning,omitempty"`
	// Failure says why provisioning failed.
	Failure string `json:"failure,omitempty"`
	// Op is the verb under way.
	Op *op `json:"op,omitempty"`
}

// op is what a verb writes down before it acts. Who finds one while he holds the zone's lock knows that its process is dead.
type op struct {
	Verb    string    `json:"verb"`
	Started time.Time `json:"started"`
	// Step is how far it is certain to have come, for verbs whose repair depends on it.
	Step string `json:"step,omitempty"`
	// Running: the zone ran before, and is to run after.
	Running bool `json:"running,omitempty"`
	// Snapshot, Image (with its Container) and Next are what was asked for.
	Snapshot  string           `json:"snapshot,omitempty"`
	Image     string           `json:"image,omitempty"`
	Container *image.Container `json:"container,omitempty"`
	Next      *zones.Spec      `json:"next,omitempty"`
}

// nics are those that a zone has, and those that it is being given.
func (r *record) nics() []zones.NIC {
	if r.Op == nil || r.Op.Next == nil {
		return r.Spec.NICs
	}
	return slices.Concat(r.Spec.NICs, r.Op.Next.NICs)
}

func (h *Host) recordPath(id string) string { return filepath.Join(h.cfg.Dir, "zones", id+".json") }

func (h *Host) load(id string) (record, error) {
	var r record
	if !zones.ValidID(id) {
		return r, fmt.Errorf("zone %.40q: %w", id, zones.ErrNotExist)
	}
	b, err := h.files.ReadFile(h.recordPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("zone %s: %w", id, zones.ErrNotExist)
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("record of zone %s: %w", id, err)
	}
	if r.Version > recordVersion {
		return r, fmt.Errorf("record of zone %s has version %d, which is newer than this program", id, r.Version)
	}
	if r.Spec == nil || r.Spec.UUID != id {
		return r, fmt.Errorf("record of zone %s is damaged", id)
	}
	return r, nil
}

func (h *Host) save(r *record) error {
	r.Version = recordVersion
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return h.write(h.recordPath(r.Spec.UUID), b)
}

func (h *Host) uuids() ([]string, error) {
	names, err := h.files.Names(filepath.Join(h.cfg.Dir, "zones"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, ".json"); ok && zones.ValidID(id) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out, nil
}

// write replaces a file, whose lock the caller holds, for good.
func (h *Host) write(path string, b []byte) error {
	return statefile.Write(h.files, statefile.Temp(path), path, append(b, '\n'))
}

// forget removes a zone's record, which we hold, for good, and what a dead process was writing there.
func (h *Host) forget(id string) error {
	_ = h.files.Remove(statefile.Temp(h.recordPath(id)))
	return statefile.Remove(h.files, h.recordPath(id))
}
