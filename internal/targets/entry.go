package targets

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// reason says why a line can not be used. The texts are part of what users
// see and are tested word by word.
type reason string

func (r reason) Error() string { return string(r) }

func reasonf(format string, args ...any) error { return reason(fmt.Sprintf(format, args...)) }

// maxBlockBits bounds a CIDR block to 2^32 addresses. A larger one is a typing
// error (or nearly all of IPv6): visiting it takes centuries.
const maxBlockBits = 32

// entry is one usable line: a block of addresses (a single address is a block
// of one), or a host name, or one address with the name it came from.
type entry struct {
	block netip.Prefix // invalid when there is only a name
	host  string
	port  uint16 // 0: the line names none
}

// parseLine recognises one line, without its line end. ok is false when there
// is nothing on it: blank, a comment, or the header of a CSV file.
//
// A comment starts at any '#': no address, name or port can hold one.
func parseLine(line string) (e entry, ok bool, err error) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "{") {
		e, err = parseJSON(line)
		return e, true, err
	}
	if i := strings.IndexByte(line, '#'); i >= 0 {
		line = strings.TrimSpace(line[:i])
	}
	if line == "" {
		return entry{}, false, nil
	}
	if before, _, comma := strings.Cut(line, ","); comma && !strings.Contains(before, "://") {
		rank, domain, err := splitCSV(line)
		if err != nil {
			return entry{}, true, err
		}
		if strings.EqualFold(rank, "rank") && strings.EqualFold(domain, "domain") {
			return entry{}, false, nil
		}
		if !allDigits(rank) {
			return entry{}, true, errCSVShape
		}
		line = domain
	}
	e, err = parseEntry(line)
	return e, true, err
}

// parseEntry recognises an address, a block, a host, a URL, each with or
// without a port.
func parseEntry(s string) (entry, error) {
	switch {
	case strings.Contains(s, "://"):
		return parseURL(s)
	case strings.IndexByte(s, '/') >= 0:
		return parseBlock(s)
	case strings.HasPrefix(s, "["):
		return parseBracketed(s)
	}
	first := strings.IndexByte(s, ':')
	if first < 0 {
		return parseHost(s, 0)
	}
	if strings.IndexByte(s[first+1:], ':') >= 0 {
		a, err := parseAddr(s)
		return entry{block: single(a)}, err
	}
	port, err := parsePort(s[first+1:])
	if err != nil {
		return entry{}, err
	}
	return parseHost(s[:first], port)
}

// parseHost parses a dotted IPv4 address or a host name. An IPv6 address never
// reaches it: it has colons.
func parseHost(s string, port uint16) (entry, error) {
	// Trying every name as an address first would cost an allocated error
	// each; only what ends in a digit can be one, and no name may (see hostName).
	if n := len(s); n > 0 && s[n-1] >= '0' && s[n-1] <= '9' {
		if a, err := netip.ParseAddr(s); err == nil {
			return entry{block: single(a), port: port}, nil
		}
	}
	name, err := hostName(s)
	return entry{host: name, port: port}, err
}

// parseAddr parses an address and unmaps it: ::ffff:192.0.2.1 is reached over
// IPv4, and a list that holds both forms holds a duplicate.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, reason("not an IP address")
	}
	if a.Zone() != "" {
		return netip.Addr{}, reason("an address with a zone means something on one machine only")
	}
	return a.Unmap(), nil
}

func single(a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(a, a.BitLen())
}

// parseBracketed parses "[v6]" and "[v6]:port".
func parseBracketed(s string) (entry, error) {
	end := strings.IndexByte(s, ']')
	if end < 0 {
		return entry{}, reason("']' is missing")
	}
	inside, rest := s[1:end], s[end+1:]
	if strings.IndexByte(inside, ':') < 0 {
		return entry{}, reason("brackets are for an IPv6 address")
	}
	a, err := parseAddr(inside)
	if err != nil {
		return entry{}, err
	}
	e := entry{block: single(a)}
	if rest == "" {
		return e, nil
	}
	if rest[0] != ':' {
		return entry{}, reason("only a port may follow ']'")
	}
	e.port, err = parsePort(rest[1:])
	return e, err
}

// parseBlock parses a CIDR block. Bits below the prefix length are ignored, as
// other scanners do.
func parseBlock(s string) (entry, error) {
	p, err := parsePrefix(s)
	if err != nil {
		return entry{}, err
	}
	if bits := p.Addr().BitLen() - p.Bits(); bits > maxBlockBits {
		return entry{}, reasonf("a block of 2^%d addresses is too large, the limit is 2^%d", bits, maxBlockBits)
	}
	return entry{block: p}, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, reason("not a CIDR block")
	}
	return unmapPrefix(p).Masked(), nil
}

// unmapPrefix writes a block inside ::ffff:0:0/96 as the IPv4 block it stands
// for. The whole of ::ffff:0:0/96 stays what it is: lists of reserved ranges
// hold it to say "mapped addresses", never "all of IPv4".
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() > 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// parseURL takes the host of a pasted http or https URL, and its port: the
// explicit one or the scheme's. The port is the URL's own, so the default
// ports do not apply.
func parseURL(s string) (entry, error) {
	u, err := url.Parse(s)
	if err != nil {
		return entry{}, reason("not a URL")
	}
	var port uint16
	switch u.Scheme {
	case "http":
		port = 80
	case "https":
		port = 443
	default:
		return entry{}, reason("the URL is neither http nor https")
	}
	if p := u.Port(); p != "" {
		if port, err = parsePort(p); err != nil {
			return entry{}, err
		}
	}
	host := u.Hostname()
	if strings.IndexByte(host, ':') >= 0 {
		a, err := parseAddr(host)
		return entry{block: single(a), port: port}, err
	}
	return parseHost(host, port)
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, reasonf("port %q is not a number from 1 to 65535", shorten(s))
	}
	return uint16(n), nil
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
