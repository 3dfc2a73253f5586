package targets

import (
	"net/netip"
	"testing"
)

// Both ends of every range, and the addresses just outside.
func TestSpecialPurpose(t *testing.T) {
	for _, tt := range []struct{ first, last, before, after string }{
		{"0.0.0.0", "0.255.255.255", "", "1.0.0.0"},
		{"10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"},
		{"100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"},
		{"127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"},
		{"169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"},
		{"172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"},
		{"192.0.0.0", "192.0.0.8", "191.255.255.255", "192.0.0.9"},
		{"192.0.0.11", "192.0.0.255", "192.0.0.10", "192.0.1.0"},
		{"192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"},
		{"192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"},
		{"192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"},
		{"198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"},
		{"198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"},
		{"203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"},
		{"224.0.0.0", "255.255.255.255", "223.255.255.255", ""},

		{"::", "::ffff:ffff", "", "::1:0:0"},
		{"::ffff:0:0:0", "::ffff:0:ffff:ffff", "::fffe:ffff:ffff:ffff", "::ffff:1:0:0"},
		{"64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "64:ff9b:0:ffff:ffff:ffff:ffff:ffff", "64:ff9b:2::"},
		{"100::", "100::1:ffff:ffff:ffff:ffff", "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "100:0:0:2::"},
		{"2001::", "2001:1::", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:1::1"},
		{"2001:1::4", "2001:2:ffff:ffff:ffff:ffff:ffff:ffff", "2001:1::3", "2001:3::"},
		{"2001:4::", "2001:4:111:ffff:ffff:ffff:ffff:ffff", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff", "2001:4:112::"},
		{"2001:4:113::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "2001:4:112:ffff:ffff:ffff:ffff:ffff", "2001:20::"},
		{"2001:40::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"},
		{"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"},
		{"3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"},
		{"5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "5f01::"},
		{"fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::"},
		{"fe80::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ff00::"},
		{"ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
	} {
		for _, a := range []string{tt.first, tt.last} {
			if !SpecialPurpose().Contains(netip.MustParseAddr(a)) {
				t.Errorf("%s is special", a)
			}
		}
		for _, a := range []string{tt.before, tt.after} {
			if a != "" && a != "ff00::" && SpecialPurpose().Contains(netip.MustParseAddr(a)) {
				t.Errorf("%s is not special", a)
			}
		}
	}
}

// The ranges of the set are those of the table above, no more.
func TestSpecialPurposeRanges(t *testing.T) {
	const v4, v6 = 15, 14
	if n := len(SpecialPurpose().ranges); n != v4+v6 {
		t.Errorf("%d ranges: %v", n, SpecialPurpose().ranges)
	}
}

func TestPolicy(t *testing.T) {
	set := func(ps ...string) *Prefixes {
		var out []netip.Prefix
		for _, p := range ps {
			out = append(out, netip.MustParsePrefix(p))
		}
		return NewPrefixes(out...)
	}
	for _, tt := range []struct {
		allow, block *Prefixes
		addr         string
		reason       string // empty: allowed
	}{
		{nil, nil, "8.8.8.8", ""},
		{nil, nil, "2606:4700::1", ""},
		{nil, nil, "10.0.0.1", "special_purpose"},
		{nil, nil, "169.254.169.254", "special_purpose"},
		{nil, nil, "::1", "special_purpose"},
		{nil, nil, "fe80::1%eth0", "special_purpose"},
		{set("10.0.0.0/8"), nil, "10.0.0.1", ""},
		{set("10.0.0.0/8"), nil, "192.168.0.1", "special_purpose"},
		{set("10.1.0.0/16"), set("10.1.2.0/24"), "10.1.2.3", "blocklist"},
		{set("10.1.2.3/32"), set("10.0.0.0/8"), "10.1.2.3", "blocklist"},
		{nil, set("8.8.8.0/24"), "8.8.8.8", "blocklist"},
		{nil, set("10.0.0.0/8"), "10.0.0.1", "blocklist"},
		{nil, set("2606:4700::/32"), "2606:4700::1", "blocklist"},

		// Mapped.
		{nil, nil, "::ffff:8.8.8.8", ""},
		{nil, nil, "::ffff:127.0.0.1", "special_purpose"},
		{set("127.0.0.0/8"), nil, "::ffff:127.0.0.1", ""},
		{nil, set("8.8.8.8/32"), "::ffff:8.8.8.8", "blocklist"},

		// NAT64: a network with IPv6 only reaches IPv4 servers through it.
		{nil, nil, "64:ff9b::808:808", ""},
		{nil, nil, "64:ff9b::a9fe:a9fe", "special_purpose"}, // 169.254.169.254
		{nil, set("8.8.8.8/32"), "64:ff9b::808:808", "blocklist"},
		{nil, set("64:ff9b::/96"), "64:ff9b::808:808", "blocklist"},
		{set("64:ff9b::/96"), nil, "64:ff9b::a00:1", "special_purpose"},
		{set("10.0.0.0/8"), nil, "64:ff9b::a00:1", ""},
		{nil, nil, "64:ff9b:1::808:808", "special_purpose"},
		{set("64:ff9b:1::/48"), nil, "64:ff9b:1::808:808", ""},
		{set("64:ff9b:1::/48"), nil, "64:ff9b:1::a00:1", "special_purpose"},
		{set("64:ff9b:1::/48", "10.0.0.0/8"), nil, "64:ff9b:1::a00:1", ""},

		// 6to4 and IPv4-translated.
		{nil, nil, "2002:808:808::1", ""},
		{nil, nil, "2002:7f00:1::", "special_purpose"},
		{nil, nil, "2002:c0a8:101::1", "special_purpose"},
		{nil, set("8.8.8.8/32"), "2002:808:808::1", "blocklist"},
		{set("::ffff:0:0:0/96"), nil, "::ffff:0:808:808", ""},
		{set("::ffff:0:0:0/96"), nil, "::ffff:0:a00:1", "special_purpose"},
		{nil, nil, "::10.0.0.1", "special_purpose"}, // IPv4-compatible
	} {
		reason, ok := Policy{Allow: tt.allow, Block: tt.block}.Check(netip.MustParseAddr(tt.addr))
		if reason != tt.reason || ok != (tt.reason == "") {
			t.Errorf("%s with allow %v, block %v: %q, %v, want %q", tt.addr, tt.allow, tt.block, reason, ok, tt.reason)
		}
	}
	if reason, ok := (Policy{}).Check(netip.Addr{}); ok || reason != "not_an_address" {
		t.Errorf("no address: %q, %v", reason, ok)
	}
}
