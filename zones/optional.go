package zones

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Effect says what a host does with a property.
type Effect string

const (
	// EffectServed: it does what the manual says.
	EffectServed Effect = "served"
	// EffectKept: it is kept and shown, for who asked and for other programs; it is a hint, or a name, that nothing here follows.
	EffectKept Effect = "kept"
	// EffectOptional: it is served where [Capabilities.Properties] of the driver names it, and refused elsewhere.
	EffectOptional Effect = "optional"
	// EffectRefused: a value that asks for something is refused, as keeping it would promise what nobody does.
	EffectRefused Effect = "refused"
)

// optional is one property, or one form of it, that a host may be unable to serve.
type optional struct {
	effect Effect
	// asked reports whether a spec asks for it.
	asked func(*Spec) bool
	why   string
}

func anyNIC(f func(*NIC) bool) func(*Spec) bool {
	return func(s *Spec) bool {
		return slices.ContainsFunc(s.NICs, func(n NIC) bool { return f(&n) })
	}
}

func anyDisk(f func(*Volume) bool) func(*Spec) bool {
	return func(s *Spec) bool {
		return slices.ContainsFunc(s.Disks, func(d Volume) bool { return f(&d) })
	}
}

func anyFilesystem(f func(*Filesystem) bool) func(*Spec) bool {
	return func(s *Spec) bool {
		return slices.ContainsFunc(s.Filesystems, func(d Filesystem) bool { return f(&d) })
	}
}

// optionals are the properties that are not served everywhere, by name; with a form behind it, "bootrom=uefi", only that.
var optionals = map[string]optional{
	"archive_on_delete": {EffectRefused, func(s *Spec) bool { return s.ArchiveOnDelete }, "nothing is archived; send the zone before it is deleted"},
	"bootrom=uefi":      {EffectOptional, func(s *Spec) bool { return s.Bootrom == "uefi" }, "no UEFI firmware (OVMF) is installed"},
	"bootrom=PATH":      {EffectRefused, func(s *Spec) bool { return strings.HasPrefix(s.Bootrom, "/") }, "firmware of one's own could be any file of the host"},
	"qemu_opts":         {EffectOptional, func(s *Spec) bool { return s.QEMUOpts != "" }, "they could reach anything of the host's"},
	"qemu_extra_opts":   {EffectOptional, func(s *Spec) bool { return s.QEMUExtraOpts != "" }, "they could reach anything of the host's"},
	"bhyve_extra_opts":  {EffectOptional, func(s *Spec) bool { return s.BhyveExtraOpts != "" }, "there is no bhyve"},
	"fs_allowed":        {EffectOptional, func(s *Spec) bool { return s.FSAllowed != "" }, "a zone mounts nothing itself; filesystems does it for it"},
	"spice_port":        {EffectOptional, func(s *Spec) bool { return s.SpicePort > 0 }, "there is no SPICE"},
	"spice_opts":        {EffectOptional, func(s *Spec) bool { return s.SpiceOpts != "" }, "there is no SPICE"},
	"spice_password":    {EffectOptional, func(s *Spec) bool { return s.SpicePassword != "" }, "there is no SPICE"},
	"vnc_password":      {EffectOptional, func(s *Spec) bool { return s.VNCPassword != "" }, "VNC has no port to protect: the host connects to it, and nobody else can"},
	"vnc_port":          {EffectOptional, func(s *Spec) bool { return s.VNCPort > 0 }, "VNC listens on no port: the host connects to it"},
	"zpool=NAME": {EffectRefused, func(s *Spec) bool {
		return s.ZPool != "" && s.ZPool != "zones" || slices.ContainsFunc(s.Disks, func(d Volume) bool { return d.ZPool != "" && d.ZPool != "zones" })
	}, "the only pool is called zones"},
	"filesystems.*.type=nfs": {EffectOptional, anyFilesystem(func(f *Filesystem) bool { return f.Type == "nfs" }), "mount it on the host and show it with lofs"},
	"filesystems.*.raw":      {EffectRefused, anyFilesystem(func(f *Filesystem) bool { return f.Raw != "" }), "there is no device to check before it is mounted"},
	"disks.*.refreservation": {EffectRefused, anyDisk(func(d *Volume) bool { return d.Refreservation != nil && *d.Refreservation > 0 }),
		"no pool here sets space aside; ask for 0"},
	"disks.*.guest_block_size": {EffectRefused, anyDisk(func(d *Volume) bool { return d.GuestBlockSize != "" }), "block_size says what the guest sees"},
	"nics.*.allowed_dhcp_cids": {EffectRefused, anyNIC(func(n *NIC) bool { return len(n.AllowedDHCPCIDs) > 0 }), "client ids of DHCP cannot be checked here"},
	"nics.*.vrrp_vrid=OS": {EffectRefused, func(s *Spec) bool {
		return !s.Brand.HVM() && (anyNIC(func(n *NIC) bool { return n.VRRPVRID != 0 || n.VRRPPrimaryIP != "" })(s))
	}, "an OS zone has no power over its interfaces, which a router that takes addresses over needs"},
}

// kept are the properties that nothing here follows, and why that does no harm.
var kept = map[string]string{
	"do_not_inventory":     "for other programs",
	"kernel_version":       "the kernel is the host's",
	"zfs_data_compression": "a hint for ZFS", "zfs_data_recsize": "a hint for ZFS", "zfs_root_compression": "a hint for ZFS", "zfs_root_recsize": "a hint for ZFS",
	"zfs_filesystem_limit": "a zone cannot make file systems, so the limit is never reached",
	"virtio_txburst":       "a hint for another QEMU", "virtio_txtimer": "a hint for another QEMU",
	"zlog_max_size": "the console's last output is kept in memory, not in a log", "zlog_mode": "the console's last output is kept in memory, not in a log",
	"disks.*.compression": "a hint for ZFS",
}

// UnsupportedError says which properties a spec asks for that a host does not serve, and why. It is an [ErrNotSupported].
type UnsupportedError struct {
	// Properties are the names, "nics.*.allowed_dhcp_cids", each with its reason.
	Properties map[string]string
}

func (e *UnsupportedError) Error() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(e.Properties)) {
		parts = append(parts, fmt.Sprintf("%s (%s)", name, e.Properties[name]))
	}
	return "not supported: " + strings.Join(parts, "; ")
}

// Is makes an UnsupportedError an ErrNotSupported.
func (e *UnsupportedError) Is(target error) bool {
	return target == ErrNotSupported || target == errors.ErrUnsupported
}

// Supports reports what a spec asks for that a driver with these capabilities does not serve, all of it at once, as an
// *[UnsupportedError]; nil if there is nothing. A host asks before it makes or changes anything.
func (c Capabilities) Supports(s *Spec) error {
	e := &UnsupportedError{Properties: map[string]string{}}
	for name, o := range optionals {
		if o.asked(s) && (o.effect == EffectRefused || !slices.Contains(c.Properties, name)) {
			e.Properties[name] = o.why
		}
	}
	if len(e.Properties) == 0 {
		return nil
	}
	return e
}

// PropertyInfo describes one property of a payload.
type PropertyInfo struct {
	// Name is the property's, "nics.*.ip" for one inside a list.
	Name string `json:"name"`
	// Kind is text, boolean, integer, texts, integers, object or list.
	Kind string `json:"kind"`
	// Brands take it.
	Brands []Brand `json:"brands"`
	// Update says when a change takes hold; empty if it cannot be changed, or not by its plain name (objects and lists).
	Update Live `json:"update,omitempty"`
	// Effect says what is done with it, Note why where that is not what one expects.
	Effect Effect `json:"effect"`
	Note   string `json:"note,omitempty"`
}

// Properties lists every property that a payload may have, by name. PROPERTIES.md is this list.
func Properties() []PropertyInfo {
	var out []PropertyInfo
	add := func(prefix string, table map[string]property) {
		for name, p := range table {
			i := PropertyInfo{Name: prefix + name, Kind: p.kind.String(), Update: p.update, Effect: EffectServed}
			for _, b := range Brands {
				if p.on&b.class() != 0 {
					i.Brands = append(i.Brands, b)
				}
			}
			if note, ok := kept[i.Name]; ok {
				i.Effect, i.Note = EffectKept, note
			}
			out = append(out, i)
		}
	}
	add("", properties)
	add("nics.*.", nicProperties)
	add("disks.*.", diskProperties)
	add("filesystems.*.", filesystemProperties)
	for i := range out {
		for _, name := range slices.Sorted(maps.Keys(optionals)) {
			o := optionals[name]
			base, form, some := strings.Cut(name, "=")
			if base != out[i].Name {
				continue
			}
			note := o.why
			if some {
				note = fmt.Sprintf("%s: %s, %s", form, o.effect, o.why)
			} else {
				out[i].Effect = o.effect
			}
			out[i].Note = strings.TrimPrefix(out[i].Note+"; "+note, "; ")
		}
	}
	slices.SortFunc(out, func(a, b PropertyInfo) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (k kind) String() string {
	return [...]string{"text", "boolean", "integer", "texts", "integers", "object", "list", "list", "list"}[k]
}
