package zones

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// MaxPayload is the largest payload that ParseSpec and ParseUpdate take, in bytes.
const MaxPayload = 8 << 20

type number = json.Number

// ValidationError reports everything that is wrong with a payload; its JSON is what vmadm validate prints. Entries are
// property names, with index and inner name for what is in a list: "nics.0.ip".
type ValidationError struct {
	BadBrand          string   `json:"bad_brand,omitempty"`
	BadProperties     []string `json:"bad_properties"`
	BadValues         []string `json:"bad_values"`
	MissingProperties []string `json:"missing_properties"`
	// Reasons says more on an entry, for people.
	Reasons map[string]string `json:"-"`
}

func (e *ValidationError) Error() string {
	var parts []string
	if e.BadBrand != "" {
		parts = append(parts, fmt.Sprintf("bad brand %q", e.BadBrand))
	}
	list := func(what string, names []string) {
		if len(names) == 0 {
			return
		}
		shown := make([]string, len(names))
		for i, n := range names {
			shown[i] = n
			if r := e.Reasons[n]; r != "" {
				shown[i] += " (" + r + ")"
			}
		}
		parts = append(parts, what+": "+strings.Join(shown, ", "))
	}
	list("missing properties", e.MissingProperties)
	list("bad properties", e.BadProperties)
	list("bad values", e.BadValues)
	return "invalid payload: " + strings.Join(parts, "; ")
}

// Is makes a ValidationError an ErrInvalid.
func (e *ValidationError) Is(target error) bool { return target == ErrInvalid }

func (e *ValidationError) badProperty(name, why string) { e.add(&e.BadProperties, name, why) }
func (e *ValidationError) badValue(name, why string)    { e.add(&e.BadValues, name, why) }
func (e *ValidationError) missing(name string)          { e.add(&e.MissingProperties, name, "") }

func (e *ValidationError) add(list *[]string, name, why string) {
	if slices.Contains(*list, name) {
		return
	}
	*list = append(*list, name)
	if why != "" {
		e.Reasons[name] = why
	}
}

// result is nil if nothing was found, else e with its lists in order.
func (e *ValidationError) result() error {
	if e.BadBrand == "" && len(e.BadProperties)+len(e.BadValues)+len(e.MissingProperties) == 0 {
		return nil
	}
	for _, l := range []*[]string{&e.BadProperties, &e.BadValues, &e.MissingProperties} {
		slices.Sort(*l)
		if *l == nil {
			*l = []string{}
		}
	}
	return e
}

// ParseSpec reads a payload of vmadm create and checks it. Every problem is in the error, a *[ValidationError]; text
// that is not a JSON object gives another error that is ErrInvalid. No defaults are filled in.
func ParseSpec(data []byte) (*Spec, error) {
	payload, err := decodeObject(data)
	if err != nil {
		return nil, err
	}
	ve := &ValidationError{Reasons: map[string]string{}}
	brandText, _ := payload["brand"].(string)
	if b := payload["brand"]; b == nil || b == "" {
		ve.missing("brand")
		return nil, ve.result()
	}
	brand := Brand(brandText)
	if !brand.Valid() {
		ve.BadBrand = fmt.Sprint(payload["brand"])
		return nil, ve.result()
	}
	out := checkObject(ve, "", brand, properties, payload, func(p property) bool { return p.create })
	if err := ve.result(); err != nil {
		// The rules that need the whole (missing, one against another) run on what could be read.
		if s, err := toSpec(out); err == nil {
			s.rules(ve)
		}
		return nil, ve.result()
	}
	s, err := toSpec(out)
	if err != nil {
		return nil, err
	}
	s.rules(ve)
	if err := ve.result(); err != nil {
		return nil, err
	}
	return s, nil
}

// Validate checks a Spec that was not parsed but filled in, by the same rules.
func (s *Spec) Validate() error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("%w: spec: %w", ErrInvalid, err)
	}
	_, err = ParseSpec(data)
	return err
}

// rules are those that look at more than one property.
func (s *Spec) rules(ve *ValidationError) {
	hvm := s.Brand.HVM()
	if !hvm && s.ImageUUID == "" && !slices.Contains(ve.BadValues, "image_uuid") {
		ve.missing("image_uuid")
	}
	if s.MaxSwap != 0 && s.MaxPhysicalMemory != 0 && s.MaxSwap < s.MaxPhysicalMemory {
		ve.badValue("max_swap", "counts memory too, so it cannot be below max_physical_memory")
	}
	if s.Docker && s.Brand != BrandLX && s.Brand != BrandMinimal {
		ve.badValue("docker", "only with the brands lx and joyent-minimal")
	}
	if s.IndestructibleDelegated && !s.DelegateDataset {
		ve.badValue("indestructible_delegated", "there is no delegated dataset")
	}
	if s.ZoneName != "" && s.UUID != "" && s.ZoneName != s.UUID {
		ve.badValue("zonename", "is the uuid")
	}
	checkNICs(ve, s.NICs)
	boots := 0
	for i, d := range s.Disks {
		at := fmt.Sprintf("disks.%d.", i)
		if d.Size == 0 && d.ImageUUID == "" && !d.NoCreate && d.Media != "cdrom" && !slices.Contains(ve.BadValues, at+"size") {
			ve.missing(at + "size")
		}
		if (d.Media == "cdrom" || d.NoCreate) && d.Path == "" {
			ve.missing(at + "path")
		}
		if d.Boot {
			boots++
		}
	}
	if boots > 1 {
		ve.badValue("disks", "more than one says boot")
	}
	if free := s.FlexibleDiskFree(); s.FlexibleDiskSize > 0 && free < 0 {
		ve.badValue("flexible_disk_size", fmt.Sprintf("the disks have %d MiB more", -free))
	}
	seen := map[string]bool{}
	for i, f := range s.Filesystems {
		at := fmt.Sprintf("filesystems.%d.", i)
		for name, v := range map[string]string{"type": f.Type, "source": f.Source, "target": f.Target} {
			if v == "" && !slices.Contains(ve.BadValues, at+name) {
				ve.missing(at + name)
			}
		}
		if f.Type == "lofs" && f.Source != "" && !absolute(f.Source) {
			ve.badValue(at+"source", "not an absolute path")
		}
		for _, o := range f.Options {
			if !slices.Contains(mountOptions, o) {
				ve.badValue(at+"options", "takes "+strings.Join(mountOptions, ", "))
			}
		}
		if f.Target == "/" || slices.Contains(strings.Split(f.Target, "/"), "..") || seen[f.Target] {
			ve.badValue(at+"target", "the root, with .., or twice")
		}
		seen[f.Target] = true
	}
	for dst, via := range s.Routes {
		if !isPrefix(dst) && !isAddr(dst) {
			ve.badValue("routes", "destination "+strconv.Quote(dst)+" is no address or subnet")
		}
		if !isAddr(via) && !routeVia(via) {
			ve.badValue("routes", "gateway "+strconv.Quote(via)+" is no address, nics[n] or macs[mac]")
		}
	}
	for _, m := range []struct {
		name   string
		values map[string]any
	}{{"customer_metadata", s.CustomerMetadata}, {"internal_metadata", s.InternalMetadata}, {"tags", s.Tags}} {
		for k := range m.values {
			if k == "" || len(k) > 512 || strings.ContainsAny(k, "\n\x00") {
				ve.badValue(m.name, "a key is empty, longer than 512 bytes or has a line break")
			}
		}
	}
}

// mountOptions are what a lofs file system may be given. Devices work on none.
var mountOptions = []string{"ro", "rw", "nosuid", "noexec", "nodevices"}

func routeVia(s string) bool {
	if n, ok := strings.CutPrefix(s, "nics["); ok {
		_, err := strconv.ParseUint(strings.TrimSuffix(n, "]"), 10, 16)
		return err == nil && strings.HasSuffix(n, "]")
	}
	m, ok := strings.CutPrefix(s, "macs[")
	return ok && strings.HasSuffix(m, "]") && macPattern.MatchString(strings.TrimSuffix(m, "]"))
}

func checkNICs(ve *ValidationError, list []NIC) {
	primaries := 0
	macs, ifaces, addrs := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i, n := range list {
		at := fmt.Sprintf("nics.%d.", i)
		isBad := func(name string) bool { return slices.Contains(ve.BadValues, at+name) }
		if n.NICTag == "" && !isBad("nic_tag") {
			ve.missing(at + "nic_tag")
		}
		if n.IP == "" && len(n.IPs) == 0 && !isBad("ip") && !isBad("ips") {
			ve.missing(at + "ip")
		}
		if addr, err := netip.ParseAddr(n.IP); err == nil && addr.Is4() && n.Netmask == "" && len(n.IPs) == 0 && !isBad("netmask") {
			ve.missing(at + "netmask")
		}
		if n.Netmask != "" && !isBad("netmask") {
			if _, ok := maskBits(n.Netmask); !ok {
				ve.badValue(at+"netmask", "not a run of ones and then zeros")
			}
		}
		for _, u := range []struct {
			name, value string
			seen        map[string]bool
		}{{"mac", strings.ToLower(n.MAC), macs}, {"interface", n.Interface, ifaces}} {
			if u.value != "" && u.seen[u.value] {
				ve.badValue(at+u.name, "twice")
			}
			u.seen[u.value] = true
		}
		for _, ip := range append([]string{n.IP}, n.IPs...) {
			addr, _, _ := strings.Cut(ip, "/")
			if a, err := netip.ParseAddr(addr); err == nil {
				key := fmt.Sprint(a, " ", n.NICTag, " ", n.VLANID)
				if addrs[key] && ip != n.IP && !strings.HasPrefix(ip, n.IP+"/") {
					ve.badValue(at+"ips", "an address twice")
				}
				addrs[key] = true
			}
		}
		checkVRRP(ve, at, &n, list)
		if n.Primary {
			primaries++
		}
	}
	if primaries > 1 {
		ve.badValue("nics", "more than one is primary")
	}
}

// checkVRRP checks a virtual router's NIC against the machine's others.
func checkVRRP(ve *ValidationError, at string, n *NIC, all []NIC) {
	if n.VRRPVRID == 0 {
		if n.VRRPPrimaryIP != "" {
			ve.missing(at + "vrrp_vrid")
		}
		return
	}
	if n.MAC != "" && !strings.EqualFold(n.MAC, n.VRRPMAC()) {
		ve.badValue(at+"mac", "is "+n.VRRPMAC()+" with this vrrp_vrid")
	}
	if n.VRRPPrimaryIP == "" {
		ve.missing(at + "vrrp_primary_ip")
		return
	}
	primary, err := netip.ParseAddr(n.VRRPPrimaryIP)
	own := slices.ContainsFunc(all, func(o NIC) bool {
		return o.VRRPVRID == 0 && slices.ContainsFunc(o.Prefixes(), func(p netip.Prefix) bool { return p.Addr() == primary })
	})
	if err != nil || !own {
		ve.badValue(at+"vrrp_primary_ip", "is no static address of another NIC")
	}
}

// maskBits turns a netmask into a prefix length.
func maskBits(s string) (int, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, false
	}
	b := a.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n := 0
	for v&(1<<31) != 0 {
		n++
		v <<= 1
	}
	return n, v == 0
}

// Prefixes are the interface's static addresses with their prefix lengths, from ips or from ip and netmask; "dhcp" and
// "addrconf" are left out.
func (n *NIC) Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range n.IPs {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
		}
	}
	if len(n.IPs) == 0 {
		if a, err := netip.ParseAddr(n.IP); err == nil {
			bits := a.BitLen()
			if b, ok := maskBits(n.Netmask); ok && a.Is4() {
				bits = b
			}
			out = append(out, netip.PrefixFrom(a, bits))
		}
	}
	return out
}

// checkObject checks one object against a table and returns its normal form.
func checkObject(ve *ValidationError, prefix string, brand Brand, table map[string]property, in map[string]any,
	allowed func(property) bool) map[string]any {
	out := make(map[string]any, len(in))
	for _, name := range slices.Sorted(maps.Keys(in)) {
		v, at := in[name], prefix+name
		p, known := table[name]
		switch {
		case !known:
			ve.badProperty(at, "unknown")
			continue
		case p.on&brand.class() == 0:
			ve.badProperty(at, "not for brand "+string(brand))
			continue
		case !allowed(p):
			ve.badProperty(at, "not settable here")
			continue
		case v == nil: // null is absent
			continue
		}
		if n, ok := checkValue(ve, at, brand, p, v); ok {
			out[name] = n
		}
	}
	return out
}

func checkValue(ve *ValidationError, at string, brand Brand, p property, v any) (any, bool) {
	table := map[kind]map[string]property{nics: nicProperties, disks: diskProperties, filesystems: filesystemProperties}[p.kind]
	switch {
	case table != nil:
		list, ok := v.([]any)
		if !ok || len(list) > 64 {
			ve.badValue(at, "not a list of at most 64 objects")
			return nil, false
		}
		out := make([]any, 0, len(list))
		for i, e := range list {
			obj, ok := e.(map[string]any)
			if !ok {
				ve.badValue(fmt.Sprintf("%s.%d", at, i), "not an object")
				obj = nil
			}
			// Bad entries stay as empty ones, so that indexes in later reports are the caller's.
			out = append(out, checkObject(ve, fmt.Sprintf("%s.%d.", at, i), brand, table, obj, func(property) bool { return true }))
		}
		return out, true
	case p.kind == flat:
		obj, ok := v.(map[string]any)
		if !ok {
			ve.badValue(at, "not an object")
			return nil, false
		}
		for k, e := range obj {
			switch e.(type) {
			case string, bool, number:
			default:
				ve.badValue(at+"."+k, "not a string, number or boolean")
				return nil, false
			}
			if at == "routes" {
				if _, ok := e.(string); !ok {
					ve.badValue(at+"."+k, "not a string")
					return nil, false
				}
			}
		}
		return obj, true
	}
	n, ok := normal(p.kind, v)
	if !ok {
		ve.badValue(at, "wrong type")
		return nil, false
	}
	if p.check != nil && !p.check(n) {
		ve.badValue(at, "out of range or malformed")
		return nil, false
	}
	return n, true
}

func toSpec(m map[string]any) (*Spec, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	s := new(Spec)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return s, nil
}

func decodeObject(data []byte) (map[string]any, error) {
	if len(data) > MaxPayload {
		return nil, fmt.Errorf("%w: payload of %d bytes, at most %d are taken", ErrInvalid, len(data), MaxPayload)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("%w: payload is not a JSON object: %w", ErrInvalid, err)
	}
	if m == nil {
		return nil, fmt.Errorf("%w: payload is null", ErrInvalid)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: text after the payload", ErrInvalid)
	}
	return m, nil
}
