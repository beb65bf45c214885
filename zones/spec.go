package zones

import (
	"fmt"
	"maps"
)

// SparseImage is the image_uuid that names the built-in image: the host's /usr read-only, the rest the zone's own.
const SparseImage = "sparse"

// NilUUID is vmadm's default for owner_uuid and billing_id.
const NilUUID = "00000000-0000-0000-0000-000000000000"

// Spec is what a zone should be, with vmadm's property names. JSON keys are those of vmadm create; units are MiB unless
// said. Make one with [ParseSpec], or fill in the fields and call [Spec.Validate]; [Spec.SetDefaults] fills what is
// absent. A pointer field is one where absent and zero differ.
type Spec struct {
	UUID      string `json:"uuid,omitempty"`
	Alias     string `json:"alias,omitempty"`
	Brand     Brand  `json:"brand"`
	OwnerUUID string `json:"owner_uuid,omitempty"`
	// BillingID is the package's uuid.
	BillingID      string `json:"billing_id,omitempty"`
	PackageName    string `json:"package_name,omitempty"`
	PackageVersion string `json:"package_version,omitempty"`
	ImageUUID      string `json:"image_uuid,omitempty"`
	ZoneName       string `json:"zonename,omitempty"`
	ZPool          string `json:"zpool,omitempty"`

	// Autoboot starts the zone when created and when the host comes up; true when absent.
	Autoboot *bool `json:"autoboot,omitempty"`
	// NoWait returns from create before the zone is provisioned.
	NoWait          bool `json:"nowait,omitempty"`
	ArchiveOnDelete bool `json:"archive_on_delete,omitempty"`
	DoNotInventory  bool `json:"do_not_inventory,omitempty"`
	// IndestructibleZoneroot and IndestructibleDelegated refuse deletion until they are set to false.
	IndestructibleZoneroot  bool `json:"indestructible_zoneroot,omitempty"`
	IndestructibleDelegated bool `json:"indestructible_delegated,omitempty"`

	// CPUCap is in percent of one CPU, 0 none; CPUShares the weight among zones.
	CPUCap    int `json:"cpu_cap,omitempty"`
	CPUShares int `json:"cpu_shares,omitempty"`
	// MaxPhysicalMemory and MaxSwap (which counts memory too, at least 256) limit memory; MaxLockedMemory what is
	// pinned; MaxLWPs threads and processes.
	MaxPhysicalMemory int64 `json:"max_physical_memory,omitempty"`
	MaxSwap           int64 `json:"max_swap,omitempty"`
	MaxLockedMemory   int64 `json:"max_locked_memory,omitempty"`
	MaxLWPs           int64 `json:"max_lwps,omitempty"`
	MaxMsgIDs         int64 `json:"max_msg_ids,omitempty"`
	MaxSemIDs         int64 `json:"max_sem_ids,omitempty"`
	MaxShmIDs         int64 `json:"max_shm_ids,omitempty"`
	MaxShmMemory      int64 `json:"max_shm_memory,omitempty"`
	// TmpFS is the size of /tmp, 0 keeps it on disk.
	TmpFS *int64 `json:"tmpfs,omitempty"`
	// Quota is in GiB for root and delegated dataset together, 0 none.
	Quota *int64 `json:"quota,omitempty"`
	// ZFSIOPriority is the weight on busy disks.
	ZFSIOPriority      int    `json:"zfs_io_priority,omitempty"`
	ZFSDataCompression string `json:"zfs_data_compression,omitempty"`
	ZFSDataRecsize     int64  `json:"zfs_data_recsize,omitempty"`
	ZFSRootCompression string `json:"zfs_root_compression,omitempty"`
	ZFSRootRecsize     int64  `json:"zfs_root_recsize,omitempty"`
	// ZFSFilesystemLimit and ZFSSnapshotLimit bound what the zone may have; absent is no limit.
	ZFSFilesystemLimit *int64 `json:"zfs_filesystem_limit,omitempty"`
	ZFSSnapshotLimit   *int64 `json:"zfs_snapshot_limit,omitempty"`

	Hostname          string            `json:"hostname,omitempty"`
	DNSDomain         string            `json:"dns_domain,omitempty"`
	Resolvers         []string          `json:"resolvers,omitempty"`
	MaintainResolvers bool              `json:"maintain_resolvers,omitempty"`
	Routes            map[string]string `json:"routes,omitempty"`
	FirewallEnabled   bool              `json:"firewall_enabled,omitempty"`
	NICs              []NIC             `json:"nics,omitempty"`

	// CustomerMetadata is the guest's to read and write, InternalMetadata its operator's. Values are strings, numbers or
	// booleans.
	CustomerMetadata           map[string]any `json:"customer_metadata,omitempty"`
	InternalMetadata           map[string]any `json:"internal_metadata,omitempty"`
	InternalMetadataNamespaces []string       `json:"internal_metadata_namespaces,omitempty"`
	Tags                       map[string]any `json:"tags,omitempty"`

	// OS containers.
	DelegateDataset  bool         `json:"delegate_dataset,omitempty"`
	Filesystems      []Filesystem `json:"filesystems,omitempty"`
	FSAllowed        string       `json:"fs_allowed,omitempty"`
	LimitPriv        string       `json:"limit_priv,omitempty"`
	MdataExecTimeout int          `json:"mdata_exec_timeout,omitempty"`
	Docker           bool         `json:"docker,omitempty"`
	KernelVersion    string       `json:"kernel_version,omitempty"`
	InitName         string       `json:"init_name,omitempty"`
	ZLogMaxSize      int64        `json:"zlog_max_size,omitempty"`
	ZLogMode         string       `json:"zlog_mode,omitempty"`

	// Hardware VMs.
	RAM              int64    `json:"ram,omitempty"`
	VCPUs            int      `json:"vcpus,omitempty"`
	CPUType          string   `json:"cpu_type,omitempty"`
	Boot             string   `json:"boot,omitempty"`
	Bootrom          string   `json:"bootrom,omitempty"`
	Disks            []Volume `json:"disks,omitempty"`
	DiskDriver       string   `json:"disk_driver,omitempty"`
	NICDriver        string   `json:"nic_driver,omitempty"`
	FlexibleDiskSize int64    `json:"flexible_disk_size,omitempty"`
	QEMUOpts         string   `json:"qemu_opts,omitempty"`
	QEMUExtraOpts    string   `json:"qemu_extra_opts,omitempty"`
	BhyveExtraOpts   string   `json:"bhyve_extra_opts,omitempty"`
	SpiceOpts        string   `json:"spice_opts,omitempty"`
	SpicePassword    string   `json:"spice_password,omitempty"`
	SpicePort        int      `json:"spice_port,omitempty"`
	VGA              string   `json:"vga,omitempty"`
	VirtioTxBurst    int      `json:"virtio_txburst,omitempty"`
	VirtioTxTimer    int      `json:"virtio_txtimer,omitempty"`
	VNCPassword      string   `json:"vnc_password,omitempty"`
	// VNCPort 0 picks one, -1 turns it off.
	VNCPort int `json:"vnc_port,omitempty"`
}

// Filesystem is an entry of filesystems: something of the host shown in an OS container.
type Filesystem struct {
	// Type is "lofs" (a bind) or "nfs".
	Type   string `json:"type"`
	Source string `json:"source"`
	Target string `json:"target"`
	Raw    string `json:"raw,omitempty"`
	// Options such as "ro", "nosuid".
	Options []string `json:"options,omitempty"`
}

// Volume is an entry of disks.
type Volume struct {
	Path string `json:"path,omitempty"`
	UUID string `json:"uuid,omitempty"`
	// Size in MiB; the image's when there is one and this is absent.
	Size      int64  `json:"size,omitempty"`
	ImageUUID string `json:"image_uuid,omitempty"`
	ImageSize int64  `json:"image_size,omitempty"`
	ImageName string `json:"image_name,omitempty"`
	Boot      bool   `json:"boot,omitempty"`
	// Media is disk or cdrom; Model virtio, ide or scsi.
	Media          string `json:"media,omitempty"`
	Model          string `json:"model,omitempty"`
	PCISlot        string `json:"pci_slot,omitempty"`
	BlockSize      int64  `json:"block_size,omitempty"`
	GuestBlockSize string `json:"guest_block_size,omitempty"`
	Compression    string `json:"compression,omitempty"`
	Refreservation *int64 `json:"refreservation,omitempty"`
	ZPool          string `json:"zpool,omitempty"`
	NoCreate       bool   `json:"nocreate,omitempty"`
	NoTrim         bool   `json:"notrim,omitempty"`
}

// NIC is an entry of nics. Every allow_ switch is off, and so protective, when absent.
type NIC struct {
	MAC       string `json:"mac,omitempty"`
	Interface string `json:"interface,omitempty"`
	NICTag    string `json:"nic_tag,omitempty"`
	VLANID    int    `json:"vlan_id,omitempty"`
	// IP and Netmask are the older form of one of IPs, which are CIDRs, "dhcp" or "addrconf". IP may be "dhcp".
	IP       string   `json:"ip,omitempty"`
	Netmask  string   `json:"netmask,omitempty"`
	IPs      []string `json:"ips,omitempty"`
	Gateway  string   `json:"gateway,omitempty"`
	Gateways []string `json:"gateways,omitempty"`
	Primary  bool     `json:"primary,omitempty"`
	Model    string   `json:"model,omitempty"`
	MTU      int      `json:"mtu,omitempty"`

	NetworkUUID          string   `json:"network_uuid,omitempty"`
	BlockedOutgoingPorts []int    `json:"blocked_outgoing_ports,omitempty"`
	AllowedIPs           []string `json:"allowed_ips,omitempty"`
	AllowedDHCPCIDs      []string `json:"allowed_dhcp_cids,omitempty"`
	// VRRPVRID, 1 to 255, makes the NIC one of a virtual router's: its MAC is that router's, and its addresses move between the machines of the
	// router. VRRPPrimaryIP is the address, of another NIC of the machine, that it says so from.
	VRRPVRID      int    `json:"vrrp_vrid,omitempty"`
	VRRPPrimaryIP string `json:"vrrp_primary_ip,omitempty"`

	AllowIPSpoofing        bool `json:"allow_ip_spoofing,omitempty"`
	AllowMACSpoofing       bool `json:"allow_mac_spoofing,omitempty"`
	AllowDHCPSpoofing      bool `json:"allow_dhcp_spoofing,omitempty"`
	AllowRestrictedTraffic bool `json:"allow_restricted_traffic,omitempty"`
	AllowUnfilteredPromisc bool `json:"allow_unfiltered_promisc,omitempty"`
}

// VRRPMAC is the MAC that a NIC with a vrrp_vrid must have; empty without one. Several machines have it, each in its turn.
func (n *NIC) VRRPMAC() string {
	if n.VRRPVRID == 0 {
		return ""
	}
	return fmt.Sprintf("00:00:5e:00:01:%02x", n.VRRPVRID)
}

// AutobootOn reports whether the zone starts by itself.
func (s *Spec) AutobootOn() bool { return s.Autoboot == nil || *s.Autoboot }

// SetDefaults fills in what is absent, as vmadm create does. It makes no uuid, MAC or interface name; those need a
// source of chance or a view of other zones.
func (s *Spec) SetDefaults() {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	text := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	if s.Autoboot == nil {
		s.Autoboot = new(true)
	}
	text(&s.OwnerUUID, NilUUID)
	text(&s.BillingID, NilUUID)
	text(&s.ZPool, "zones")
	if s.CPUShares == 0 {
		s.CPUShares = 100
	}
	if s.ZFSIOPriority == 0 {
		s.ZFSIOPriority = 100
	}
	def(&s.MaxLWPs, 2000)
	if s.Brand.HVM() {
		def(&s.RAM, 256)
		def(&s.MaxPhysicalMemory, s.RAM+1024)
		if s.VCPUs == 0 {
			s.VCPUs = 1
		}
		if s.Brand == BrandKVM {
			text(&s.CPUType, "qemu64")
			text(&s.Boot, "order=cd")
			text(&s.VGA, "std")
			if s.VirtioTxBurst == 0 {
				s.VirtioTxBurst = 128
			}
			if s.VirtioTxTimer == 0 {
				s.VirtioTxTimer = 200000
			}
		} else {
			text(&s.Bootrom, "bios")
		}
		text(&s.DiskDriver, "virtio")
		text(&s.NICDriver, "virtio")
		for i := range s.Disks {
			text(&s.Disks[i].Media, "disk")
			text(&s.Disks[i].Model, s.DiskDriver)
		}
		for i := range s.NICs {
			text(&s.NICs[i].Model, s.NICDriver)
		}
	} else {
		if s.RAM != 0 {
			def(&s.MaxPhysicalMemory, s.RAM)
		}
		def(&s.MaxPhysicalMemory, 256)
		s.RAM = s.MaxPhysicalMemory
		if s.UUID != "" {
			text(&s.ZoneName, s.UUID)
		}
		text(&s.DNSDomain, "local")
		if s.MdataExecTimeout == 0 {
			s.MdataExecTimeout = 300
		}
		if s.TmpFS == nil {
			s.TmpFS = new(s.MaxPhysicalMemory)
		}
	}
	def(&s.MaxLockedMemory, s.MaxPhysicalMemory)
	def(&s.MaxSwap, max(s.MaxPhysicalMemory, 256))
	if s.UUID != "" {
		text(&s.Hostname, s.UUID)
	}
	for i := range s.NICs {
		if s.NICs[i].Primary {
			return
		}
	}
	if len(s.NICs) > 0 {
		s.NICs[0].Primary = true
	}
}

// FlexibleDiskFree is what the disks leave of flexible_disk_size, in MiB.
func (s *Spec) FlexibleDiskFree() int64 {
	free := s.FlexibleDiskSize
	for _, d := range s.Disks {
		if d.Media != "cdrom" && !d.NoCreate {
			free -= d.Size
		}
	}
	return free
}

// Limits turns the resource properties into what a driver is handed. Call it after SetDefaults.
func (s *Spec) Limits() Limits {
	const mib = 1 << 20
	l := Limits{
		CPUCap:       s.CPUCap,
		CPUShares:    s.CPUShares,
		Memory:       s.MaxPhysicalMemory * mib,
		Swap:         max(s.MaxSwap, s.MaxPhysicalMemory) * mib,
		LWPs:         s.MaxLWPs,
		LockedMemory: s.MaxLockedMemory * mib,
		IOPriority:   s.ZFSIOPriority,
	}
	if s.TmpFS != nil {
		l.TmpFS = *s.TmpFS * mib
	}
	return l
}

// Clone returns a copy that shares nothing with s.
func (s *Spec) Clone() *Spec {
	c := *s
	if c.Autoboot != nil {
		c.Autoboot = new(*c.Autoboot)
	}
	for _, p := range []**int64{&c.TmpFS, &c.Quota, &c.ZFSFilesystemLimit, &c.ZFSSnapshotLimit} {
		if *p != nil {
			*p = new(**p)
		}
	}
	c.Resolvers = append([]string(nil), s.Resolvers...)
	c.InternalMetadataNamespaces = append([]string(nil), s.InternalMetadataNamespaces...)
	c.Routes = maps.Clone(s.Routes)
	c.CustomerMetadata = maps.Clone(s.CustomerMetadata)
	c.InternalMetadata = maps.Clone(s.InternalMetadata)
	c.Tags = maps.Clone(s.Tags)
	c.NICs = append([]NIC(nil), s.NICs...)
	for i := range c.NICs {
		n := &c.NICs[i]
		n.IPs = append([]string(nil), n.IPs...)
		n.Gateways = append([]string(nil), n.Gateways...)
		n.BlockedOutgoingPorts = append([]int(nil), n.BlockedOutgoingPorts...)
		n.AllowedIPs = append([]string(nil), n.AllowedIPs...)
		n.AllowedDHCPCIDs = append([]string(nil), n.AllowedDHCPCIDs...)
	}
	c.Disks = append([]Volume(nil), s.Disks...)
	for i := range c.Disks {
		if r := c.Disks[i].Refreservation; r != nil {
			c.Disks[i].Refreservation = new(*r)
		}
	}
	c.Filesystems = append([]Filesystem(nil), s.Filesystems...)
	for i := range c.Filesystems {
		c.Filesystems[i].Options = append([]string(nil), c.Filesystems[i].Options...)
	}
	return &c
}
