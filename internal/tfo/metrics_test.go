package tfo

import (
	"net/netip"
	"testing"

	"github.com/mdlayher/netlink"
)

func reply(t testing.TB, build func(e *netlink.AttributeEncoder)) []byte {
	e := netlink.NewAttributeEncoder()
	build(e)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{metricsCmdGet, metricsVersion, 0, 0}, b...)
}

func TestParseEntry(t *testing.T) {
	got, err := parseEntry(reply(t, func(e *netlink.AttributeEncoder) {
		e.Bytes(metricsAttrAddrIPv4, []byte{127, 0, 0, 1})
		e.Uint16(metricsAttrFopenDrops, 3)
		e.Bytes(metricsAttrCookie, []byte("12345678"))
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got.Cookie.State != CookiePresent || string(got.Cookie.Bytes) != "12345678" || got.SynDrops != 3 {
		t.Errorf("%+v", got)
	}
	got, err = parseEntry(reply(t, func(e *netlink.AttributeEncoder) { e.Bytes(metricsAttrAddrIPv4, []byte{127, 0, 0, 1}) }))
	if err != nil || got.Cookie.State != CookieNone {
		t.Errorf("an entry without a cookie: %+v, %v", got, err)
	}
	if _, err := parseEntry([]byte{1}); err == nil {
		t.Error("a short reply passed")
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add(reply(f, func(e *netlink.AttributeEncoder) { e.Bytes(metricsAttrCookie, []byte("12345678")) }))
	f.Add([]byte{1, 1, 0, 0, 6, 0, 8, 0, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := parseEntry(b); err != nil && e.Cookie.State != CookieNotRead {
			t.Fatal("an error came with an answer")
		}
	})
}

// TestRequestAddresses: addresses are patched into marshalled messages; what
// the library reads back must be them.
func TestRequestAddresses(t *testing.T) {
	for _, a := range []string{"192.0.2.77", "2001:db8::77"} {
		dst := netip.MustParseAddr(a)
		r, err := makeRequest(20, metricsCmdGet, dst.Is6(), true)
		if err != nil {
			t.Fatal(err)
		}
		copy(r.b[r.daddr:], dst.AsSlice())
		copy(r.b[r.src:], dst.Next().AsSlice())
		var m netlink.Message
		if err := m.UnmarshalBinary(r.b); err != nil {
			t.Fatal(err)
		}
		d, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			t.Fatal(err)
		}
		found := map[uint16]netip.Addr{}
		for d.Next() {
			found[d.Type()], _ = netip.AddrFromSlice(d.Bytes())
		}
		dAttr, sAttr := uint16(metricsAttrAddrIPv4), uint16(metricsAttrSaddrIPv4)
		if dst.Is6() {
			dAttr, sAttr = metricsAttrAddrIPv6, metricsAttrSaddrIPv6
		}
		if found[dAttr] != dst || found[sAttr] != dst.Next() {
			t.Errorf("%s: %v", a, found)
		}
	}
}

// TestMetricsRoundTrip asks the running kernel: no privilege is needed to read.
func TestMetricsRoundTrip(t *testing.T) {
	m, err := OpenMetrics()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, a := range []string{"192.0.2.77", "2001:db8::77"} {
		dst := netip.MustParseAddr(a)
		for _, src := range []netip.Addr{{}, dst} {
			e, err := m.Get(src, dst)
			if err != nil || e.Cookie.State != CookieNone {
				t.Errorf("an address never connected to: %+v, %v", e, err)
			}
		}
	}
}
