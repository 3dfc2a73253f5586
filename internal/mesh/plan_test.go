package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Every probe measures every other one's listener once per port and family that
// both have, and the pairs of all clients are all pairs.
func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}), 0, 6, rapid.ID[string]).Draw(t, "probes")
		ports := rapid.SliceOfNDistinct(rapid.Uint16(), 0, 3, rapid.ID[uint16])
		addr := func(v6 bool) []netip.Addr {
			if rapid.Bool().Draw(t, "none") {
				return nil
			}
			if v6 {
				return []netip.Addr{netip.IPv6LinkLocalAllNodes()}
			}
			return []netip.Addr{netip.IPv4Unspecified()}
		}
		type ordered struct {
			client, server string
			port           uint16
			v6             bool
		}
		var probes []Member
		for _, n := range names {
			probes = append(probes, Member{n, ports.Draw(t, "ports"), addr(false), addr(true)})
		}
		families := rapid.SampledFrom([][]bool{{false}, {true}, {false, true}}).Draw(t, "families")
		seed := rapid.Uint64().Draw(t, "seed")
		pairs := Plan(probes, families, seed)

		left := map[ordered]bool{}
		of := func(m Member, v6 bool) []netip.Addr { return map[bool][]netip.Addr{false: m.V4, true: m.V6}[v6] }
		for _, c := range probes {
			for _, s := range probes {
				for _, v6 := range families {
					can := of(c, v6) != nil || of(c, !v6) == nil // it has an address, or it is not known
					if c.Probe != s.Probe && can && of(s, v6) != nil {
						for _, p := range s.Ports {
							left[ordered{c.Probe, s.Probe, p, v6}] = true
						}
					}
				}
			}
		}
		for i, p := range pairs {
			o := ordered{p.Client, p.Server, p.Port, p.V6}
			if !left[o] || p.Index != i || len(p.Address) == 0 || p.Address[0].Is6() != p.V6 {
				t.Fatalf("pair %d: %+v", i, p)
			}
			delete(left, o)
		}
		if len(left) > 0 {
			t.Fatalf("not measured: %v", left)
		}
		n := 0
		for _, c := range names {
			for _, p := range Of(pairs, c) {
				if n++; p.Client != c || pairs[p.Index].Server != p.Server {
					t.Fatalf("%s is to measure %+v", c, p)
				}
			}
		}
		if n != len(pairs) {
			t.Fatalf("%d of %d pairs have a client", n, len(pairs))
		}
		if again := Plan(probes, families, seed); fmt.Sprint(again) != fmt.Sprint(pairs) {
			t.Fatal("the same seed gives another plan")
		}
	})
}

func TestBoth(t *testing.T) {
	list := func(s ...string) (ps []netip.Prefix) {
		for _, p := range s {
			ps = append(ps, netip.MustParsePrefix(p))
		}
		return ps
	}
	for _, tt := range []struct{ a, b, want []netip.Prefix }{
		{nil, nil, nil},
		{list("192.0.2.0/24"), nil, list("192.0.2.0/24")},
		{nil, list("192.0.2.0/24"), list("192.0.2.0/24")},
		{list("192.0.2.0/24"), list("192.0.2.128/25"), list("192.0.2.128/25")},
		{list("192.0.2.128/25"), list("192.0.2.0/24"), list("192.0.2.128/25")},
		{list("192.0.2.0/24"), list("198.51.100.0/24"), list("0.0.0.0/32")},
		{list("0.0.0.0/0"), list("2001:db8::/32"), list("0.0.0.0/32")},
		{list("192.0.2.0/24", "2001:db8::/32"), list("2001:db8:1::/48", "0.0.0.0/0"), list("192.0.2.0/24", "2001:db8:1::/48")},
	} {
		if got := both(tt.a, tt.b); !slices.Equal(got, tt.want) {
			t.Errorf("%v and %v: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// What two lists allow together is what each of them does.
func TestBothIsBoth(t *testing.T) {
	allows := func(list []netip.Prefix, a netip.Addr) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	rapid.Check(t, func(t *rapid.T) {
		// Few bits that count, so that blocks meet.
		addr := func() netip.Addr {
			b := rapid.Byte().Draw(t, "last byte")
			if rapid.Bool().Draw(t, "v6") {
				return netip.AddrFrom16([16]byte{0: 0x20, 15: b})
			}
			return netip.AddrFrom4([4]byte{192, 0, 2, b})
		}
		list := func() (ps []netip.Prefix) {
			for range rapid.IntRange(0, 3).Draw(t, "blocks") {
				a := addr()
				ps = append(ps, netip.PrefixFrom(a, rapid.IntRange(a.BitLen()-9, a.BitLen()).Draw(t, "bits")).Masked())
			}
			return ps
		}
		a, b := list(), list()
		common := both(a, b)
		for range 20 {
			if x := addr(); allows(common, x) != (allows(a, x) && allows(b, x)) {
				t.Fatalf("%v and %v allow together %v: %v is wrong", a, b, common, x)
			}
		}
	})
}
