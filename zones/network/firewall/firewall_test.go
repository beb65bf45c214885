package firewall

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	vm1   = "9a343ca8-b42a-4a27-a9c5-800f57d1e8ed"
	vm2   = "518908b6-8299-466d-8ea5-20a0ceff63ec"
	alice = "ace1da4b-9ab2-4991-8298-700bec1b70ed"
	bob   = "5c3ea269-75b8-42fa-badc-956684fb4d4e"
)

var normalForms = []struct{ in, want string }{
	{"from any to all vms allow tcp port 22", "FROM any TO all vms ALLOW tcp PORT 22"},
	{"From (Any) To (All VMs) Block UDP (Port All)", "FROM any TO all vms BLOCK udp PORT all"},
	{"FROM ip 10.0.0.1 TO tag www ALLOW tcp PORT 80", `FROM ip 10.0.0.1 TO tag "www" ALLOW tcp PORT 80`},
	{
		"FROM (ip 192.168.1.1 OR vm " + vm1 + " OR tag b OR subnet 192.168.2.0/24 OR ip 10.0.0.1) TO tag a = b ALLOW tcp port 80",
		"FROM (ip 10.0.0.1 OR ip 192.168.1.1 OR subnet 192.168.2.0/24 OR tag \"b\" OR vm " + vm1 + `) TO tag "a" = "b" ALLOW tcp PORT 80`,
	},
	{"FROM any TO tag a ALLOW tcp (PORT 443 AND PORT 80)", `FROM any TO tag "a" ALLOW tcp (PORT 80 AND PORT 443)`},
	{"FROM any TO tag a ALLOW tcp PORTS 443, 80", `FROM any TO tag "a" ALLOW tcp (PORT 80 AND PORT 443)`},
	{"FROM any TO tag a ALLOW tcp PORTS 5-9,1", `FROM any TO tag "a" ALLOW tcp PORTS 1, 5 - 9`},
	{"FROM any TO tag a ALLOW tcp PORTS 5 -9, 20- 30, 40 - 50", `FROM any TO tag "a" ALLOW tcp PORTS 5 - 9, 20 - 30, 40 - 50`},
	{"FROM any TO vm " + vm1 + " ALLOW icmp (TYPE 8 CODE 0 AND TYPE 3 CODE 11 AND TYPE 40 AND TYPE 3 CODE 1)", "FROM any TO vm " + vm1 + " ALLOW icmp (TYPE 3 CODE 1 AND TYPE 3 CODE 11 AND TYPE 8 CODE 0 AND TYPE 40)"},
	{"FROM any TO all vms ALLOW icmp6 type all priority 100", "FROM any TO all vms ALLOW icmp6 TYPE all PRIORITY 100"},
	{"FROM any TO all vms ALLOW ah PRIORITY 0", "FROM any TO all vms ALLOW ah"},
	{"FROM any TO all vms ALLOW ESP PRIORITY 12", "FROM any TO all vms ALLOW esp PRIORITY 12"},
	{"FROM ip fd22::1234 TO all vms ALLOW tcp PORT 80", "FROM ip fd22::1234 TO all vms ALLOW tcp PORT 80"},
	{"FROM subnet fd22::/64 TO all vms ALLOW tcp PORT 80", "FROM subnet fd22::/64 TO all vms ALLOW tcp PORT 80"},
	{"FROM subnet 0.0.0.0/0 TO all vms ALLOW tcp PORT 80", "FROM subnet 0.0.0.0/0 TO all vms ALLOW tcp PORT 80"},
	// A tag covers each of its values.
	{"FROM (tag t = v OR tag t OR tag t = w OR tag t) TO all vms ALLOW tcp PORT 80", `FROM tag "t" TO all vms ALLOW tcp PORT 80`},
	{`FROM tag "VM type" = "LDAP \(1\)\u0000\u3000\n" TO all vms ALLOW tcp PORT 389`, `FROM tag "VM type" = "LDAP \(1\)\u0000\u3000\n" TO all vms ALLOW tcp PORT 389`},
	{`FROM (tag "김치" = "백김치" OR tag "김치" = "白김치") TO tag "a\ud83d\ude00" ALLOW tcp PORT 80`, `FROM (tag "김치" = "白김치" OR tag "김치" = "백김치") TO tag "a😀" ALLOW tcp PORT 80`},
	{`FROM tag "from" TO tag "\/" = "any" ALLOW tcp PORT 80`, `FROM tag "from" TO tag "/" = "any" ALLOW tcp PORT 80`},
}

func TestNormalForm(t *testing.T) {
	for _, tt := range normalForms {
		r, err := Parse(tt.in)
		if err != nil {
			t.Errorf("Parse(%q) = %v", tt.in, err)
			continue
		}
		if got := r.String(); got != tt.want {
			t.Errorf("Parse(%q).String() = %q, want %q", tt.in, got, tt.want)
		}
		again, err := Parse(r.String())
		if err != nil {
			t.Errorf("Parse of normal form %q = %v", r, err)
		} else if diff := cmp.Diff(r, again, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("normal form of %q reads back differently:\n%s", tt.in, diff)
		}
	}
}

func many(n int, sep, format string) string {
	var parts []string
	for i := range n {
		parts = append(parts, fmt.Sprintf(format, i+1))
	}
	return "(" + strings.Join(parts, sep) + ")"
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"FROM ip 10.99.99.99.254 TO tag smartdc_role ALLOW tcp port 22", "Error at character 19: '.254 TO tag smartdc_', found: unexpected text"},
		{"FROM foo TO ip 8.8.8.8 ALLOW udp port 53", "Error at character 4: 'foo', expected: '(', 'all', 'any', 'ip', 'subnet', 'vm', 'tag', found: word"},
		{"invalid", "Error at character 0: 'invalid', expected: 'FROM', found: word"},
		{"", "Error at character 0: '', expected: 'FROM', found: end of rule"},
		{"FROM tag foo TO ip 10.288.0.0 ALLOW udp port 53", `IPv4 address "10.288.0.0" is invalid`},
		{"FROM tag foo TO ip fd00::12345 ALLOW udp port 53", `IPv6 address "fd00::12345" is invalid`},
		{"FROM tag foo TO subnet 10.350.0.0/24 ALLOW udp port 53", `Subnet "10.350.0.0/24" is invalid (bad address component)`},
		{"FROM tag foo TO subnet 10.8.0.0/33 ALLOW udp port 53", `Subnet "10.8.0.0/33" is invalid (bad prefix length)`},
		{"FROM tag foo TO subnet 10.8.0.0/5 ALLOW udp port 53", `Subnet "10.8.0.0/5" is invalid (bits set to right of mask)`},
		{"FROM tag foo TO subnet fd005::/64 ALLOW udp port 53", `Subnet "fd005::/64" is invalid (bad address component)`},
		{"FROM tag foo TO subnet fd00::/130 ALLOW udp port 53", `Subnet "fd00::/130" is invalid (bad prefix length)`},
		{"FROM tag foo TO subnet 10.8.0.0/24 ALLOW udp port 0", `Port number "0" is invalid`},
		{"FROM tag foo TO subnet 10.8.0.0/24 ALLOW udp port 65537", `Port number "65537" is invalid`},
		{"FROM tag foo TO subnet 10.8.0.0/24 ALLOW tcp ports 1-20-30", `"1-20-30" is not a valid port number or range`},
		{"FROM tag foo TO subnet 10.8.0.0/24 ALLOW tcp ports 0-20", `Port number "0" is invalid`},
		{"FROM tag foo TO subnet 10.8.0.0/24 ALLOW tcp ports 20-bar", `Port number "bar" is invalid`},
		{"FROM tag foo TO subnet 10.8.0.0/24 ALLOW tcp ports 20 - 10", "The end of the range (10) cannot be less than the start (20)"},
		{"FROM vm asdf TO subnet 10.8.0.0/24 ALLOW udp port 50", `UUID "asdf" is invalid`},
		{"FROM (all vms OR tag one) TO ip 10.0.0.1 ALLOW udp port 53", "Error at character 13: 'OR', expected: ')', found: OR"},
		{"FROM (any OR tag one) TO ip 10.0.0.1 ALLOW udp port 53", "Error at character 9: 'OR', expected: ')', found: OR"},
		{"FROM ip 10.0.0.1 TO all vms ALLOW TCP (port 53 AND port ALL)", "Error at character 55: 'ALL', expected: 'WORD', found: ALL"},
		{"FROM tag a TO tag b ALLOW TCP PORT all PRIORITY 101", `Priority level "101" is invalid`},
		{"FROM tag a TO tag b ALLOW TCP PORT all PRIORITY immediate", `Priority level "immediate" is invalid`},
		{"FROM any TO any ALLOW TCP port 53", "rule does not affect VMs"},
		{"FROM ip 10.8.0.1 TO subnet 10.9.0.0/16 ALLOW TCP port 53", "rule does not affect VMs"},
		{"FROM " + many(25, " OR ", "ip 10.0.0.%d") + " TO all vms ALLOW TCP port 53", "maximum of 24 targets allowed per side"},
		{"FROM all vms TO ip 1.2.3.4 BLOCK TCP " + many(25, " AND ", "port 1%d"), "maximum of 24 ports allowed"},
		{"FROM all vms TO ip 1.2.3.4 BLOCK ICMP " + many(25, " AND ", "type %d"), "maximum of 24 types allowed"},
		{"FROM all vms TO ip fd00::45 BLOCK ICMP TYPE 8", "rule affects ICMPv4 but contains a non-IPv4 address"},
		{"FROM all vms TO subnet fe80::/64 BLOCK ICMP TYPE 8", "rule affects ICMPv4 but contains a non-IPv4 subnet"},
		{"FROM all vms TO ip 1.2.3.4 BLOCK ICMP6 TYPE 128", "rule affects ICMPv6 but contains a non-IPv6 address"},
		{"FROM all vms TO ip 192.168.5.4 BLOCK ICMP TYPE 260", `ICMP type "260" is invalid`},
		{"FROM all vms TO ip 192.168.5.4 BLOCK ICMP TYPE 8 CODE 270", `ICMP code "270" is invalid`},
		{"FROM all vms TO all vms BLOCK TCP PORT 80 80", "Error at character 41: '80', expected: 'EOF', 'PRIORITY', found: word"},
		{`FROM tag "a TO all vms ALLOW tcp PORT 1`, `Error at character 9: '"a TO all vms ALLOW ', found: unexpected text`},
	} {
		_, err := ParseWith(tt.in, Options{EnforceSubnetMask: true})
		if err == nil || err.Error() != tt.want {
			t.Errorf("Parse(%q)\n got %v\nwant %v", tt.in, err, tt.want)
		}
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse(%q) does not match ErrInvalid", tt.in)
		}
	}
	if _, err := Parse(strings.Repeat(" ", MaxText+1)); err == nil {
		t.Error("Parse takes a text above the limit")
	}
}

func entry(t testing.TB, id, owner, text string) Entry {
	t.Helper()
	r, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return Entry{UUID: id, Owner: owner, Enabled: true, Rule: r}
}

func TestCompile(t *testing.T) {
	web := Machine{UUID: vm1, Owner: alice, Tags: map[string]string{"role": "www"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	db := Machine{UUID: vm2, Owner: alice, Tags: map[string]string{"role": "db"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}}
	foreign := Machine{UUID: bob, Owner: bob, Tags: map[string]string{"role": "www"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.3")}}
	fleet := []Machine{web, db, foreign}
	disabled := entry(t, "off", "", "FROM any TO all vms ALLOW tcp PORT 23")
	disabled.Enabled = false
	entries := []Entry{
		entry(t, "ping", "", "FROM any TO all vms ALLOW icmp TYPE 8 CODE 0"),
		entry(t, "http", alice, "FROM any TO tag role = www ALLOW tcp (PORT 80 AND PORT 443)"),
		entry(t, "db", alice, "FROM tag role = www TO tag role = db ALLOW tcp PORT 5432"),
		entry(t, "bad", alice, "FROM subnet 192.0.2.0/24 TO all vms BLOCK tcp PORT all PRIORITY 1"),
		entry(t, "same", alice, "FROM ip 198.51.100.7 TO all vms BLOCK tcp PORT 80"),
		entry(t, "smtp", alice, "FROM all vms TO any BLOCK tcp PORT 25"),
		entry(t, "relay", alice, "FROM all vms TO ip 10.9.9.9 ALLOW tcp PORT 25 PRIORITY 2"),
		entry(t, "smtp2", alice, "FROM all vms TO ip 10.8.8.8 ALLOW tcp PORT 25"),
		entry(t, "bobs", bob, "FROM any TO all vms ALLOW tcp PORT all"),
		disabled,
	}
	for _, tt := range []struct {
		m    Machine
		dir  Direction
		peer string
		prot Protocol
		num  uint16
		want Action
		rule string
	}{
		{web, In, "203.0.113.5", TCP, 80, Allow, "http"},
		{web, In, "203.0.113.5", TCP, 23, Block, ""},
		{web, In, "203.0.113.5", UDP, 80, Block, ""},
		{web, In, "203.0.113.5", ICMP, 8, Allow, "ping"},
		{web, In, "203.0.113.5", ICMP, 13, Block, ""},
		{web, In, "fd00::9", ICMP6, 128, Block, ""},
		{web, In, "192.0.2.77", TCP, 80, Block, "bad"},
		{web, In, "198.51.100.7", TCP, 80, Allow, "http"}, // equal priority: allow wins inbound
		{web, In, "fd00::9", TCP, 443, Allow, "http"},
		{db, In, "10.0.0.1", TCP, 5432, Allow, "db"},
		{db, In, "10.0.0.3", TCP, 5432, Block, ""}, // tagged alike, but somebody else's
		{db, In, "10.0.0.2", TCP, 80, Block, ""},
		{web, Out, "1.1.1.1", TCP, 25, Block, "smtp"},
		{web, Out, "10.8.8.8", TCP, 25, Block, "smtp"}, // equal priority: block wins outbound
		{web, Out, "10.9.9.9", TCP, 25, Allow, "relay"},
		{web, Out, "1.1.1.1", TCP, 80, Allow, ""},
		{foreign, In, "1.1.1.1", TCP, 9, Allow, "bobs"},
		{foreign, Out, "1.1.1.1", TCP, 25, Allow, ""},
		{web, Out, "1.1.1.1", 0, 0, Allow, ""},
		{web, In, "1.1.1.1", 0, 0, Block, ""},
	} {
		pkt := Packet{Direction: tt.dir, Peer: netip.MustParseAddr(tt.peer), Protocol: tt.prot}
		if tt.prot == ICMP || tt.prot == ICMP6 {
			pkt.Type = uint8(tt.num)
		} else {
			pkt.Port = tt.num
		}
		got, rule := Compile(tt.m, fleet, entries).Decide(pkt)
		if got != tt.want || rule != tt.rule {
			t.Errorf("%s: %+v: %v by %q, want %v by %q", tt.m.Tags["role"], pkt, got, rule, tt.want, tt.rule)
		}
	}
}

func TestCompileIgnoresOrder(t *testing.T) {
	fleet := []Machine{
		{UUID: vm1, Owner: alice, Tags: map[string]string{"a": "1"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
		{UUID: vm2, Owner: alice, Tags: map[string]string{"a": "2"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}},
	}
	entries := []Entry{
		entry(t, "1", "", "FROM tag a TO tag a = 1 ALLOW tcp PORT 80"),
		entry(t, "2", "", "FROM any TO all vms BLOCK tcp PORT 80"),
		entry(t, "3", "", "FROM (subnet 10.0.0.0/24 OR ip 10.0.0.7 OR tag a) TO all vms ALLOW udp PORT 53 PRIORITY 3"),
	}
	want := Compile(fleet[0], fleet, entries)
	comparers := cmp.Options{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	for range 20 {
		rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		rand.Shuffle(len(fleet), func(i, j int) { fleet[i], fleet[j] = fleet[j], fleet[i] })
		i := 0
		if fleet[i].UUID != vm1 {
			i = 1
		}
		if diff := cmp.Diff(want, Compile(fleet[i], fleet, entries), comparers); diff != "" {
			t.Fatalf("policy depends on order:\n%s", diff)
		}
	}
	if got := want.In[0].Peers; len(got) != 1 || got[0] != netip.MustParsePrefix("10.0.0.0/24") {
		t.Errorf("peers = %v, want the one subnet that covers the rest", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range normalForms {
		f.Add(tt.in)
	}
	f.Add(`FROM tag "\ud800" TO all vms ALLOW tcp PORTS 1 - 2, 3`)
	f.Add("FROM subnet ::/0 TO (tag a = b OR vm " + vm1 + ") BLOCK icmp6 (TYPE 1 CODE 2 AND TYPE 3)")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("Parse(%q) = %v, which is no ErrInvalid", text, err)
			}
			return
		}
		normal := r.String()
		again, err := Parse(normal)
		if err != nil {
			t.Fatalf("normal form %q of %q: %v", normal, text, err)
		}
		if again.String() != normal {
			t.Fatalf("normal form %q of %q prints as %q", normal, text, again)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	var fleet []Machine
	for i := range 1000 {
		fleet = append(fleet, Machine{UUID: fmt.Sprint(i), Owner: alice, Tags: map[string]string{"n": fmt.Sprint(i % 10)}, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}})
	}
	var entries []Entry
	for i := range 20 {
		entries = append(entries, entry(b, fmt.Sprint(i), alice, fmt.Sprintf("FROM tag n = %d TO all vms ALLOW tcp PORT %d", i%10, i+1)))
	}
	for b.Loop() {
		Compile(fleet[0], fleet, entries)
	}
}
