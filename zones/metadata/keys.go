package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mobulacloud/mobula/zones"
)

// Errors of what a guest asks for. It learns only NOTFOUND or FAILURE; the host's log has the reason.
var (
	// ErrNotFound: the zone has no such key.
	ErrNotFound = fmt.Errorf("metadata key %w", zones.ErrNotExist)
	// ErrReadOnly: the key is not the guest's to change.
	ErrReadOnly = errors.New("metadata key is read-only")
	// ErrInvalid: the key or value cannot be one.
	ErrInvalid = fmt.Errorf("metadata key or value %w", zones.ErrInvalid)
	// ErrQuota: the zone would have more metadata than it may.
	ErrQuota = fmt.Errorf("metadata quota: %w", zones.ErrNoSpace)
)

// Quota bounds what a guest may keep in its metadata.
type Quota struct {
	Keys  int // 1024 when 0
	Bytes int // of all keys and values together, 1 MiB when 0
}

// properties are those of a zone's record that `sdc:` shows, besides nics, resolvers, routes and tags. The rest holds
// what is not for the tenant: internal metadata, passwords, the host's own paths.
var properties = map[string]bool{
	"alias": true, "autoboot": true, "billing_id": true, "boot_timestamp": true, "brand": true, "cpu_cap": true,
	"cpu_shares": true, "create_timestamp": true, "delegate_dataset": true, "dns_domain": true, "docker": true,
	"firewall_enabled": true, "hostname": true, "image_uuid": true, "kernel_version": true, "last_modified": true,
	"maintain_resolvers": true, "max_locked_memory": true, "max_lwps": true, "max_physical_memory": true, "max_swap": true,
	"mdata_exec_timeout": true, "owner_uuid": true, "package_name": true, "package_version": true, "quota": true, "ram": true,
	"server_uuid": true, "state": true, "tmpfs": true, "type": true, "uuid": true, "vcpus": true, "zfs_io_priority": true,
	"zone_state": true, "zonename": true,
}

// lookup answers the value of a key as the guest sees it, or ErrNotFound.
func lookup(z *zones.Zone, datacenter, key string) (string, error) {
	if name, ok := strings.CutPrefix(key, "sdc:"); ok {
		return property(z, datacenter, name)
	}
	from := z.CustomerMetadata
	if internal(z, key) {
		from = z.InternalMetadata
	}
	v, ok := from[key]
	if !ok {
		return "", ErrNotFound
	}
	return text(v)
}

// internal reports whether a key is kept in internal metadata.
func internal(z *zones.Zone, key string) bool { return password(key) || reserved(z, key) }

// password: the guest sets and forgets these itself, but they are shown to nobody else.
func password(key string) bool { return strings.HasSuffix(key, "_pw") }

// reserved: in a namespace that the operator keeps for himself.
func reserved(z *zones.Zone, key string) bool {
	ns, _, ok := strings.Cut(key, ":")
	return ok && slices.Contains(z.InternalMetadataNamespaces, ns)
}

func property(z *zones.Zone, datacenter, name string) (string, error) {
	switch name {
	case "datacenter_name":
		return datacenter, nil
	case "nics":
		return encode(slices.Concat([]zones.NIC{}, z.NICs))
	case "resolvers":
		return encode(slices.Concat([]string{}, z.Resolvers))
	case "routes":
		return encode(routes(z))
	case "operator-script":
		if v, ok := z.InternalMetadata["operator-script"]; ok {
			return text(v)
		}
		return "", ErrNotFound
	case "volumes":
		if v, ok := z.InternalMetadata["sdc:volumes"]; ok {
			return text(v)
		}
		return "", ErrNotFound
	}
	if tag, ok := strings.CutPrefix(name, "tags."); ok {
		if v, ok := z.Tags[tag]; ok {
			return text(v)
		}
		return "", ErrNotFound
	}
	if !properties[name] {
		return "", ErrNotFound
	}
	// The record's own JSON has the names and forms that guests know.
	b, err := json.Marshal(z)
	if err != nil {
		return "", err
	}
	var record map[string]json.RawMessage
	if err := json.Unmarshal(b, &record); err != nil {
		return "", err
	}
	raw, ok := record[name]
	if !ok {
		return "", ErrNotFound
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, nil
	}
	return string(raw), nil
}

// route is an entry of sdc:routes.
type route struct {
	LinkLocal bool   `json:"linklocal"`
	Dst       string `json:"dst"`
	Gateway   string `json:"gateway"`
}

// routes resolves the NICs that routes may name to those NICs' own addresses.
func routes(z *zones.Zone) []route {
	out := []route{}
	for _, dst := range slices.Sorted(maps.Keys(z.Routes)) {
		via := z.Routes[dst]
		if _, err := netip.ParseAddr(via); err == nil {
			out = append(out, route{Dst: dst, Gateway: via})
			continue
		}
		for i, nic := range z.NICs {
			if via != fmt.Sprintf("nics[%d]", i) && via != "macs["+nic.MAC+"]" {
				continue
			}
			if addr := address(nic); addr != "" {
				out = append(out, route{LinkLocal: true, Dst: dst, Gateway: addr})
			}
		}
	}
	return out
}

func address(nic zones.NIC) string {
	for _, ip := range append([]string{nic.IP}, nic.IPs...) {
		if a, _, _ := strings.Cut(ip, "/"); a != "" {
			if _, err := netip.ParseAddr(a); err == nil {
				return a
			}
		}
	}
	return ""
}

// keys lists what KEYS shows: the customer's, and internal ones in a reserved namespace.
func keys(z *zones.Zone) []string {
	var out []string
	for k := range z.CustomerMetadata {
		if !internal(z, k) {
			out = append(out, k)
		}
	}
	for k := range z.InternalMetadata {
		if reserved(z, k) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// checkChange says whether a guest may make a change.
func checkChange(z *zones.Zone, q Quota, c *Change) error {
	if c.Key == "" || len(c.Key) > MaxKey || !printable(c.Key) || len(c.Value) > MaxValue || !utf8.ValidString(c.Value) ||
		strings.IndexByte(c.Value, 0) >= 0 {
		return ErrInvalid
	}
	if strings.HasPrefix(c.Key, "sdc:") || reserved(z, c.Key) {
		return ErrReadOnly
	}
	c.Internal = password(c.Key)
	if c.Delete {
		return nil
	}
	if q.Keys == 0 {
		q.Keys = 1024
	}
	if q.Bytes == 0 {
		q.Bytes = 1 << 20
	}
	count, size := 1, len(c.Key)+len(c.Value)
	for i, m := range []map[string]any{z.CustomerMetadata, z.InternalMetadata} {
		for k, v := range m {
			// Internal metadata of the operator's costs the guest nothing.
			if k == c.Key || i == 1 && !password(k) {
				continue
			}
			s, _ := text(v)
			count++
			size += len(k) + len(s)
		}
	}
	if count > q.Keys || size > q.Bytes {
		return ErrQuota
	}
	return nil
}

// printable keeps keys to what can stand on a line of either version.
func printable(key string) bool {
	if !utf8.ValidString(key) {
		return false
	}
	for _, r := range key {
		if r < 0x20 || r == 0x7f {
			return false
		}
	}
	return strings.TrimSpace(key) == key
}

// text is a metadata value as the guest sees it: strings as they are, numbers and booleans as JSON.
func text(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	return encode(v)
}

func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
