package targets

import (
	"net/netip"
	"slices"
)

// Prefixes is a set of addresses given as prefixes. The nil set is empty.
//
// It is kept as sorted ranges that do not touch, so a look-up is one binary
// search, whatever the prefixes' nesting. IPv4 sorts before IPv6; a mapped
// address is looked up as the IPv4 address it stands for.
type Prefixes struct {
	ranges []addrRange
}

// addrRange holds both ends.
type addrRange struct{ first, last netip.Addr }

// NewPrefixes returns the set of all addresses in ps. Invalid prefixes are
// empty.
func NewPrefixes(ps ...netip.Prefix) *Prefixes {
	rs := make([]addrRange, 0, len(ps))
	for _, p := range ps {
		if p.IsValid() {
			p = unmapPrefix(p).Masked()
			rs = append(rs, addrRange{p.Addr(), lastAddr(p)})
		}
	}
	slices.SortFunc(rs, func(a, b addrRange) int { return a.first.Compare(b.first) })
	merged := rs[:0]
	for _, r := range rs {
		if n := len(merged); n > 0 {
			end := &merged[n-1].last
			if r.first.Compare(*end) <= 0 || r.first == end.Next() {
				if r.last.Compare(*end) > 0 {
					*end = r.last
				}
				continue
			}
		}
		merged = append(merged, r)
	}
	return &Prefixes{ranges: slices.Clip(merged)}
}

// Contains reports whether a is in the set. The zone of an address does not
// count: it says where an address is reached, not which one it is.
func (s *Prefixes) Contains(a netip.Addr) bool {
	if s == nil || !a.IsValid() {
		return false
	}
	a = a.WithZone("").Unmap()
	i, ok := slices.BinarySearchFunc(s.ranges, a, func(r addrRange, a netip.Addr) int { return r.first.Compare(a) })
	return ok || i > 0 && a.Compare(s.ranges[i-1].last) <= 0
}

// lastAddr returns the last address of a masked prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b) // 4 or 16 bytes
	return a
}

// without returns p without the hole, which lies inside it, as prefixes.
func without(p, hole netip.Prefix) []netip.Prefix {
	var rest []netip.Prefix
	for hole.Bits() > p.Bits() {
		// Keep the sibling of the hole and look at what holds both.
		b := hole.Addr().AsSlice()
		i := hole.Bits() - 1
		b[i/8] ^= 0x80 >> (i % 8)
		sibling, _ := netip.AddrFromSlice(b)
		rest = append(rest, netip.PrefixFrom(sibling, hole.Bits()))
		hole = netip.PrefixFrom(hole.Addr(), i).Masked()
	}
	return rest
}
