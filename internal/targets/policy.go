package targets

import "net/netip"

// Reasons of [Policy.Check]. They are stable: conditions are made of them.
const (
	ReasonSpecialPurpose = "special_purpose"
	ReasonBlocklist      = "blocklist"
	ReasonNotAnAddress   = "not_an_address" // the zero Addr
)

// Policy says which addresses may be measured: not those in Block, and of the
// special-purpose ranges only those in Allow. The zero Policy is the default:
// no special-purpose address. It is safe for concurrent use.
type Policy struct {
	Allow *Prefixes // opens special-purpose ranges
	Block *Prefixes // wins over Allow
}

// Check reports whether addr may be measured, else why not.
//
// An IPv6 address that a translator or tunnel turns into an IPv4 address is
// checked in both forms, and Allow must cover every form that is special:
// 64:ff9b::192.168.0.1 needs 192.168.0.0/16 to be allowed, just as 192.168.0.1
// does, so that allowing a NAT64 prefix never opens the network behind it.
func (p Policy) Check(addr netip.Addr) (reason string, ok bool) {
	if !addr.IsValid() {
		return ReasonNotAnAddress, false
	}
	addr = addr.WithZone("").Unmap()
	inner := Embedded(addr)
	switch {
	case p.Block.Contains(addr) || p.Block.Contains(inner):
		return ReasonBlocklist, false
	case p.special(addr) || p.special(inner):
		return ReasonSpecialPurpose, false
	}
	return "", true
}

func (p Policy) special(a netip.Addr) bool {
	return SpecialPurpose().Contains(a) && !p.Allow.Contains(a)
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215, used with /96 prefixes
	siit       = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
)

// Embedded returns the IPv4 address that packets to a reach through a translator
// or a tunnel (NAT64, SIIT, 6to4), or the zero Addr when a is none of these.
func Embedded(a netip.Addr) netip.Addr {
	a = a.WithZone("")
	b := a.As16()
	switch {
	case nat64.Contains(a), nat64Local.Contains(a), siit.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return netip.Addr{}
}
