package targets

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"tfofleet/internal/measure"
)

// readAll reads a list given as text and returns its targets as lines.
func readAll(t *testing.T, list string, opts ReadOptions) (got []string, st ReadStats, bad []LineError) {
	t.Helper()
	opts.OnBad = func(e *LineError) { bad = append(bad, *e) }
	st, err := Read(strings.NewReader(list), "list", opts, func(tg measure.Target) error {
		got = append(got, Format(tg))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got, st, bad
}

func TestFormats(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, tt := range []struct {
		line string
		want string // targets, separated by blanks, with the default port 443
	}{
		{"example.com", "example.com:443"},
		{"  Example.COM.\t", "example.com:443"},
		{"example.com:8443", "example.com:8443"},
		{"example.com:00443", "example.com:443"},
		{"localhost", "localhost:443"},
		{"_dmarc.ex_ample.com", "_dmarc.ex_ample.com:443"},
		{"r3---sn-4g5e.example", "r3---sn-4g5e.example:443"},
		{"1.2.3.example", "1.2.3.example:443"},
		{"0xdeadbeef.example", "0xdeadbeef.example:443"},
		{"0xyz", "0xyz:443"},
		{long + ".example", long + ".example:443"},
		{"bücher.example", "xn--bcher-kva.example:443"},
		{"BÜCHER.example.:80", "xn--bcher-kva.example:80"},
		{"faß.example", "xn--fa-hia.example:443"}, // non-transitional: not fass
		{"例え。テスト", "xn--r8jz45g.xn--zckzah:443"},  // an ideographic full stop separates labels
		{"xn--bcher-kva.example", "xn--bcher-kva.example:443"},

		{"192.0.2.1", "192.0.2.1:443"},
		{"192.0.2.1:80", "192.0.2.1:80"},
		{"1９2.0.2.1 ", ""}, // a digit of full width is no way to write an address
		{"2001:DB8::1", "[2001:db8::1]:443"},
		{"::", "[::]:443"},
		{"[2001:db8::1]", "[2001:db8::1]:443"},
		{"[2001:db8::1]:80", "[2001:db8::1]:80"},
		{"::ffff:192.0.2.1", "192.0.2.1:443"},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1:80"},

		{"192.0.2.0/30", "192.0.2.0:443 192.0.2.1:443 192.0.2.2:443 192.0.2.3:443"},
		{"192.0.2.7/31", "192.0.2.6:443 192.0.2.7:443"},
		{"192.0.2.7/32", "192.0.2.7:443"},
		{"255.255.255.254/31", "255.255.255.254:443 255.255.255.255:443"},
		{"2001:db8::/127", "[2001:db8::]:443 [2001:db8::1]:443"},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:443"},
		{"::ffff:192.0.2.0/127", "192.0.2.0:443 192.0.2.1:443"},

		{"1,google.com", "google.com:443"},
		{`"1","google.com"`, "google.com:443"},
		{`1, "google.com"`, ""}, // a quote after a blank is not a quoted field (RFC 4180)
		{" 1 , google.com ", "google.com:443"},
		{"17,192.0.2.1:80", "192.0.2.1:80"},
		{"1,https://example.com", "example.com:443"},
		{"rank,domain", ""},
		{`"Rank","Domain"`, ""},

		{`{"ip":"192.0.2.1"}`, "192.0.2.1:443"},
		{`{"addr":"2001:db8::1","port":80}`, "[2001:db8::1]:80"},
		{`{"dip":"192.0.2.1","dp":"8080","other":[1,{"x":2}]}`, "192.0.2.1:8080"},
		{`{"domain":"Example.com.","port":80}`, "example.com:80"},
		{`{"ip":"","domain":"example.com","port":null}`, "example.com:443"},
		{`{"ip":"::ffff:192.0.2.1","addr":"192.0.2.1","port":80,"dp":80}`, "192.0.2.1:80"},
		{`{"ip":"192.0.2.1","domain":"Example.com"}`, `{"ip":"192.0.2.1","port":443,"domain":"example.com"}`},
		{`{"ip":"192.0.2.1"} # a comment with a }`, "192.0.2.1:443"},
		{`{"ip":"192.0.2.1","note":"#1"}`, "192.0.2.1:443"},

		{"https://example.com/path?x=1,2#top", "example.com:443"},
		{"http://example.com", "example.com:80"},
		{"HTTPS://user:secret@Example.com:8443/", "example.com:8443"},
		{"http://[2001:db8::1]:8080/", "[2001:db8::1]:8080"},
		{"https://192.0.2.1", "192.0.2.1:443"},
		{"https://bücher.example/ü", "xn--bcher-kva.example:443"},

		{"", ""},
		{" \t ", ""},
		{"# comment", ""},
		{"example.com # comment, with commas", "example.com:443"},
		{"192.0.2.0/31#comment", "192.0.2.0:443 192.0.2.1:443"},
	} {
		got, st, bad := readAll(t, tt.line, ReadOptions{Ports: []uint16{443}})
		if !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%q gives %q, want %q (bad: %v)", tt.line, got, tt.want, bad)
		}
		if len(got) != int(st.Targets) || len(bad) != int(st.Bad) {
			t.Errorf("%q: counted %+v", tt.line, st)
		}
	}
}

func TestBadLines(t *testing.T) {
	label64 := strings.Repeat("a", 64)
	for _, tt := range []struct{ line, reason string }{
		{"example.com:0", `port "0" is not a number from 1 to 65535`},
		{"example.com:65536", `port "65536" is not a number from 1 to 65535`},
		{"example.com:", `port "" is not a number from 1 to 65535`},
		{"example.com:http", `port "http" is not a number from 1 to 65535`},
		{"example.com:+80", `port "+80" is not a number from 1 to 65535`},
		{"example.com:-1", `port "-1" is not a number from 1 to 65535`},
		{"[::1]:0", `port "0" is not a number from 1 to 65535`},
		{":443", "the host name is empty"},
		{".", "the host name is empty"},
		{"a..b", "the host name has an empty label"},
		{".example.com", "the host name has an empty label"},
		{"example.com..", "the host name has an empty label"},
		{label64 + ".com", "a label of the host name is longer than 63 characters"},
		{strings.Repeat("abc.", 64) + "com", "the host name is longer than 253 characters"},
		{strings.Repeat("ü", 600), "the host name is longer than 253 characters"},
		{strings.Repeat("ü", 100), "a label of the host name is longer than 63 characters"},
		{"-example.com", "a label of the host name starts or ends with a hyphen"},
		{"example-.com", "a label of the host name starts or ends with a hyphen"},
		{"*.example.com", "character '*' can not be in a host name"},
		{"example.com 443", "character ' ' can not be in a host name"},
		{"exam\x00ple.com", `character '\x00' can not be in a host name`},
		{"exam\rple.com", `character '\r' can not be in a host name`},
		{"example.com;", "character ';' can not be in a host name"},
		{"ex\xffample.com", "not a valid internationalised host name"},
		{`{"domain":"ex\ufffdample.com"}`, "not a valid internationalised host name"},
		{"xn--\u00fc.example", "not a valid internationalised host name"},
		{"256.0.0.1", "not an IP address, and a host name can not end in a number"},
		{"192.0.2", "not an IP address, and a host name can not end in a number"},
		{"192.0.02.1", "not an IP address, and a host name can not end in a number"},
		{"192.0.2.1.", "not an IP address, and a host name can not end in a number"},
		{"0x7f000001", "not an IP address, and a host name can not end in a number"},
		{"0x", "not an IP address, and a host name can not end in a number"},
		{"example.1", "not an IP address, and a host name can not end in a number"},
		{"１２７.0.0.1", "not an IP address, and a host name can not end in a number"},

		{"2001:db8::1::2", "not an IP address"},
		{"a:b:c", "not an IP address"},
		{"fe80::1%eth0", "an address with a zone means something on one machine only"},
		{"[fe80::1%eth0]:443", "an address with a zone means something on one machine only"},
		{"[2001:db8::1", "']' is missing"},
		{"[]:443", "brackets are for an IPv6 address"},
		{"[192.0.2.1]:443", "brackets are for an IPv6 address"},
		{"[2001:db8::1]443", "only a port may follow ']'"},
		{"[2001:db8::1]:", `port "" is not a number from 1 to 65535`},

		{"192.0.2.0/33", "not a CIDR block"},
		{"192.0.2.0/", "not a CIDR block"},
		{"192.0.2.0/024", "not a CIDR block"},
		{"192.0.2.0/24:443", "not a CIDR block"},
		{"fe80::%eth0/64", "not a CIDR block"},
		{"example.com/path", "not a CIDR block"},
		{"2001:db8::/95", "a block of 2^33 addresses is too large, the limit is 2^32"},
		{"::/0", "a block of 2^128 addresses is too large, the limit is 2^32"},

		{"1,2,3", `a line with a comma is "rank,domain"`},
		{"google.com,1", `a line with a comma is "rank,domain"`},
		{",google.com", `a line with a comma is "rank,domain"`},
		{`"1","google.com","x"`, `a line with a comma is "rank,domain"`},
		{"1,", "the host name is empty"},
		{`"1,google.com`, "the quotes of the CSV line do not match"},
		{`1, "google.com"`, "the quotes of the CSV line do not match"},

		{`{"ip":"192.0.2.1"`, "not a JSON object on one line"},
		{`{`, "not a JSON object on one line"},
		{`{"ip":17}`, `JSON field "ip" has the wrong type`},
		{`{"ip":"192.0.2.1"} {}`, "only a comment may follow the JSON object"},
		{`{"ip":"example.com"}`, "not an IP address"},
		{`{"ip":"192.0.2.0/24"}`, "not an IP address"},
		{`{"ip":"fe80::1%eth0"}`, "an address with a zone means something on one machine only"},
		{`{"ip":"192.0.2.1","dip":"192.0.2.2"}`, "the JSON object holds two different addresses"},
		{`{"ip":"192.0.2.1","port":80,"dp":81}`, "the JSON object holds two different ports"},
		{`{"ip":"192.0.2.1","port":0}`, `port "0" is not a number from 1 to 65535`},
		{`{"ip":"192.0.2.1","port":443.0}`, `port "443.0" is not a number from 1 to 65535`},
		{`{"ip":"192.0.2.1","domain":"a b"}`, "character ' ' can not be in a host name"},
		{`{"domain":"192.0.2.1"}`, "not an IP address, and a host name can not end in a number"},
		{`{"port":443}`, "the JSON object has no ip, addr, dip or domain"},

		{"ftp://example.com/", "the URL is neither http nor https"},
		{"://example.com", "not a URL"},
		{"https://exa mple.com", "not a URL"},
		{"https:///path", "the host name is empty"},
		{"https://example.com:0/", `port "0" is not a number from 1 to 65535`},
		{"https://[fe80::1%25eth0]/", "an address with a zone means something on one machine only"},

		{strings.Repeat("a", maxLine+1), "the line is longer than 64 KiB"},
		{strings.Repeat("a", 3*maxLine), "the line is longer than 64 KiB"},
		{strings.Repeat("a", maxLine), "the host name is longer than 253 characters"},
	} {
		shown := shorten(tt.line)
		// A good line on both sides: a bad one must not take others with it.
		got, st, bad := readAll(t, "first.example\n"+tt.line+"\r\nlast.example\n", ReadOptions{Ports: []uint16{443}})
		if want := []string{"first.example:443", "last.example:443"}; !slices.Equal(got, want) {
			t.Errorf("%s: targets %q", shown, got)
		}
		if len(bad) != 1 || st.Bad != 1 || st.Lines != 3 {
			t.Errorf("%s: %+v, bad lines %v", shown, st, bad)
			continue
		}
		if want := (LineError{File: "list", Line: 2, Text: shown, Reason: tt.reason}); bad[0] != want {
			t.Errorf("got  %+v\nwant %+v", bad[0], want)
		}
	}
}

func TestNoPort(t *testing.T) {
	got, _, bad := readAll(t, "a.example\nb.example:80\nhttps://c.example/\n", ReadOptions{})
	if want := []string{"b.example:80", "c.example:443"}; !slices.Equal(got, want) {
		t.Errorf("targets %q, want %q", got, want)
	}
	if len(bad) != 1 || bad[0].Reason != "the line names no port and there is no default port" {
		t.Errorf("bad lines %v", bad)
	}
}

func TestPorts(t *testing.T) {
	got, _, _ := readAll(t, "a.example\n192.0.2.0/31\nb.example:1\nhttp://c.example\n", ReadOptions{Ports: []uint16{443, 80}})
	want := []string{
		"a.example:443", "a.example:80",
		"192.0.2.0:443", "192.0.2.0:80", "192.0.2.1:443", "192.0.2.1:80",
		"b.example:1", "c.example:80",
	}
	if !slices.Equal(got, want) {
		t.Errorf("targets %q, want %q", got, want)
	}
}

// A block is expanded while it is emitted: the largest one costs nothing
// before its first address, and stops when emit does.
func TestBlockIsLazy(t *testing.T) {
	stop := errors.New("enough")
	for _, line := range []string{"0.0.0.0/0", "2001:db8::/96"} {
		n := 0
		st, err := Read(strings.NewReader(line), "list", ReadOptions{Ports: []uint16{443}}, func(measure.Target) error {
			if n++; n == 1000 {
				return stop
			}
			return nil
		})
		if err != stop || st.Targets != 999 {
			t.Errorf("%s: %+v, %v", line, st, err)
		}
	}
}
