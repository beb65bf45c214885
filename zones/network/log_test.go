//go:build linux

package network

import "testing"

// A rule that logs decides every packet, counts every packet, and writes down a bounded number of them.
func TestLogIsBounded(t *testing.T) {
	p := compile(t, nil, "FROM any TO all vms BLOCK tcp PORT 25", "FROM (ip 192.0.2.1 OR ip 2001:db8::1) TO all vms ALLOW udp PORT 53")
	for i := range p.In {
		p.In[i].Log = true
	}
	f := newFirewalled(t, p)
	const sent = 200
	var frames [][]byte
	for i := range uint16(sent) {
		frames = append(frames, packet(macA, macC, "192.0.2.1", "10.1.0.10", 6, tcp(2000+i, 25, synFlag)))
	}
	for i, ok := range passes(t, f.world, f.zone, frames, f.in) {
		if ok {
			t.Errorf("packet %d passes", i)
		}
	}
	if !f.comes(t, "192.0.2.1", 17, udp(1000, 53, "q")) || !f.comes(t, "2001:db8::1", 17, udp(1000, 53, "q")) || f.comes(t, "192.0.2.2", 17, udp(1000, 53, "q")) {
		t.Error("what is logged is not what is allowed")
	}
	c, err := f.n.Counters(t.Context(), zoneA)
	if err != nil {
		t.Fatal(err)
	}
	blocked, allowed := c[0].Logged["0"], c[0].Logged["1"]
	// A slow machine has seconds for it, in each of which there may be some more.
	if blocked.Packets != sent || blocked.Lines < LogBurst/2 || blocked.Lines > sent-LogBurst {
		t.Errorf("of %d packets: %+v", sent, blocked)
	}
	if allowed != (LogCounters{2, 2}) {
		t.Errorf("of two packets: %+v", allowed)
	}
	if got := c[0].Dropped[dropFirewall]; got != sent+1 {
		t.Errorf("dropped %d", got)
	}
}
