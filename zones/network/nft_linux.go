package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	mnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// batch is one nftables transaction: all of it happens or nothing does.
//
// Deleting what is not there would fail the whole batch, and older kernels have no way to say "if it is there". So a
// drop is written as an add of the same thing followed by its deletion, which is right either way.
type batch struct {
	n    *Network
	c    *nftables.Conn
	fit  bool // the connection for another batch
	t    *nftables.Table
	sets uint32 // numbers sets within the batch
	err  error
}

// maxConns is how many connections are kept for the next batch.
const maxConns = 4

// newBatch opens a batch on one of the instance's tables. The caller releases it.
//
// Connections are kept: the kernel does not close one before it has freed all that was removed by then, which takes a grace period of
// many milliseconds, with everybody else's changes waiting.
func (n *Network) newBatch(family nftables.TableFamily) (*batch, error) {
	b := &batch{n: n, t: &nftables.Table{Family: family, Name: n.tableName()}}
	n.connsMu.Lock()
	if last := len(n.conns) - 1; last >= 0 {
		b.c, n.conns = n.conns[last], n.conns[:last]
	}
	n.connsMu.Unlock()
	if b.c != nil {
		return b, nil
	}
	var err error
	b.c, err = nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(n.nsFD()), nftables.WithSockOptions(func(c *mnetlink.Conn) error {
		// Every message is acknowledged, and the acknowledgements of a long batch wait in the socket until we read.
		return errors.Join(c.SetReadBuffer(4<<20), c.SetWriteBuffer(4<<20))
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return b, nil
}

// release gives the batch's connection back. Only one on which all went well is fit for another batch.
func (b *batch) release() {
	b.n.connsMu.Lock()
	keep := b.fit && len(b.n.conns) < maxConns && !b.n.connsClosed
	if keep {
		b.n.conns = append(b.n.conns, b.c)
	}
	b.n.connsMu.Unlock()
	if !keep {
		_ = b.c.CloseLasting()
	}
}

// closeConns closes those that are kept, and any other when its batch is released.
func (n *Network) closeConns() {
	n.connsMu.Lock()
	defer n.connsMu.Unlock()
	n.connsClosed = true
	for _, c := range n.conns {
		_ = c.CloseLasting()
	}
	n.conns = nil
}

func (n *Network) tableName() string { return "mobula_" + n.instance }

// commit sends the batch.
func (b *batch) commit() error {
	if b.err != nil {
		return b.err
	}
	if err := b.c.Flush(); err != nil {
		return fmt.Errorf("change nftables: %w", err)
	}
	b.fit = true
	return nil
}

func (b *batch) chain(name string) *nftables.Chain {
	return b.c.AddChain(&nftables.Chain{Table: b.t, Name: name})
}

// emptyChain makes sure that there is a chain and that nothing is in it.
func (b *batch) emptyChain(name string) *nftables.Chain {
	c := b.chain(name)
	b.c.FlushChain(c)
	return c
}

func (b *batch) dropChain(name string) { b.c.DelChain(b.emptyChain(name)) }

// rule appends a rule. The label can be found again in the kernel and names the rule's counter, if it has one.
func (b *batch) rule(c *nftables.Chain, label string, exprs ...[]expr.Any) {
	r := &nftables.Rule{Table: b.t, Chain: c, Exprs: slices.Concat(exprs...)}
	if label != "" {
		r.UserData = userdata.AppendString(nil, userdata.TypeComment, label)
	}
	b.c.AddRule(r)
}

func (b *batch) set(s *nftables.Set, elements []nftables.SetElement) *nftables.Set {
	b.sets++
	s.Table, s.ID = b.t, b.sets
	if s.Anonymous {
		s.Name = "__set%d"
		s.Constant = true
	}
	if err := b.c.AddSet(s, elements); err != nil && b.err == nil {
		b.err = fmt.Errorf("nftables set: %w", err)
	}
	return s
}

func (b *batch) dropSet(s *nftables.Set) { b.c.DelSet(b.set(s, nil)) }

func (b *batch) add(s *nftables.Set, elements ...nftables.SetElement) {
	if err := b.c.SetAddElements(s, elements); err != nil && b.err == nil {
		b.err = fmt.Errorf("nftables elements: %w", err)
	}
}

func (b *batch) remove(s *nftables.Set, elements ...nftables.SetElement) {
	b.add(s, elements...)
	if err := b.c.SetDeleteElements(s, elements); err != nil && b.err == nil {
		b.err = fmt.Errorf("nftables elements: %w", err)
	}
}

// Registers: reg is one of 16 bytes, word(i) the 32-bit ones that lie side by side and so form a concatenated key.
const reg = 1

func word(i int) uint32 { return uint32(unix.NFT_REG32_00 + i) }

func payload(base expr.PayloadBase, offset, length, to uint32) []expr.Any {
	return []expr.Any{&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: to, Base: base, Offset: offset, Len: length}}
}

func link(offset, length uint32) []expr.Any {
	return payload(expr.PayloadBaseLLHeader, offset, length, reg)
}

func ip(offset, length uint32) []expr.Any {
	return payload(expr.PayloadBaseNetworkHeader, offset, length, reg)
}

func transport(offset, length uint32) []expr.Any {
	return payload(expr.PayloadBaseTransportHeader, offset, length, reg)
}

func meta(key expr.MetaKey) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: reg}} }

func compare(op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: op, Register: reg, Data: data}}
}

func is(data ...byte) []expr.Any    { return compare(expr.CmpOpEq, data) }
func isNot(data ...byte) []expr.Any { return compare(expr.CmpOpNeq, data) }

func masked(mask ...byte) []expr.Any {
	return []expr.Any{&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}}
}

func match(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

var (
	accept  = verdict(expr.VerdictAccept, "")
	counter = []expr.Any{&expr.Counter{}}
	drop    = match(counter, verdict(expr.VerdictDrop, ""))
)

// Ethernet types. The frame's own field is compared rather than what the kernel made of it, so that a tag put in front
// of a packet cannot pass for the packet.
var (
	isIPv4 = match(link(12, 2), is(0x08, 0x00))
	isIPv6 = match(link(12, 2), is(0x86, 0xdd))
	isARP  = match(link(12, 2), is(0x08, 0x06))
)

func proto(number byte) []expr.Any { return match(meta(expr.MetaKeyL4PROTO), is(number)) }

// ifname is an interface's name as sets hold it.
func ifname(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

// in compares the register with a set made for this rule alone.
func (b *batch) in(key nftables.SetDatatype, interval bool, elements []nftables.SetElement, invert bool) []expr.Any {
	s := b.set(&nftables.Set{Anonymous: true, Interval: interval, KeyType: key, KeyByteOrder: binaryutil.BigEndian}, elements)
	return []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID, Invert: invert}}
}

// notIn goes on if the address in the register is in none of the prefixes, which are of one family and do not overlap. A
// few single addresses are compared one by one: a set for them costs more to make than it saves.
func (b *batch) notIn(list []netip.Prefix) []expr.Any {
	few := len(list) <= 4
	for _, p := range list {
		few = few && p.IsSingleIP()
	}
	if !few {
		key := nftables.TypeIPAddr
		if list[0].Addr().Is6() {
			key = nftables.TypeIP6Addr
		}
		return b.in(key, true, prefixes(list), true)
	}
	var m []expr.Any
	for _, p := range list {
		m = append(m, isNot(p.Addr().AsSlice()...)...)
	}
	return m
}

// prefixes turns subnets of one family into the elements of an interval set. They must not overlap.
func prefixes(list []netip.Prefix) []nftables.SetElement {
	var out []nftables.SetElement
	for _, p := range list {
		out = append(out, nftables.SetElement{Key: p.Masked().Addr().AsSlice()})
		if end := after(p); end != nil {
			out = append(out, nftables.SetElement{Key: end, IntervalEnd: true})
		}
	}
	return out
}

// after is the address just behind the prefix, nil behind the last of all.
func after(p netip.Prefix) []byte {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	if next := last.Next(); next.IsValid() {
		return next.AsSlice()
	}
	return nil
}

// span is an inclusive range of 16-bit numbers.
type span struct{ first, last uint16 }

// spans turns ranges into the elements of an interval set, those that touch made one.
func spans(list []span) []nftables.SetElement {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b span) int { return int(a.first) - int(b.first) })
	var merged []span
	for _, s := range list {
		if n := len(merged); n > 0 && int(s.first) <= int(merged[n-1].last)+1 {
			merged[n-1].last = max(merged[n-1].last, s.last)
			continue
		}
		merged = append(merged, s)
	}
	var out []nftables.SetElement
	for _, s := range merged {
		out = append(out, nftables.SetElement{Key: binary.BigEndian.AppendUint16(nil, s.first)})
		if s.last < 65535 {
			out = append(out, nftables.SetElement{Key: binary.BigEndian.AppendUint16(nil, s.last+1), IntervalEnd: true})
		}
	}
	return out
}

// split divides prefixes by family and drops those that lie in another.
func split(list []netip.Prefix) (v4, v6 []netip.Prefix) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	for _, p := range list {
		to := &v6
		if p.Addr().Is4() {
			to = &v4
		}
		if n := len(*to); n == 0 || !(*to)[n-1].Contains(p.Addr()) {
			*to = append(*to, p)
		}
	}
	return v4, v6
}

func concat(types ...nftables.SetDatatype) nftables.SetDatatype {
	t, err := nftables.ConcatSetType(types...)
	if err != nil {
		panic(err) // five types at most, all constants
	}
	return t
}

// remember writes the key in word(0) and on to a set, for the time given, or sets the time anew if it is there. The
// rule goes no further when the set is full.
func remember(s *nftables.Set, d time.Duration) []expr.Any {
	return []expr.Any{&expr.Dynset{SrcRegKey: word(0), SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: d}}
}

// known goes on only if the key in word(0) and on is in the set.
func known(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: word(0), SetName: s.Name, SetID: s.ID}}
}
