//go:build linux

package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
)

// A host of these tests is a network namespace, so nothing they do touches the machine.

const (
	zoneA = "11111111-1111-4111-8111-111111111111"
	zoneB = "22222222-2222-4222-8222-222222222222"
	zoneC = "33333333-3333-4333-8333-333333333333"
	macA  = "90:b8:d0:00:00:0a"
	macB  = "90:b8:d0:00:00:0b"
	macC  = "90:b8:d0:00:00:0c"
)

// newNS makes a namespace and answers its path.
func newNS(t testing.TB) (path string, ns *os.File) {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	n := &Network{dir: dir}
	ns, err := n.makeNS("ns")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ns.Close()
		if err := n.dropNS("ns"); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "ns"), ns
}

// newHost opens a Network in a namespace of its own and destroys it at the end.
func newHost(t testing.TB) *Network {
	t.Helper()
	path, ns := newNS(t)
	// Bridged frames are our rules' alone, as on a host where nobody asked for more.
	err := inNS(ns, func() error {
		return errors.Join(sysctl("bridge/bridge-nf-call-iptables", "0"), sysctl("bridge/bridge-nf-call-ip6tables", "0"))
	})
	if err != nil {
		t.Fatal(err)
	}
	return openHost(t, path, t.TempDir())
}

func openHost(t testing.TB, ns, dir string) *Network {
	t.Helper()
	n, err := Open(t.Context(), Config{Instance: "test", Dir: dir, NetNS: ns})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Destroy(t.Context()); err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func nicOf(mac, addr string) zones.NIC {
	return zones.NIC{MAC: mac, Interface: "net0", NICTag: "test", IPs: []string{addr}, Primary: true}
}

func putTag(t testing.TB, n *Network, tag Tag) {
	t.Helper()
	if err := n.PutTag(t.Context(), tag); err != nil {
		t.Fatal(err)
	}
}

func attach(t testing.TB, n *Network, req Request) Attachment {
	t.Helper()
	a, err := n.Attach(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// in calls f on a thread inside a zone's namespace.
func in(t testing.TB, n *Network, zone string, f func() error) {
	t.Helper()
	ns, err := n.openNS(zone)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := inNS(ns, f); err != nil {
		t.Fatal(err)
	}
}

// How often to try: for what must come, longer than a kernel waits before it looks for a neighbour again; for what must
// not, a little.
const (
	must    = 13
	mustNot = 2
)

// reach sends datagrams from one zone to an address of another and reports whether one came.
func reach(t testing.TB, n *Network, from, to string, addr netip.Addr, tries int) bool {
	t.Helper()
	return reachFrom(t, n, to, addr, tries, func(f func() error) { in(t, n, from, f) })
}

// reachFrom is reach from wherever the function runs what it is given.
func reachFrom(t testing.TB, n *Network, to string, addr netip.Addr, tries int, from func(func() error)) bool {
	t.Helper()
	var server net.PacketConn
	in(t, n, to, func() (err error) {
		server, err = net.ListenPacket("udp", net.JoinHostPort(addr.String(), "0"))
		return err
	})
	defer server.Close()
	port := server.LocalAddr().(*net.UDPAddr).Port
	for range tries {
		from(func() error {
			c, err := net.Dial("udp", net.JoinHostPort(addr.String(), fmt.Sprint(port)))
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("hello"))
			return err
		})
		server.SetReadDeadline(time.Now().Add(120 * time.Millisecond))
		buf := make([]byte, 16)
		if k, _, err := server.ReadFrom(buf); err == nil && string(buf[:k]) == "hello" {
			return true
		}
	}
	return false
}

// wire is a raw socket on an interface.
type wire struct {
	fd  int
	mac net.HardwareAddr
}

// openWire opens a raw socket on an interface of the namespace.
func openWire(t testing.TB, ns *os.File, iface string) *wire {
	t.Helper()
	w := &wire{}
	err := inNS(ns, func() error {
		l, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		w.mac = l.HardwareAddr
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		if err != nil {
			return err
		}
		unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: l.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

func zoneWire(t testing.TB, n *Network, zone string) *wire {
	t.Helper()
	ns, err := n.openNS(zone)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	return openWire(t, ns, "net0")
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func (w *wire) send(t testing.TB, frame []byte) {
	t.Helper()
	if len(frame) < 60 {
		frame = append(frame, make([]byte, 60-len(frame))...)
	}
	if _, err := unix.Write(w.fd, frame); err != nil {
		t.Fatal(err)
	}
}

// until hands on every frame up to the one that has marker at byte 42, where the payload of UDP over IPv4 begins.
func (w *wire) until(t testing.TB, marker string, each func(frame []byte)) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Second)
	buf := make([]byte, 65536)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			t.Fatalf("the frame %q never came", marker)
		}
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		k, from, err := unix.Recvfrom(w.fd, buf, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if k >= 42+len(marker) && string(buf[42:42+len(marker)]) == marker {
			return
		}
		each(buf[:k])
	}
}

// outside is a port on a segment without any rules, as the world beyond an uplink is: a veth whose far end is in a
// namespace of its own.
func outside(t testing.TB, n *Network, tag string) *wire {
	t.Helper()
	_, ns := newNS(t)
	bridge, err := n.segment(tag, 0)
	if err != nil {
		t.Fatal(err)
	}
	outer := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("out%d", time.Now().UnixNano()%1e9), MasterIndex: bridge.Attrs().Index}, PeerName: "net0", PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := n.h.LinkAdd(outer); err != nil {
		t.Fatal(err)
	}
	l, err := n.h.LinkByName(outer.Name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	inner, err := h.LinkByName("net0")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{n.h.LinkSetUp(l), inNS(ns, func() error { return sysctl("ipv6/conf/net0/disable_ipv6", "1") }), h.LinkSetUp(inner)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	awaitCarrier(n.h, outer.Name)
	awaitCarrier(h, "net0")
	return openWire(t, ns, "net0")
}

// Frames.

func mustMAC(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

func ether(dst, src net.HardwareAddr, kind uint16, body []byte) []byte {
	f := append(append([]byte(nil), dst...), src...)
	f = binary.BigEndian.AppendUint16(f, kind)
	return append(f, body...)
}

func ipv4(src, dst string, proto byte, body []byte) []byte {
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	h := make([]byte, 20)
	h[0], h[8], h[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
	copy(h[12:], s[:])
	copy(h[16:], d[:])
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, body...)
}

func ipv6(src, dst string, proto byte, body []byte) []byte {
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, proto, 255
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	copy(h[8:], s[:])
	copy(h[24:], d[:])
	return append(h, body...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func udp(src, dst uint16, body string) []byte {
	h := binary.BigEndian.AppendUint16(nil, src)
	h = binary.BigEndian.AppendUint16(h, dst)
	h = binary.BigEndian.AppendUint16(h, uint16(8+len(body)))
	return append(append(h, 0, 0), body...)
}

func tcp(src, dst uint16, flags byte) []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h, src)
	binary.BigEndian.PutUint16(h[2:], dst)
	h[12], h[13] = 0x50, flags
	return h
}

func arp(op byte, sha net.HardwareAddr, spa string, tpa string) []byte {
	s, d := netip.MustParseAddr(spa).As4(), netip.MustParseAddr(tpa).As4()
	b := []byte{0, 1, 8, 0, 6, 4, 0, op}
	b = append(append(b, sha...), s[:]...)
	return append(append(b, 0, 0, 0, 0, 0, 0), d[:]...)
}

func TestMain(m *testing.M) {
	runtime.LockOSThread() // the main thread stays in the machine's own namespace
	os.Exit(m.Run())
}
