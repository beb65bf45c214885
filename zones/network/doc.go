// Package network connects zones: NIC tags on bridges, veth pairs and taps, fabrics over VXLAN, gateways with NAT, the
// protection against spoofing and the firewall of each zone (vnd, dladm, mac protection and fwadm on SmartOS).
//
// Call [Open], then [Network.PutTag] for each NIC tag the host serves, then [Network.Attach] for a zone: it answers with
// the network namespace an OS container is to run in, interfaces, addresses and routes in place, or with the taps of
// a VM. [Network.SetPolicy] replaces a zone's firewall in one transaction; the rules come from package firewall.
// [Network.Detach] undoes Attach from the zone's id alone. Everything may be repeated: each call brings the kernel to
// what was asked, from wherever it was.
//
// The kernel is the only memory. Interfaces carry their owner in their alias, rules live in tables named after the
// instance, namespaces are bound below one directory; so a process that is killed at any point leaves nothing that
// [Network.Sweep] or [Network.Destroy] of the next one does not find. Never rename or re-alias what this package made. Whoever
// flushes all of the host's nftables takes the zones' protection along: [Network.Unprotected] says which, and attaching
// them again brings it back.
//
// # How traffic is judged
//
// Rules sit in one nftables table of the bridge family, looked up by interface name, so they cost the same whatever the
// number of zones. What a zone sends passes its anti-spoofing rules first, then its firewall; what it gets passes the
// filter for foreign frames, then its firewall. Known flows are remembered in sets of the zone's own, of bounded size,
// and not in the host's connection tracking: kernels differ in tracking connections across a bridge, two fabrics may
// use the same addresses, and one tenant's flood must fill nobody else's table. When a zone's set is full its new
// flows are dropped and counted. Answers to known flows pass, and so do ICMP errors that quote one.
//
// Outside a zone's own rules the rest is denied by default: a gateway lets in nothing but echo and neighbour
// discovery for itself, and nothing unasked towards a network behind NAT.
//
// # Files
//
// nic.go and tag.go say what is asked for, name_linux.go how things are called. attach.go, netns.go and link.go make a
// zone's network, segment.go bridges and VXLAN, gateway.go the way out. nft.go, filter.go, flow.go and policy.go are the
// rules. counters.go and sweep.go look after what is there.
//
// Stability: experimental.
package network
