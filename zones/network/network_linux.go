package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// Config configures a [Network].
type Config struct {
	// Instance tells several users of one host apart: 1 to 24 of a-z, 0-9. "mobula" when empty.
	Instance string
	// Dir is an absolute path of a directory where zones' network namespaces are bound. It is made if absent, private to root. It
	// should be on a tmpfs such as /run, as it means nothing after a boot. Required.
	Dir string
	// NetNS is the path of the namespace in which bridges, taps and rules live; empty is the caller's own.
	NetNS string
	// MaxFlows is how many flows the firewall remembers for a zone and IP family: 32768 when 0.
	MaxFlows int
	// Logger, nil is silent.
	Logger *slog.Logger
}

// Network is the networking of one host, or of one network namespace that stands for a host. Its methods may be called
// from several goroutines; calls about one zone run one after another.
type Network struct {
	instance, dir string
	maxFlows      int
	log           *slog.Logger

	host     *os.File // the host's network namespace
	own      bool     // which is the process's own
	hostPath string
	h        *netlink.Handle

	missing  []string
	vlanOnce sync.Once
	hasVLAN  bool
	tablesMu sync.Mutex

	connsMu     sync.Mutex
	conns       []*nftables.Conn // idle
	connsClosed bool

	mu    sync.Mutex
	tags  map[string]Tag
	zones map[string]*zoneLock
}

// Capabilities say what this kernel's networking can do.
type Capabilities struct {
	// VLAN: vlan_id works on tags with an uplink (802.1Q interfaces).
	VLAN bool
	// Missing says in one line each what is not there and what that takes away; for people.
	Missing []string
}

var validInstance = regexp.MustCompile(`^[a-z0-9]{1,24}$`)

// Open takes over, or begins, the networking of an instance on this host. What an earlier process made keeps working
// while nobody has it open. It needs root, or CAP_NET_ADMIN and CAP_SYS_ADMIN over the namespace.
func Open(ctx context.Context, cfg Config) (*Network, error) {
	if cfg.Instance == "" {
		cfg.Instance = "mobula"
	}
	if !validInstance.MatchString(cfg.Instance) {
		return nil, fmt.Errorf("%w: network instance %q is not 1 to 24 of a-z and 0-9", zones.ErrInvalid, cfg.Instance)
	}
	if !filepath.IsAbs(cfg.Dir) {
		return nil, fmt.Errorf("%w: network directory %q is not an absolute path", zones.ErrInvalid, cfg.Dir)
	}
	if cfg.MaxFlows == 0 {
		cfg.MaxFlows = 32768
	}
	if cfg.MaxFlows < 1 || cfg.MaxFlows > 1<<20 {
		return nil, fmt.Errorf("%w: network: at most %d flows", zones.ErrInvalid, 1<<20)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("network directory: %w", err)
	}
	n := &Network{
		instance: cfg.Instance, dir: filepath.Clean(cfg.Dir), maxFlows: cfg.MaxFlows, log: cfg.Logger,
		own: cfg.NetNS == "", hostPath: cfg.NetNS, tags: map[string]Tag{}, zones: map[string]*zoneLock{},
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	path := cfg.NetNS
	if n.own {
		path = "/proc/thread-self/ns/net"
	}
	var err error
	if n.host, err = os.Open(path); err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	if n.h, err = netlink.NewHandleAt(netns.NsHandle(n.host.Fd()), unix.NETLINK_ROUTE); err != nil {
		n.host.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err := n.begin(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// begin makes sure of the tables, and finds out what is in the way.
func (n *Network) begin() error {
	if err := n.ensureTables(); err != nil {
		return err
	}
	// Other tools turn this on for rules of their own, so it is theirs to turn off.
	return n.inHost(func() error {
		if v, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables"); err == nil && strings.TrimSpace(string(v)) == "1" {
			n.missing = append(n.missing, "net.bridge.bridge-nf-call-iptables is 1: the host's own IP rules and connection tracking apply to what zones send each other")
		}
		return nil
	})
}

// tableVersion is a chain of that name in each table, which says that the table is there and how it is written. A later
// version has another name, and so writes the table's own chains anew.
const tableVersion = "v1"

// ensureTables writes the tables unless they are there. They may have gone since we wrote them: reloading the host's own
// rules commonly flushes all.
func (n *Network) ensureTables() error {
	n.tablesMu.Lock()
	defer n.tablesMu.Unlock()
	lost := false
	for family, write := range map[nftables.TableFamily]func(*batch){
		nftables.TableFamilyBridge: (*batch).baseBridge,
		nftables.TableFamilyINet:   (*batch).baseINet,
	} {
		wrote, err := n.ensureTable(family, write)
		if err != nil {
			return err
		}
		lost = lost || wrote
	}
	if !lost {
		return nil
	}
	return n.restore()
}

func (n *Network) ensureTable(family nftables.TableFamily, write func(*batch)) (wrote bool, err error) {
	b, err := n.newBatch(family)
	if err != nil {
		return false, err
	}
	defer b.release()
	if _, err := b.c.ListChain(b.t, tableVersion); err == nil {
		b.fit = true
		return false, nil
	}
	write(b)
	b.chain(tableVersion)
	if err := b.commit(); err != nil {
		return false, permission("set up nftables", err)
	}
	return true, nil
}

// restore fills the tables' sets from the bridges that are there.
func (n *Network) restore() error {
	links, err := n.ours()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.kind != "bridge" {
			continue
		}
		if addrs := n.bridgeAddresses(l.link); len(addrs) > 0 {
			if err := n.gatewayRules(l.link, addrs, l.nat); err != nil {
				return err
			}
			continue
		}
		if m := l.link.Attrs().Index; !n.hasForeignPort(m) {
			if err := n.forbidHost(l.link, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasForeignPort reports whether a bridge of ours leads off the host through an uplink, by which the host itself may be
// reached.
func (n *Network) hasForeignPort(bridge int) bool {
	links, err := linkList(n.h)
	if err != nil {
		return true
	}
	for _, l := range links {
		if a := l.Attrs(); a.MasterIndex == bridge && !n.ourName(a.Name) || a.MasterIndex == bridge && strings.HasPrefix(a.Name, vlanPrefix) {
			return true
		}
	}
	return false
}

func permission(what string, err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("%w: %s: needs root or CAP_NET_ADMIN: %w", zones.ErrPermission, what, err)
	}
	return err
}

// vlan reports whether the kernel has 802.1Q interfaces. It is found out when first asked for, as trying takes a while.
func (n *Network) vlan() bool {
	n.vlanOnce.Do(func() { n.hasVLAN = n.probeVLAN() })
	return n.hasVLAN
}

// probeVLAN tries an 802.1Q interface on a bridge made for it, which is the only honest way to know.
func (n *Network) probeVLAN() bool {
	parent := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: hashName(bridgePrefix, n.instance, "probe")}}
	if err := n.h.LinkAdd(parent); err != nil && !errors.Is(err, syscall.EEXIST) {
		return false
	}
	l, err := n.h.LinkByName(parent.Name)
	if err != nil {
		return false
	}
	defer n.h.LinkDel(l) // and with it what is on it
	return n.h.LinkAdd(&netlink.Vlan{
		LinkAttrs:    netlink.LinkAttrs{Name: hashName(vlanPrefix, n.instance, "probe"), ParentIndex: l.Attrs().Index},
		VlanId:       4094,
		VlanProtocol: netlink.VLAN_PROTOCOL_8021Q,
	}) == nil
}

// Capabilities says what this kernel's networking can do.
func (n *Network) Capabilities() Capabilities {
	c := Capabilities{VLAN: n.vlan(), Missing: slices.Clone(n.missing)}
	if !c.VLAN {
		c.Missing = append(c.Missing, "the kernel has no 802.1Q interfaces (8021q): vlan_id works on tags without an uplink and on VXLAN only")
	}
	return c
}

// Close lets go of the kernel. What was set up stays and works.
func (n *Network) Close() error {
	n.closeConns()
	if n.h != nil {
		n.h.Close()
	}
	return n.host.Close()
}

// nsFD is the host's namespace as the nftables library takes it: 0 for the process's own.
func (n *Network) nsFD() int {
	if n.own {
		return 0
	}
	return int(n.host.Fd())
}

// zoneLock serialises what is done to one zone.
type zoneLock struct {
	sync.Mutex
	users int
}

func (n *Network) lock(zone string) (unlock func()) {
	n.mu.Lock()
	l := n.zones[zone]
	if l == nil {
		l = &zoneLock{}
		n.zones[zone] = l
	}
	l.users++
	n.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		n.mu.Lock()
		defer n.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(n.zones, zone)
		}
	}
}
