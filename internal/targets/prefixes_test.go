package targets

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawAddr draws from a corner of each family, so that prefixes and addresses
// meet often.
func drawAddr(t *rapid.T) netip.Addr {
	low := rapid.Uint32Range(0, 0x3ff).Draw(t, "low")
	switch rapid.IntRange(0, 3).Draw(t, "family") {
	case 0:
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, low)))
	case 1: // the end of the family, where there is no next address
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, ^low)))
	case 2:
		b := [16]byte{0: 0x20}
		binary.BigEndian.PutUint32(b[12:], low)
		return netip.AddrFrom16(b)
	default:
		b := [16]byte(netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").AsSlice())
		binary.BigEndian.PutUint32(b[12:], ^low)
		return netip.AddrFrom16(b)
	}
}

// The set answers as asking every prefix does.
func TestPrefixesProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ps []netip.Prefix
		for range rapid.IntRange(0, 20).Draw(t, "prefixes") {
			a := drawAddr(t)
			bits := a.BitLen() - rapid.IntRange(0, 10).Draw(t, "host bits")
			if rapid.IntRange(0, 30).Draw(t, "wide") == 0 {
				bits = rapid.IntRange(0, a.BitLen()).Draw(t, "bits")
			}
			ps = append(ps, netip.PrefixFrom(a, bits))
		}
		set := NewPrefixes(ps...)
		for range 50 {
			a := drawAddr(t)
			want := slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
			if got := set.Contains(a); got != want {
				t.Fatalf("%v in %v: %v, want %v", a, ps, got, want)
			}
		}
	})
}

// without leaves everything but the hole.
func TestWithout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hole := netip.PrefixFrom(drawAddr(t), 0)
		hole = netip.PrefixFrom(hole.Addr(), hole.Addr().BitLen()-rapid.IntRange(0, 8).Draw(t, "host bits")).Masked()
		p := netip.PrefixFrom(hole.Addr(), hole.Bits()-rapid.IntRange(0, 12).Draw(t, "around")).Masked()
		rest := NewPrefixes(without(p, hole)...)
		for range 50 {
			a := drawAddr(t)
			if got, want := rest.Contains(a), p.Contains(a) && !hole.Contains(a); got != want {
				t.Fatalf("%v in %v without %v: %v", a, p, hole, got)
			}
		}
	})
}

func TestPrefixesForms(t *testing.T) {
	var none *Prefixes
	if none.Contains(netip.MustParseAddr("192.0.2.1")) || NewPrefixes(netip.Prefix{}).Contains(netip.Addr{}) {
		t.Error("the empty set holds something")
	}
	set := NewPrefixes(
		netip.MustParsePrefix("::ffff:192.0.2.0/120"), // 192.0.2.0/24
		netip.MustParsePrefix("fe80::/10"),
		netip.MustParsePrefix("198.51.100.77/24"),
	)
	for addr, want := range map[string]bool{
		"192.0.2.255": true, "::ffff:192.0.2.1": true, "192.0.3.0": false,
		"fe80::1%eth0": true, "198.51.100.0": true,
	} {
		if got := set.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	// "All mapped addresses" and "all of IPv6" do not mean all of IPv4.
	for _, p := range []string{"::ffff:0:0/96", "::ffff:0:0/90", "::/0"} {
		if NewPrefixes(netip.MustParsePrefix(p)).Contains(netip.MustParseAddr("192.0.2.1")) {
			t.Errorf("%s holds an IPv4 address", p)
		}
	}
}

func TestParseBlocklist(t *testing.T) {
	const list = "\ufeff# From IANA IPv4 Special-Purpose Address Registry\r\n" +
		"10.0.0.0/8          # RFC1918: Private-Use\r\n" +
		"\t192.0.2.1\n" +
		"\n" +
		"example.com # names are not resolved\n" +
		"2001:db8::/32\n" +
		"192.0.2.0/240\n" +
		"198.51.100.7/24"
	var bad []string
	set, err := ParseBlocklist(strings.NewReader(list), "block", func(e *LineError) { bad = append(bad, e.Error()) })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"block:5: not an IP address: example.com # names are not resolved",
		"block:7: not a CIDR block: 192.0.2.0/240",
	}
	if !slices.Equal(bad, want) {
		t.Errorf("bad lines %q, want %q", bad, want)
	}
	for addr, want := range map[string]bool{
		"10.255.0.1": true, "11.0.0.0": false, "192.0.2.1": true, "192.0.2.2": false,
		"2001:db8:ffff::": true, "2001:db9::": false, "198.51.100.255": true,
	} {
		if got := set.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}

	set, err = ParseBlocklist(strings.NewReader(list), "block", nil)
	if set != nil || err == nil || err.Error() != want[0] {
		t.Errorf("without a callback: %v, %v", set, err)
	}
}

func BenchmarkPolicy(b *testing.B) {
	var block []netip.Prefix
	for i := range 10_000 { // every second /24 of 11.0.0.0/8 and what follows
		block = append(block, netip.PrefixFrom(netip.AddrFrom4([4]byte{11 + byte(i>>15), byte(i >> 7), byte(i << 1), 0}), 24))
	}
	p := Policy{Block: NewPrefixes(block...), Allow: NewPrefixes(netip.MustParsePrefix("10.0.0.0/8"))}
	for _, addr := range []string{"11.7.2.1", "10.0.0.1", "64:ff9b::808:808"} {
		b.Run(addr, func(b *testing.B) {
			a := netip.MustParseAddr(addr)
			for b.Loop() {
				p.Check(a)
			}
		})
	}
}
