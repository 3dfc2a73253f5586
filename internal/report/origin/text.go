package origin

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gaissmai/bart"
	"github.com/klauspost/compress/gzip"
)

// text is a table of prefixes. A million of them take some 25 MB: what they say
// is kept once for each AS and country.
type text struct {
	prefixes bart.Table[uint32] // to said
	said     []Origin
	k        Knows
}

func (t *text) knows() Knows { return t.k }

func (t *text) lookup(a netip.Addr) Origin {
	i, ok := t.prefixes.Lookup(a)
	if !ok {
		return Origin{}
	}
	return t.said[i]
}

func readText(r io.Reader) (*text, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := br.Peek(2); bytes.Equal(magic, []byte("\x1f\x8b")) {
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, err
		}
		br = bufio.NewReaderSize(z, 64<<10)
	}
	t := &text{k: Knows{Prefix: true}}
	numbers := map[Origin]uint32{}
	lines := bufio.NewScanner(br)
	for n := 1; lines.Scan(); n++ {
		if n == 1 && (bytes.IndexByte(lines.Bytes(), 0) >= 0 || !utf8.Valid(lines.Bytes())) {
			return nil, errors.New("neither a MaxMind database nor text")
		}
		prefix, s, err := parseLine(lines.Text())
		switch {
		case err == errNothing, n == 1 && isHeader(lines.Text()):
			continue
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		i, ok := numbers[s]
		if !ok {
			i = uint32(len(t.said))
			numbers[s] = i
			t.said = append(t.said, s)
		}
		t.prefixes.Insert(prefix, i)
		t.k.AS = t.k.AS || s.ASN != 0
		t.k.Country = t.k.Country || s.Country != ""
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(t.said) == 0 {
		return nil, errors.New("holds no prefix")
	}
	return t, nil
}

// errNothing is of a line that says nothing: empty, or a comment.
var errNothing = errors.New("nothing")

// isHeader reports whether a line names columns.
func isHeader(line string) bool {
	word, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(line)), ",")
	return word == "prefix" || word == "network" || word == "cidr"
}

func parseLine(line string) (netip.Prefix, Origin, error) {
	fields := strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == '\t' || r == ' ' || r == '\r' })
	if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
		return netip.Prefix{}, Origin{}, errNothing
	}
	// pfx2as parts the prefix from its length.
	if len(fields) >= 3 && !strings.Contains(fields[0], "/") {
		fields = append([]string{fields[0] + "/" + fields[1]}, fields[2:]...)
	}
	if len(fields) < 2 {
		return netip.Prefix{}, Origin{}, fmt.Errorf("%q is not a prefix and an AS", line)
	}
	prefix, err := netip.ParsePrefix(fields[0])
	if err != nil {
		return netip.Prefix{}, Origin{}, fmt.Errorf("%q is not a prefix", fields[0])
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, Origin{}, fmt.Errorf("%q holds more than IPv4 addresses", fields[0])
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	var s Origin
	var ok bool
	if s.ASN, ok = parseASN(fields[1]); !ok {
		return netip.Prefix{}, Origin{}, fmt.Errorf("%q is not an AS", fields[1])
	}
	if len(fields) > 2 {
		s.Country = country(fields[2])
	}
	return prefix.Masked(), s, nil
}

// parseASN reads 64500, AS64500, 1.10 (RFC 5396), and of 64500_64501 and
// {64500,64501} the first.
func parseASN(s string) (uint32, bool) {
	s = strings.TrimPrefix(s, "{")
	if len(s) > 2 && strings.EqualFold(s[:2], "as") {
		s = s[2:]
	}
	s, _, _ = strings.Cut(strings.TrimRight(s, "}"), "_")
	if high, low, dotted := strings.Cut(s, "."); dotted {
		h, err1 := strconv.ParseUint(high, 10, 16)
		l, err2 := strconv.ParseUint(low, 10, 16)
		return uint32(h<<16 | l), err1 == nil && err2 == nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// country is a code of two letters, "" for anything else.
func country(s string) string {
	if len(s) != 2 || s[0]|0x20 < 'a' || s[0]|0x20 > 'z' || s[1]|0x20 < 'a' || s[1]|0x20 > 'z' {
		return ""
	}
	return strings.ToUpper(s)
}
