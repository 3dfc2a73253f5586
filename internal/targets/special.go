package targets

import (
	"net/netip"
	"slices"
	"sync"
)

// special lists what must not be probed unasked: the entries of the IANA
// special-purpose registries (RFC 6890, RFC 8190; state of October 2025) that
// are not globally reachable, and the ranges below that the registries leave
// to others. An entry inside another one is not repeated.
//
// ::ffff:0:0/96, 64:ff9b::/96 and 2002::/16 are not here: such an address
// is as special as the IPv4 address inside it, see [Policy].
var special = []struct {
	prefix string
	name   string // and source
}{
	{"0.0.0.0/8", "this network, RFC 791"},
	{"10.0.0.0/8", "private use, RFC 1918"},
	{"100.64.0.0/10", "shared address space (CGN), RFC 6598"},
	{"127.0.0.0/8", "loopback, RFC 1122"},
	{"169.254.0.0/16", "link local, RFC 3927; cloud metadata"},
	{"172.16.0.0/12", "private use, RFC 1918"},
	{"192.0.0.0/24", "IETF protocol assignments, RFC 6890"},
	{"192.0.2.0/24", "documentation, RFC 5737"},
	{"192.88.99.0/24", "6to4 relay anycast, deprecated, RFC 7526"},
	{"192.168.0.0/16", "private use, RFC 1918"},
	{"198.18.0.0/15", "benchmarking, RFC 2544"},
	{"198.51.100.0/24", "documentation, RFC 5737"},
	{"203.0.113.0/24", "documentation, RFC 5737"},
	{"224.0.0.0/4", "multicast, RFC 5771 (not in the registry)"},
	{"240.0.0.0/4", "reserved, RFC 1112, and limited broadcast, RFC 919"},

	{"::/96", "unspecified, loopback and IPv4-compatible, RFC 4291 (as a whole not in the registry)"},
	{"::ffff:0:0:0/96", "IPv4-translated, RFC 2765 (not in the registry)"},
	{"64:ff9b:1::/48", "local-use translation, RFC 8215"},
	{"100::/64", "discard only, RFC 6666"},
	{"100:0:0:1::/64", "dummy prefix, RFC 9780"},
	{"2001::/23", "IETF protocol assignments, RFC 2928: Teredo, benchmarking, ORCHID"},
	{"2001:db8::/32", "documentation, RFC 3849"},
	{"3fff::/20", "documentation, RFC 9637"},
	{"5f00::/16", "segment routing identifiers, RFC 9602"},
	{"fc00::/7", "unique local, RFC 4193"},
	{"fe80::/10", "link local, RFC 4291"},
	{"fec0::/10", "site local, deprecated, RFC 3879 (not in the registry)"},
	{"ff00::/8", "multicast, RFC 4291 (not in the registry)"},
}

// reachable lists the entries inside those above that the registries call
// globally reachable.
var reachable = []struct {
	prefix string
	name   string
}{
	{"192.0.0.9/32", "port control protocol anycast, RFC 7723"},
	{"192.0.0.10/32", "TURN anycast, RFC 8155"},
	{"2001:1::1/128", "port control protocol anycast, RFC 7723"},
	{"2001:1::2/128", "TURN anycast, RFC 8155"},
	{"2001:1::3/128", "DNS-SD registration anycast, RFC 9665"},
	{"2001:3::/32", "AMT, RFC 7450"},
	{"2001:4:112::/48", "AS112, RFC 7535"},
	{"2001:20::/28", "ORCHIDv2, RFC 7343"},
	{"2001:30::/28", "drone remote identification, RFC 9374"},
}

// SpecialPurpose returns the addresses that are denied by default: private,
// local, reserved, documentation, multicast, and the like. The set is shared
// and does not change.
var SpecialPurpose = sync.OnceValue(func() *Prefixes {
	var ps []netip.Prefix
	for _, s := range special {
		ps = append(ps, netip.MustParsePrefix(s.prefix))
	}
	for _, r := range reachable {
		hole := netip.MustParsePrefix(r.prefix)
		for i, p := range ps {
			if p.Overlaps(hole) {
				ps = append(slices.Delete(ps, i, i+1), without(p, hole)...)
				break
			}
		}
	}
	return NewPrefixes(ps...)
})
