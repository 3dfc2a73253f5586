package targets

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"tfofleet/internal/measure"
)

// Whatever the bytes, reading does not fail but by its container, every line
// is counted once, and every target written by Format is read back.
func FuzzRead(f *testing.F) {
	for _, list := range []string{
		mixedList,
		"example.com:443\n[::1]:80\n::ffff:1.2.3.4\n1.2.3.4/30\n",
		`{"addr":"1.2.3.4","dp":"80","domain":"b\u00fccher.example"} # x`,
		"https://user@bücher.example:8443/a,b#c\n",
		"\"1\",\"a.example\"\r\n1,::1\r\n",
		"fe80::1%eth0\n0x7f.1\n*.example\n例え。テスト\n",
	} {
		f.Add([]byte(list), false)
	}
	f.Add(compress(f, "gzip", mixedList), true)
	f.Add(compress(f, "zstd", mixedList), true)
	f.Add(compress(f, "zip", mixedList), true)

	enough := errors.New("enough")
	f.Fuzz(func(t *testing.T, list []byte, compressed bool) {
		if !compressed {
			list = append([]byte("\n"), list...) // no magic number at the start
		}
		var got []measure.Target
		bad, line := 0, 0
		opts := ReadOptions{Ports: []uint16{443, 80}, OnBad: func(e *LineError) {
			bad++
			if e.Line <= line {
				t.Errorf("line %d reported after line %d", e.Line, line)
			}
			line = e.Line
			for _, r := range e.Error() {
				if !strconv.IsPrint(r) {
					t.Errorf("%q can not be printed", e.Error())
				}
			}
		}}
		st, err := Read(bytes.NewReader(list), "list", opts, func(tg measure.Target) error {
			if got = append(got, tg); len(got) > 50 {
				return enough
			}
			return nil
		})
		if err != nil && err != enough && !compressed {
			t.Fatal(err)
		}
		if int(st.Bad) != bad || st.Bad+st.Blank > st.Lines || st.Lines > st.Targets+st.Bad+st.Blank+st.OtherFamily+1 {
			t.Errorf("%+v, %d bad lines told", st, bad)
		}
		for _, tg := range got {
			var again []measure.Target
			_, err := Read(strings.NewReader(Format(tg)), "again", ReadOptions{Strict: true}, func(tg measure.Target) error {
				again = append(again, tg)
				return nil
			})
			if err != nil || len(again) != 1 || again[0] != tg {
				t.Errorf("%v is written as %q and read as %v, %v", tg, Format(tg), again, err)
			}
			rec, err := appendRecord(nil, tg)
			if err != nil || rec.target() != tg {
				t.Errorf("%v is the record %x, %v", tg, rec, err)
			}
		}
	})
}

// Whatever the bytes, a blocklist parses, and holds both ends of every prefix
// that was not reported.
func FuzzBlocklist(f *testing.F) {
	for _, list := range []string{
		"10.0.0.0/8 # RFC 1918\n192.0.2.1\n\n# comment\n2001:db8::/32\n",
		"::ffff:0:0/96\n::ffff:10.0.0.0/104\n0.0.0.0/0\n::/0\n",
		"fe80::%eth0/10\nexample.com\n1.2.3.4/33\n",
	} {
		f.Add([]byte(list))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		bad := map[int]bool{}
		set, err := ParseBlocklist(bytes.NewReader(list), "list", func(e *LineError) { bad[e.Line] = true })
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range bytes.Split(list, []byte("\n")) {
			text, _, _ := strings.Cut(strings.TrimPrefix(string(line), "\xef\xbb\xbf"), "#")
			p, err := parseAddrOrPrefix(strings.TrimSpace(text))
			if err != nil || bad[i+1] || len(line) > maxLine {
				continue
			}
			for _, end := range []netip.Addr{p.Addr(), lastAddr(p)} {
				// No target has a mapped address: the set holds IPv4 ones instead.
				if !end.Is4In6() && !set.Contains(end) {
					t.Errorf("%v of %v is not in the set", end, p)
				}
			}
		}
		for i := 1; i < len(set.ranges); i++ {
			if a, b := set.ranges[i-1], set.ranges[i]; a.last.Compare(b.first) >= 0 || a.last.Next() == b.first {
				t.Errorf("ranges %v and %v touch", a, b)
			}
		}
		if _, err := ParseBlocklist(bytes.NewReader(list), "list", nil); (err != nil) != (len(bad) > 0) {
			t.Errorf("%d bad lines, but reading without a callback says %v", len(bad), err)
		}
	})
}
