package origin

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func table(t testing.TB, paths ...string) *Table {
	t.Helper()
	tab, err := Open(paths...)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func check(t *testing.T, tab *Table, addr, want string) {
	t.Helper()
	var a netip.Addr
	if addr != "" {
		a = netip.MustParseAddr(addr)
	}
	o := tab.Lookup(a)
	if got := fmt.Sprint(o.ASN, " ", o.Country); got != want {
		t.Errorf("%s: %s, want %s", addr, got, want)
	}
}

const nothing = "0 "

func TestText(t *testing.T) {
	content := "prefix,asn\n# a comment\n\n10.0.0.0/8,64500\n10.1.0.0/16 AS64501 de\r\n10.1.2.0\t24\t64502_64503\n2001:db8::/32,{64504,64505}\n::ffff:192.0.2.0/120,1.10\n10.9.9.9/16,64506,nowhere\n"
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte(content))
	w.Close()
	for _, tab := range []*Table{table(t, file(t, "rib.csv", content)), table(t, file(t, "rib.gz", z.String()))} {
		check(t, tab, "10.200.0.1", "64500 ")
		check(t, tab, "10.1.1.1", "64501 DE")
		check(t, tab, "::ffff:10.1.1.1", "64501 DE")
		check(t, tab, "10.1.2.3", "64502 ")
		check(t, tab, "2001:db8::1", "64504 ")
		check(t, tab, "192.0.2.1", "65546 ")
		check(t, tab, "10.9.1.1", "64506 ")
		check(t, tab, "11.0.0.1", nothing)
		check(t, tab, "", nothing)
		if k := tab.Knows(); !k.AS || !k.Country {
			t.Errorf("%+v", k)
		}
	}
	check(t, nil, "10.0.0.1", nothing)
}

func TestMMDB(t *testing.T) {
	both := table(t, "testdata/asn.mmdb", "testdata/country.mmdb")
	check(t, both, "192.0.2.7", "64500 DE")
	check(t, both, "192.0.2.7", "64500 DE")
	check(t, both, "198.51.100.7", "64501 ")
	check(t, both, "2001:db8::7", "64502 AT")
	check(t, both, "203.0.113.7", nothing)
	check(t, table(t, "testdata/flat.mmdb"), "192.0.2.7", "64500 DE")
	if k := table(t, "testdata/asn.mmdb").Knows(); k != (Knows{AS: true}) {
		t.Errorf("%+v", k)
	}
	// The first file that knows wins.
	first := table(t, file(t, "own.csv", "192.0.2.0/25,1\n"), "testdata/asn.mmdb")
	check(t, first, "192.0.2.7", "1 ")
	check(t, first, "192.0.2.200", "64500 ")
}

// Text tells what an address is announced in, a database does not.
func TestPrefix(t *testing.T) {
	tab := table(t, "testdata/asn.mmdb", file(t, "rib.csv", "192.0.2.0/24,1\n192.0.2.128/25,2\n2001:db8::/32,3\n::ffff:198.51.100.0/120,4\n"), file(t, "more.csv", "192.0.2.0/26,5\n203.0.113.0/24,6\n"))
	for a, want := range map[string]string{
		"192.0.2.7": "192.0.2.0/24", "192.0.2.200": "192.0.2.128/25", "::ffff:192.0.2.200": "192.0.2.128/25", "2001:db8::1%eth0": "2001:db8::/32",
		"198.51.100.9": "198.51.100.0/24", "203.0.113.1": "203.0.113.0/24",
	} {
		if got := tab.Prefix(netip.MustParseAddr(a)); got != netip.MustParsePrefix(want) {
			t.Errorf("%s: %v, want %s", a, got, want)
		}
	}
	if p := tab.Prefix(netip.MustParseAddr("10.0.0.1")); p.IsValid() {
		t.Errorf("of nobody: %v", p)
	}
	if p := (*Table)(nil).Prefix(netip.MustParseAddr("10.0.0.1")); p.IsValid() || tab.Prefix(netip.Addr{}).IsValid() || !tab.Knows().Prefix {
		t.Errorf("of nothing: %v", p)
	}
}

func TestErrors(t *testing.T) {
	whole, err := os.ReadFile("testdata/asn.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{file(t, "a.csv", "10.0.0.0/8,64500\n10.0.0.0/33,64500\n"), `line 2: "10.0.0.0/33" is not a prefix`},
		{file(t, "b.csv", "10.0.0.0/8\n"), `line 1: "10.0.0.0/8" is not a prefix and an AS`},
		{file(t, "c.csv", "10.0.0.0/8,Example\n"), `line 1: "Example" is not an AS`},
		{file(t, "d.csv", "::ffff:0:0/90,1\n"), "holds more than IPv4 addresses"},
		{file(t, "e.csv", "# nothing\n"), "holds no prefix"},
		{file(t, "f.mmdb", ""), "holds no prefix"},
		{file(t, "g.mmdb", "\x00\x01\x02 not one"), "neither a MaxMind database nor text"},
		{file(t, "h.mmdb", string(whole[len(whole)/2:])), "h.mmdb: "},
		{file(t, "i.gz", "\x1f\x8bno"), "i.gz: "},
		{"testdata/anonymous.mmdb", "type GeoIP2-Anonymous-IP, with neither AS nor country"},
		{"testdata/nowhere.mmdb", "no such file"},
		{"testdata", "is a directory"},
	} {
		if _, err := Open(c.path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), filepath.Base(c.path)) {
			t.Errorf("%s: %v, want %q", c.path, err, c.want)
		}
	}
}

// The longest prefix that holds an address is found, as by trying them all.
func TestLongestPrefix(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var b strings.Builder
		asn := map[netip.Prefix]uint32{}
		for i := range rapid.IntRange(1, 30).Draw(rt, "n") {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 3).Draw(rt, "b")), byte(rapid.IntRange(0, 3).Draw(rt, "c")), 0}), rapid.IntRange(6, 26).Draw(rt, "bits")).Masked()
			asn[p] = uint32(i + 1)
			fmt.Fprintf(&b, "%v,%d\n", p, i+1)
		}
		text, err := readText(strings.NewReader(b.String()))
		if err != nil {
			rt.Fatal(err)
		}
		a := netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 4).Draw(rt, "x")), byte(rapid.IntRange(0, 4).Draw(rt, "y")), 1})
		var want Origin
		longest := -1
		for p, n := range asn {
			if p.Contains(a) && p.Bits() > longest {
				want.ASN, longest = n, p.Bits()
			}
		}
		if got := text.lookup(a); got != want {
			rt.Fatalf("%v: %+v, want %+v", a, got, want)
		}
	})
}

// Whatever a line says, it is read or refused; what was read is a prefix in
// which its own address is found.
func FuzzText(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8,64500", "10.0.0.0\t8\t1_2", "2001:db8::/32 {1,2} de", "prefix,asn", "::ffff:1.2.3.4/128,1.1", "0.0.0.0/0,AS4294967295", ",,,", "a/b/c,1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := readText(strings.NewReader(s))
		if err != nil {
			return
		}
		for p, i := range text.prefixes.All() {
			if _, ok := text.prefixes.Lookup(p.Addr()); !ok || int(i) >= len(text.said) {
				t.Fatalf("%v is not found", p)
			}
		}
	})
}

// A table of the whole internet, of a million prefixes.
func BenchmarkText(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	var content bytes.Buffer
	for range 1_000_000 {
		fmt.Fprintf(&content, "%v,%d\n", netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(1 + r.IntN(223)), byte(r.Uint32()), byte(r.Uint32()), 0}), 16+r.IntN(9)).Masked(), 1+r.IntN(80_000))
	}
	tab := table(b, file(b, "rib.csv", content.String()))
	b.ReportMetric(float64(tab.sources[0].(*text).prefixes.Size()), "prefixes")
	addrs := make([]netip.Addr, 1<<12)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{byte(1 + r.IntN(223)), byte(r.Uint32()), byte(r.Uint32()), 1})
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tab.Lookup(addrs[i&(1<<12-1)])
		i++
	}
}
