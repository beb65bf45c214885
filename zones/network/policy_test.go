//go:build linux

package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/network/firewall"
)

func compile(t testing.TB, tags map[string]string, rules ...string) *firewall.Policy {
	t.Helper()
	var entries []firewall.Entry
	for i, text := range rules {
		r, err := firewall.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		entries = append(entries, firewall.Entry{UUID: fmt.Sprint(i), Enabled: true, Rule: r})
	}
	m := firewall.Machine{UUID: zoneA, Tags: tags, IPs: []netip.Addr{netip.MustParseAddr("10.1.0.10"), netip.MustParseAddr("fd01::a")}}
	p := firewall.Compile(m, []firewall.Machine{m}, entries)
	return &p
}

// firewalled is a zone behind a policy, the world outside it, and a frame either way that always passes.
type firewalled struct {
	n           *Network
	world, zone *wire
	in, out     []byte
}

func newFirewalled(t *testing.T, p *firewall.Policy) *firewalled {
	t.Helper()
	n := newHost(t)
	putTag(t, n, Tag{Name: "test"})
	nic := nicOf(macA, "10.1.0.10/24")
	nic.IPs = append(nic.IPs, "fd01::a/64")
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nic}, Policy: p})
	// An ARP request of an odd form: no rule of a firewall is about it, and it carries text where markers are looked for.
	marker := func(dst, src net.HardwareAddr, ip string) []byte {
		return append(ether(dst, src, 0x0806, arp(1, src, ip, "10.1.0.200")), "marker"...)
	}
	return &firewalled{
		n: n, world: outside(t, n, "test"), zone: zoneWire(t, n, zoneA),
		in: marker(broadcast, mustMAC(macC), "10.1.0.12"), out: marker(broadcast, mustMAC(macA), "10.1.0.10"),
	}
}

// comes and goes report whether a packet from and to the peer passes.
func (f *firewalled) comes(t *testing.T, peer string, proto byte, body []byte) bool {
	t.Helper()
	return passes(t, f.world, f.zone, [][]byte{packet(macA, macC, peer, own(peer), proto, body)}, f.in)[0]
}

func (f *firewalled) goes(t *testing.T, peer string, proto byte, body []byte) bool {
	t.Helper()
	return passes(t, f.zone, f.world, [][]byte{packet(macC, macA, own(peer), peer, proto, body)}, f.out)[0]
}

func own(peer string) string {
	if netip.MustParseAddr(peer).Is4() {
		return "10.1.0.10"
	}
	return "fd01::a"
}

func packet(dst, src, from, to string, proto byte, body []byte) []byte {
	if netip.MustParseAddr(from).Is4() {
		return ether(mustMAC(dst), mustMAC(src), 0x0800, ipv4(from, to, proto, body))
	}
	return ether(mustMAC(dst), mustMAC(src), 0x86dd, ipv6(from, to, proto, body))
}

func echo(typ byte, id uint16) []byte {
	return []byte{typ, 0, 0, 0, byte(id >> 8), byte(id), 0, 1}
}

const synFlag, ackFlag, finFlag = syn, ack, fin

func TestFirewallFlows(t *testing.T) {
	for _, peer := range []string{"192.0.2.1", "2001:db8::1"} {
		v6 := peer[0] == '2' && peer[1] == '0'
		icmp, request, reply, unreachable := byte(1), byte(8), byte(0), byte(3)
		if v6 {
			icmp, request, reply, unreachable = 58, 128, 129, 1
		}
		f := newFirewalled(t, compile(t, nil, "FROM any TO all vms ALLOW tcp PORT 80", "FROM all vms TO any BLOCK tcp PORT 25"))
		check := func(what string, got, want bool) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %s passes: %v, want %v", peer, what, got, want)
			}
		}
		check("allowed port", f.comes(t, peer, 6, tcp(4000, 80, synFlag)), true)
		check("answer to it", f.goes(t, peer, 6, tcp(80, 4000, synFlag|ackFlag)), true)
		check("other port", f.comes(t, peer, 6, tcp(4000, 22, synFlag)), false)
		check("other port, acknowledging nothing", f.comes(t, peer, 6, tcp(4000, 22, ackFlag)), false)
		check("datagram", f.comes(t, peer, 17, udp(53, 5353, "x")), false)
		check("blocked out", f.goes(t, peer, 6, tcp(4000, 25, synFlag)), false)
		// The zone may answer from port 25's number all the same: that is a flow the peer began.
		check("out", f.goes(t, peer, 17, udp(5353, 53, "q")), true)
		check("answer", f.comes(t, peer, 17, udp(53, 5353, "a")), true)
		check("answer from another port", f.comes(t, peer, 17, udp(54, 5353, "a")), false)
		check("connect", f.goes(t, peer, 6, tcp(5000, 443, synFlag)), true)
		check("accept", f.comes(t, peer, 6, tcp(443, 5000, synFlag|ackFlag)), true)
		check("close", f.comes(t, peer, 6, tcp(443, 5000, finFlag|ackFlag)), true)
		check("after close", f.goes(t, peer, 6, tcp(5000, 443, ackFlag)), true)
		check("ping in", f.comes(t, peer, icmp, echo(request, 9)), false)
		check("answer unasked", f.comes(t, peer, icmp, echo(reply, 9)), false)
		check("ping out", f.goes(t, peer, icmp, echo(request, 9)), true)
		check("pong", f.comes(t, peer, icmp, echo(reply, 9)), true)
		check("pong of another", f.comes(t, peer, icmp, echo(reply, 10)), false)
		check("tunnel in", f.comes(t, peer, 47, []byte{0, 0, 8, 0}), false)
		check("tunnel out", f.goes(t, peer, 47, []byte{0, 0, 8, 0}), true)
		check("tunnel back", f.comes(t, peer, 47, []byte{0, 0, 8, 0}), true)
		// An error from anywhere, if it quotes what the zone sent.
		quote := func(port uint16) []byte {
			p := packet(macC, macA, own(peer), peer, 17, udp(port, 53, "q"))[14:]
			return append([]byte{unreachable, 1, 0, 0, 0, 0, 0, 0}, p...)
		}
		router := map[bool]string{false: "198.51.100.9", true: "2001:db8:9::9"}[v6]
		check("error about a flow", f.comes(t, router, icmp, quote(5353)), true)
		check("error about nothing", f.comes(t, router, icmp, quote(5354)), false)
		counters, err := f.n.Counters(t.Context(), zoneA)
		if err != nil || counters[0].Dropped[dropFirewall] == 0 {
			t.Errorf("counters %+v, %v", counters, err)
		}
	}
}

func TestFragments(t *testing.T) {
	f := newFirewalled(t, compile(t, nil, "FROM any TO all vms ALLOW udp PORT 53"))
	fragment := func(offset uint16, body []byte) []byte {
		p := ipv4("192.0.2.1", "10.1.0.10", 6, body)
		p[6], p[7], p[10], p[11] = byte(offset>>8), byte(offset), 0, 0
		sum := checksum(p[:20])
		p[10], p[11] = byte(sum>>8), byte(sum)
		return ether(mustMAC(macA), mustMAC(macC), 0x0800, p)
	}
	frames := [][]byte{fragment(0x2000, tcp(1, 22, synFlag)), fragment(1, make([]byte, 40)), fragment(100, make([]byte, 40))}
	got := passes(t, f.world, f.zone, frames, f.in)
	if got[0] || got[1] || !got[2] {
		t.Errorf("first, overlapping, later fragment pass: %v", got)
	}
}

func TestSetPolicy(t *testing.T) {
	f := newFirewalled(t, nil)
	ssh, web := tcp(4000, 22, synFlag), tcp(4000, 80, synFlag)
	if !f.comes(t, "192.0.2.1", 6, ssh) {
		t.Error("with no firewall something is blocked")
	}
	set := func(p *firewall.Policy) {
		t.Helper()
		if err := f.n.SetPolicy(t.Context(), zoneA, p); err != nil {
			t.Fatal(err)
		}
	}
	set(compile(t, nil))
	if f.comes(t, "192.0.2.1", 6, ssh) {
		t.Error("an empty policy lets something in")
	}
	set(compile(t, map[string]string{"role": "www"}, "FROM subnet 192.0.2.0/24 TO tag role = www ALLOW tcp (PORT 22 AND PORT 80)"))
	if !f.comes(t, "192.0.2.1", 6, ssh) || f.comes(t, "192.0.3.1", 6, ssh) {
		t.Error("the new policy does not hold")
	}
	// A flow that was allowed outlives a change, a new one does not begin.
	set(compile(t, nil))
	if !f.comes(t, "192.0.2.1", 6, tcp(4000, 22, ackFlag)) || f.comes(t, "192.0.2.1", 6, web) {
		t.Error("a change cuts a known flow or lets a new one in")
	}
	// Spoofing rules stay through it all.
	if f.goes(t, "192.0.2.1", 17, udp(67, 68, "offer")) {
		t.Error("a change of policy lost the protection against spoofing")
	}
	set(nil)
	if !f.comes(t, "192.0.2.1", 6, web) {
		t.Error("off is not off")
	}
	if err := f.n.SetPolicy(t.Context(), zoneB, nil); !errors.Is(err, zones.ErrNotExist) {
		t.Errorf("SetPolicy on no zone = %v", err)
	}
}

// A full table refuses new flows of the zone itself and keeps the old.
func TestFlowTableFull(t *testing.T) {
	f := newFirewalled(t, nil)
	f.n.maxFlows = 4
	if err := f.n.SetPolicy(t.Context(), zoneA, compile(t, nil)); err != nil {
		t.Fatal(err)
	}
	for port := range uint16(10) {
		if got := f.goes(t, "192.0.2.1", 17, udp(1000+port, 53, "q")); got != (port < 4) {
			t.Errorf("flow %d passes: %v", port, got)
		}
	}
	if !f.comes(t, "192.0.2.1", 17, udp(53, 1000, "a")) {
		t.Error("a known flow suffers")
	}
	if c, err := f.n.Counters(t.Context(), zoneA); err != nil || c[0].Dropped[dropFull] != 6 {
		t.Errorf("counters %+v, %v", c, err)
	}
}

// The kernel's verdict on a packet is the policy's own, for random policies and packets.
func TestPolicyMeaning(t *testing.T) {
	f := newFirewalled(t, compile(t, nil))
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	policies := 12
	if testenv.Long() {
		policies = 500
	}
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	targets := func() string {
		one := func() string {
			return pick("ip 192.0.2.1", "ip 192.0.2.2", "subnet 192.0.2.0/30", "subnet 198.51.0.0/16", "subnet 0.0.0.0/0", "ip 2001:db8::1", "subnet 2001:db8::/32", "subnet ::/0", "vm "+zoneA)
		}
		if r.IntN(4) == 0 {
			return "any"
		}
		return "(" + one() + " OR " + one() + ")"
	}
	rule := func() string {
		what := pick("tcp PORT 80", "tcp PORTS 10 - 20, 15 - 25, 80", "tcp PORT all", "udp PORTS 1 - 65535", "udp (PORT 53 AND PORT 54)", "udp PORTS 60000 - 65535", "ah", "esp")
		from, to := targets(), "all vms"
		if r.IntN(3) == 0 {
			what, from = pick("icmp TYPE 8", "icmp TYPE all", "icmp (TYPE 8 CODE 1 AND TYPE 13)"), pick("any", "ip 192.0.2.1")
		} else if r.IntN(4) == 0 {
			what, from = pick("icmp6 TYPE 128", "icmp6 TYPE 128 CODE 0", "icmp6 TYPE all"), pick("any", "subnet 2001:db8::/126")
		}
		if r.IntN(2) == 0 {
			from, to = to, from
		}
		return fmt.Sprintf("FROM %s TO %s %s %s PRIORITY %d", from, to, pick("ALLOW", "BLOCK"), what, r.IntN(3))
	}
	next := uint16(1024)
	for range policies {
		var texts []string
		for range 1 + r.IntN(6) {
			texts = append(texts, rule())
		}
		p := compile(t, nil, texts...)
		if err := f.n.SetPolicy(t.Context(), zoneA, p); err != nil {
			t.Fatalf("seed %d: %q: %v", seed, texts, err)
		}
		for _, dir := range []firewall.Direction{firewall.In, firewall.Out} {
			var frames [][]byte
			var packets []firewall.Packet
			for range 40 {
				peer := pick("192.0.2.1", "192.0.2.2", "192.0.2.200", "198.51.100.1", "203.0.113.255", "2001:db8::1", "2001:db8::9", "fd99::1")
				pkt := firewall.Packet{Direction: dir, Peer: netip.MustParseAddr(peer)}
				var body []byte
				next++ // a source port of its own, so that no packet belongs to another's flow
				pkt.Port = []uint16{80, 12, 22, 26, 53, 65535, 1}[r.IntN(7)]
				switch r.IntN(6) {
				case 0, 1:
					pkt.Protocol, body = firewall.TCP, tcp(next, pkt.Port, synFlag)
				case 2, 3:
					pkt.Protocol, body = firewall.UDP, udp(next, pkt.Port, "x")
				case 4:
					pkt.Type, pkt.Code = []byte{8, 13}[r.IntN(2)], byte(r.IntN(2))
					pkt.Protocol = firewall.ICMP
					if pkt.Peer.Is6() {
						pkt.Protocol, pkt.Type = firewall.ICMP6, []byte{128, 200}[r.IntN(2)]
					}
					body = []byte{pkt.Type, pkt.Code, 0, 0, byte(next >> 8), byte(next), 0, 0}
				default:
					// No two of the same peer in either direction, as they would be one flow.
					continue
				}
				from, to, src, dst := peer, own(peer), macC, macA
				if dir == firewall.Out {
					from, to, src, dst = to, from, dst, src
				}
				frames, packets = append(frames, packet(dst, src, from, to, pkt.Protocol.Number(), body)), append(packets, pkt)
			}
			a, b, marker := f.world, f.zone, f.in
			if dir == firewall.Out {
				a, b, marker = f.zone, f.world, f.out
			}
			for i, got := range passes(t, a, b, frames, marker) {
				if want, by := p.Decide(packets[i]); got != (want == firewall.Allow) {
					t.Errorf("seed %d: %q: %+v passes: %v, want %v by %q", seed, texts, packets[i], got, want, by)
				}
			}
		}
	}
}

func BenchmarkSetPolicy(b *testing.B) {
	n := newHost(b)
	putTag(b, n, Tag{Name: "test"})
	attach(b, n, Request{Zone: zoneA, NICs: []zones.NIC{nicOf(macA, "10.1.0.10/24")}})
	p := compile(b, nil, "FROM any TO all vms ALLOW tcp PORT 80", "FROM ip 192.0.2.1 TO all vms ALLOW tcp PORT 22", "FROM all vms TO any BLOCK tcp PORT 25")
	for b.Loop() {
		if err := n.SetPolicy(b.Context(), zoneA, p); err != nil {
			b.Fatal(err)
		}
	}
}
