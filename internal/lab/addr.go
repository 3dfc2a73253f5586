package lab

import "net/netip"

// The address plan. IPv4 is the benchmark range of RFC 2544, IPv6 a unique
// local prefix (RFC 4193) that spells "TFO". Every lab uses the same plan: each
// has namespaces of its own, so two labs never meet.
var (
	// pathPrefix4 and pathPrefix6 hold the paths. A path owns whole blocks of
	// 256 addresses: block k is 198.18.k.0/24 and fd54:464f:0:k::/64, where k
	// is the path's first block.
	pathPrefix4 = netip.MustParsePrefix("198.18.0.0/16")
	pathPrefix6 = netip.MustParsePrefix("fd54:464f::/48")

	// directPrefix4 and directPrefix6 are reached without the box.
	directPrefix4 = netip.MustParsePrefix("198.19.0.0/17")
	directPrefix6 = netip.MustParsePrefix("fd54:464f:1::/64")

	// poolPrefix4 and poolPrefix6 are the outside addresses of the box's NAT.
	poolPrefix4 = netip.MustParsePrefix("198.19.129.0/24")
	poolPrefix6 = netip.MustParsePrefix("fd54:464f:3::/64")

	boxLink = link{
		name:    "box0",
		client4: netip.MustParsePrefix("198.19.128.1/24"), servers4: netip.MustParsePrefix("198.19.128.2/24"),
		client6: netip.MustParsePrefix("fd54:464f:2::1/64"), servers6: netip.MustParsePrefix("fd54:464f:2::2/64"),
		clientMAC: mac{0x02, 'T', 'F', 'O', 0, 1}, serversMAC: mac{0x02, 'T', 'F', 'O', 0, 2},
	}
	directLink = link{
		name:    "direct0",
		client4: netip.MustParsePrefix("198.19.130.1/24"), servers4: netip.MustParsePrefix("198.19.130.2/24"),
		client6: netip.MustParsePrefix("fd54:464f:4::1/64"), servers6: netip.MustParsePrefix("fd54:464f:4::2/64"),
		clientMAC: mac{0x02, 'T', 'F', 'O', 1, 1}, serversMAC: mac{0x02, 'T', 'F', 'O', 1, 2},
	}

	dnsAddr4 = netip.MustParseAddr("198.19.130.53")
	dnsAddr6 = netip.MustParseAddr("fd54:464f:4::53")
)

// poolSize is the number of outside addresses the box's NAT rotates through.
const poolSize = 250

const (
	blockSize  = 256
	blockCount = 256
)

type mac [6]byte

// link is one of the two ways from the client to the servers, with the
// addresses of both ends.
type link struct {
	name                  string
	client4, servers4     netip.Prefix
	client6, servers6     netip.Prefix
	clientMAC, serversMAC mac
}

// pathAddr4 is address n of the path whose first block is given.
func pathAddr4(block, n int) netip.Addr {
	a := pathPrefix4.Addr().As4()
	n += block * blockSize
	a[2], a[3] = byte(n>>8), byte(n)
	return netip.AddrFrom4(a)
}

// pathAddr6 is address n of the path whose first block is given.
func pathAddr6(block, n int) netip.Addr {
	a := pathPrefix6.Addr().As16()
	a[7] = byte(block)
	a[14], a[15] = byte(n>>8), byte(n)
	return netip.AddrFrom16(a)
}

// addrKey is an address as a map key without a pointer in it: IPv4 in the
// first four bytes. The lab's two ranges cannot be confused.
type addrKey [16]byte

func keyOf(a netip.Addr) addrKey {
	if a.Is4() {
		var k addrKey
		b := a.As4()
		copy(k[:], b[:])
		return k
	}
	return a.As16()
}

// blockOf returns the block and the number within the block's path prefix of a
// destination; ok is false outside the paths.
func blockOf(k addrKey, v6 bool) (block, n int, ok bool) {
	if !v6 {
		p := pathPrefix4.Addr().As4()
		if k[0] != p[0] || k[1] != p[1] {
			return 0, 0, false
		}
		return int(k[2]), int(k[3]), true
	}
	p := pathPrefix6.Addr().As16()
	if [7]byte(k[:7]) != [7]byte(p[:7]) || [6]byte(k[8:14]) != [6]byte{} {
		return 0, 0, false
	}
	return int(k[7]), int(k[14])<<8 | int(k[15]), true
}

// poolAddr is outside address i of the NAT, counted from 0.
func poolAddr(i int, v6 bool) addrKey {
	if v6 {
		a := poolPrefix6.Addr().As16()
		a[15] = byte(1 + i)
		return a
	}
	a := keyOf(poolPrefix4.Addr())
	a[3] = byte(1 + i)
	return a
}

// DirectHosts is the number of addresses on the direct link, per family.
const DirectHosts = 32000

// DirectAddr4 is address n of the direct link, counted from 1.
func DirectAddr4(n int) netip.Addr {
	a := directPrefix4.Addr().As4()
	a[2], a[3] = byte(n>>8), byte(n)
	return netip.AddrFrom4(a)
}

// DirectAddr6 is the same over IPv6.
func DirectAddr6(n int) netip.Addr {
	a := directPrefix6.Addr().As16()
	a[14], a[15] = byte(n>>8), byte(n)
	return netip.AddrFrom16(a)
}
