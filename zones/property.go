package zones

import (
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Live says when an update of a property takes hold.
type Live string

const (
	// LiveNow: at once, in the running zone.
	LiveNow Live = "now"
	// LiveRecord: at once, as only records change.
	LiveRecord Live = "record"
	// LiveReboot: when the zone is next started.
	LiveReboot Live = "reboot"
)

// property is one row of the table: who takes it, when, and which values.
type property struct {
	kind   kind
	on     class
	create bool
	update Live // empty: not by update
	check  func(any) bool
}

type kind uint8

const (
	text kind = iota
	boolean
	integer
	texts    // array of strings
	integers // array of integers
	flat     // object of strings, numbers, booleans
	nics
	disks
	filesystems
)

var (
	aliasPattern    = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,188}$`)
	hostnamePattern = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,62})$`)
	zonenamePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$`)
	domainPattern   = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,253})$`)
	tagPattern      = regexp.MustCompile(`^[a-zA-Z0-9_./:-]{1,63}$`)
	macPattern      = regexp.MustCompile(`^[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}$`)
	ifacePattern    = regexp.MustCompile(`^net[0-9]{1,3}$`)
	slotPattern     = regexp.MustCompile(`^[0-9]{1,3}:[0-9]{1,2}(:[0-7])?$`)
	uuidPattern     = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
)

func matches(re *regexp.Regexp) func(any) bool {
	return func(v any) bool { return re.MatchString(v.(string)) }
}

func within(lo, hi int64) func(any) bool {
	return func(v any) bool { n := v.(int64); return n >= lo && n <= hi }
}

func oneOf(values ...string) func(any) bool {
	return func(v any) bool { return slices.Contains(values, v.(string)) }
}

func shorter(n int) func(any) bool {
	return func(v any) bool { s := v.(string); return len(s) <= n && strings.IndexByte(s, 0) < 0 }
}

func powerOfTwo(lo, hi int64) func(any) bool {
	return func(v any) bool { n := v.(int64); return n >= lo && n <= hi && n&(n-1) == 0 }
}

func absolute(v any) bool {
	s := v.(string)
	return strings.HasPrefix(s, "/") && len(s) < 1024 && strings.IndexByte(s, 0) < 0
}

func isImage(v any) bool { s := v.(string); return s == SparseImage || uuidPattern.MatchString(s) }

func isAddr(v any) bool { _, err := netip.ParseAddr(v.(string)); return err == nil }

func all(check func(any) bool) func(any) bool {
	return func(v any) bool {
		for _, s := range v.([]string) {
			if !check(s) {
				return false
			}
		}
		return true
	}
}

func atMost(n int, check func(any) bool) func(any) bool {
	each := all(check)
	return func(v any) bool { return len(v.([]string)) <= n && each(v) }
}

const (
	maxMiB  = 1 << 30 // a PiB
	maxName = 512
)

var (
	count       = within(0, math.MaxInt32)
	mib         = within(0, maxMiB)
	compression = oneOf("on", "off", "lz4", "lzjb", "zle", "zstd", "gzip", "gzip-1", "gzip-2", "gzip-3", "gzip-4",
		"gzip-5", "gzip-6", "gzip-7", "gzip-8", "gzip-9")
	recsize = powerOfTwo(512, 131072)
)

// properties is vmadm's table. Keys are the names in a payload.
var properties = map[string]property{
	"alias":                        {text, onAny, true, LiveRecord, matches(aliasPattern)},
	"archive_on_delete":            {boolean, onAny, true, LiveRecord, nil},
	"autoboot":                     {boolean, onAny, true, LiveRecord, nil},
	"billing_id":                   {text, onAny, true, LiveRecord, matches(uuidPattern)},
	"boot":                         {text, onKVM, true, LiveReboot, shorter(maxName)},
	"bootrom":                      {text, onBhyve, true, LiveReboot, func(v any) bool { return oneOf("bios", "uefi")(v) || absolute(v) }},
	"brand":                        {text, onAny, true, "", nil},
	"bhyve_extra_opts":             {text, onBhyve, true, LiveReboot, shorter(4096)},
	"cpu_cap":                      {integer, onAny, true, LiveNow, within(0, 1<<20)},
	"cpu_shares":                   {integer, onAny, true, LiveNow, within(1, 65535)},
	"cpu_type":                     {text, onKVM, true, LiveReboot, oneOf("qemu64", "host")},
	"customer_metadata":            {flat, onAny, true, "", nil},
	"delegate_dataset":             {boolean, onOS, true, "", nil},
	"disks":                        {disks, onHVM, true, "", nil},
	"disk_driver":                  {text, onHVM, true, LiveReboot, oneOf("virtio", "ide", "scsi")},
	"dns_domain":                   {text, onOS, true, "", matches(domainPattern)},
	"do_not_inventory":             {boolean, onAny, true, LiveRecord, nil},
	"docker":                       {boolean, onOS, true, "", nil},
	"filesystems":                  {filesystems, onOS, true, "", nil},
	"firewall_enabled":             {boolean, onAny, true, LiveNow, nil},
	"flexible_disk_size":           {integer, onBhyve, true, LiveNow, mib},
	"fs_allowed":                   {text, onOS, true, LiveReboot, shorter(4096)},
	"hostname":                     {text, onAny, true, LiveReboot, matches(hostnamePattern)},
	"image_uuid":                   {text, onOS, true, "", isImage},
	"indestructible_delegated":     {boolean, onOS, true, LiveRecord, nil},
	"indestructible_zoneroot":      {boolean, onAny, true, LiveRecord, nil},
	"init_name":                    {text, onLX, true, LiveReboot, absolute},
	"internal_metadata":            {flat, onAny, true, "", nil},
	"internal_metadata_namespaces": {texts, onAny, true, LiveRecord, atMost(64, matches(tagPattern))},
	"kernel_version":               {text, onLX, true, LiveReboot, shorter(64)},
	"limit_priv":                   {text, onOS, true, LiveReboot, shorter(4096)},
	"maintain_resolvers":           {boolean, onOS, true, LiveReboot, nil},
	"max_locked_memory":            {integer, onAny, true, LiveNow, mib},
	"max_lwps":                     {integer, onAny, true, LiveNow, within(1, 1<<22)},
	"max_msg_ids":                  {integer, onOS, true, LiveNow, count},
	"max_physical_memory":          {integer, onAny, true, LiveNow, within(1, maxMiB)},
	"max_sem_ids":                  {integer, onOS, true, LiveNow, count},
	"max_shm_ids":                  {integer, onOS, true, LiveNow, count},
	"max_shm_memory":               {integer, onOS, true, LiveNow, mib},
	"max_swap":                     {integer, onAny, true, LiveNow, within(256, maxMiB)},
	"mdata_exec_timeout":           {integer, onOS, true, "", within(0, 86400)},
	"nic_driver":                   {text, onHVM, true, LiveReboot, oneOf("virtio", "e1000", "rtl8139")},
	"nics":                         {nics, onAny, true, "", nil},
	"nowait":                       {boolean, onOS, true, "", nil},
	"owner_uuid":                   {text, onAny, true, LiveRecord, matches(uuidPattern)},
	"package_name":                 {text, onAny, true, LiveRecord, shorter(maxName)},
	"package_version":              {text, onAny, true, LiveRecord, shorter(maxName)},
	"qemu_opts":                    {text, onKVM, true, LiveReboot, shorter(4096)},
	"qemu_extra_opts":              {text, onKVM, true, LiveReboot, shorter(4096)},
	"quota":                        {integer, onAny, true, LiveNow, within(0, 1<<20)},
	"ram":                          {integer, onAny, true, LiveReboot, within(1, maxMiB)},
	"resolvers":                    {texts, onAny, true, LiveReboot, atMost(8, isAddr)},
	"routes":                       {flat, onOS, true, "", nil},
	"spice_opts":                   {text, onKVM, true, LiveReboot, shorter(4096)},
	"spice_password":               {text, onKVM, true, LiveReboot, shorter(8)},
	"spice_port":                   {integer, onKVM, true, LiveReboot, within(-1, 65535)},
	"tags":                         {flat, onAny, true, "", nil},
	"tmpfs":                        {integer, onOS, true, LiveReboot, mib},
	"uuid":                         {text, onAny, true, "", matches(uuidPattern)},
	"vcpus":                        {integer, onHVM, true, LiveReboot, within(1, 64)},
	"vga":                          {text, onKVM, true, LiveReboot, oneOf("std", "cirrus", "qxl", "xenfb", "vmware", "virtio", "none")},
	"virtio_txburst":               {integer, onKVM, true, LiveReboot, count},
	"virtio_txtimer":               {integer, onKVM, true, LiveReboot, count},
	"vnc_password":                 {text, onHVM, true, LiveReboot, shorter(8)},
	"vnc_port":                     {integer, onHVM, true, LiveReboot, within(-1, 65535)},
	"zfs_data_compression":         {text, onOS, true, LiveRecord, compression},
	"zfs_data_recsize":             {integer, onOS, true, LiveRecord, recsize},
	"zfs_filesystem_limit":         {integer, onOS, true, LiveRecord, count},
	"zfs_io_priority":              {integer, onAny, true, LiveNow, within(1, 1000)},
	"zfs_root_compression":         {text, onOS, true, LiveRecord, compression},
	"zfs_root_recsize":             {integer, onOS, true, LiveRecord, recsize},
	"zfs_snapshot_limit":           {integer, onOS, true, LiveRecord, count},
	"zlog_max_size":                {integer, onOS, true, LiveReboot, within(0, math.MaxInt64)},
	"zlog_mode":                    {text, onOS, true, "", shorter(64)},
	"zonename":                     {text, onOS, true, "", matches(zonenamePattern)},
	"zpool":                        {text, onAny, true, "", matches(tagPattern)},
}

var nicProperties = map[string]property{
	"mac":                      {text, onAny, true, "", matches(macPattern)},
	"interface":                {text, onAny, true, LiveReboot, matches(ifacePattern)},
	"nic_tag":                  {text, onAny, true, LiveReboot, matches(tagPattern)},
	"vlan_id":                  {integer, onAny, true, LiveReboot, within(0, 4094)},
	"ip":                       {text, onAny, true, LiveReboot, func(v any) bool { return v == "dhcp" || isAddr(v) }},
	"netmask":                  {text, onAny, true, LiveReboot, isAddr},
	"ips":                      {texts, onAny, true, LiveReboot, atMost(64, isAddressing)},
	"gateway":                  {text, onAny, true, LiveReboot, isAddr},
	"gateways":                 {texts, onAny, true, LiveReboot, atMost(64, isAddr)},
	"primary":                  {boolean, onAny, true, LiveReboot, nil},
	"model":                    {text, onAny, true, LiveReboot, oneOf("virtio", "e1000", "rtl8139")},
	"mtu":                      {integer, onAny, true, LiveReboot, within(576, 9000)},
	"network_uuid":             {text, onAny, true, LiveRecord, matches(uuidPattern)},
	"blocked_outgoing_ports":   {integers, onAny, true, LiveReboot, nil},
	"allowed_ips":              {texts, onAny, true, LiveReboot, atMost(64, func(v any) bool { return isPrefix(v) || isAddr(v) })},
	"allowed_dhcp_cids":        {texts, onAny, true, LiveReboot, atMost(64, shorter(maxName))},
	"vrrp_vrid":                {integer, onAny, true, LiveReboot, within(1, 255)},
	"vrrp_primary_ip":          {text, onAny, true, LiveReboot, isAddr},
	"allow_ip_spoofing":        {boolean, onAny, true, LiveReboot, nil},
	"allow_mac_spoofing":       {boolean, onAny, true, LiveReboot, nil},
	"allow_dhcp_spoofing":      {boolean, onAny, true, LiveReboot, nil},
	"allow_restricted_traffic": {boolean, onAny, true, LiveReboot, nil},
	"allow_unfiltered_promisc": {boolean, onAny, true, LiveReboot, nil},
}

func isPrefix(v any) bool     { _, err := netip.ParsePrefix(v.(string)); return err == nil }
func isAddressing(v any) bool { return v == "dhcp" || v == "addrconf" || isPrefix(v) }

var diskProperties = map[string]property{
	"path":             {text, onHVM, true, "", absolute},
	"uuid":             {text, onBhyve, true, "", matches(uuidPattern)},
	"size":             {integer, onHVM, true, LiveNow, within(1, maxMiB)},
	"image_uuid":       {text, onHVM, true, "", matches(uuidPattern)},
	"image_size":       {integer, onHVM, true, "", mib},
	"image_name":       {text, onHVM, true, "", shorter(maxName)},
	"boot":             {boolean, onHVM, true, LiveReboot, nil},
	"media":            {text, onHVM, true, LiveReboot, oneOf("disk", "cdrom")},
	"model":            {text, onHVM, true, LiveReboot, oneOf("virtio", "ide", "scsi")},
	"pci_slot":         {text, onHVM, true, LiveReboot, matches(slotPattern)},
	"block_size":       {integer, onHVM, true, "", recsize},
	"guest_block_size": {text, onBhyve, true, LiveReboot, shorter(32)},
	"compression":      {text, onHVM, true, LiveRecord, compression},
	"refreservation":   {integer, onHVM, true, LiveRecord, mib},
	"zpool":            {text, onHVM, true, "", matches(tagPattern)},
	"nocreate":         {boolean, onHVM, true, "", nil},
	"notrim":           {boolean, onHVM, true, LiveReboot, nil},
}

var filesystemProperties = map[string]property{
	"type":    {text, onOS, true, LiveReboot, oneOf("lofs", "nfs")},
	"source":  {text, onOS, true, LiveReboot, shorter(1024)},
	"target":  {text, onOS, true, "", absolute},
	"raw":     {text, onOS, true, LiveReboot, absolute},
	"options": {texts, onOS, true, LiveReboot, atMost(32, shorter(128))},
}

// normal brings a decoded JSON value (numbers as json.Number) to the kind's Go form, taking what vmadm takes: numbers and booleans
// may be text, as they are on a command line.
func normal(k kind, v any) (any, bool) {
	switch k {
	case text:
		switch v := v.(type) {
		case string:
			return v, true
		case number:
			return v.String(), true
		}
	case boolean:
		switch v := v.(type) {
		case bool:
			return v, true
		case string:
			switch v {
			case "true", "1":
				return true, true
			case "false", "0":
				return false, true
			}
		case number:
			if s := v.String(); s == "0" || s == "1" {
				return s == "1", true
			}
		}
	case integer:
		var s string
		switch v := v.(type) {
		case number:
			s = v.String()
		case string:
			s = v
		}
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n, true
		}
		if f, err := strconv.ParseFloat(s, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int64(f), true
		}
	case texts:
		list, ok := v.([]any)
		if s, isText := v.(string); isText { // a comma list, as on the command line
			out := []string{}
			for part := range strings.SplitSeq(s, ",") {
				if part != "" {
					out = append(out, part)
				}
			}
			return out, true
		}
		if !ok {
			return nil, false
		}
		out := make([]string, len(list))
		for i, e := range list {
			if out[i], ok = e.(string); !ok {
				return nil, false
			}
		}
		return out, true
	case integers:
		list, ok := v.([]any)
		if !ok {
			return nil, false
		}
		out := make([]int64, len(list))
		for i, e := range list {
			n, ok := normal(integer, e)
			if !ok || !within(0, 65535)(n) {
				return nil, false
			}
			out[i] = n.(int64)
		}
		return out, true
	}
	return nil, false
}
