package targets

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// ParseBlocklist reads a list of prefixes and addresses, one per line, with '#'
// comments: ZMap's format. A mapped prefix counts as the IPv4 prefix it stands
// for.
//
// onBad is told every line that is neither; with a nil onBad the first such
// line is returned as a *[LineError]. A list that protects others should be
// read with nil: a line that was dropped is a network that is not protected.
func ParseBlocklist(r io.Reader, name string, onBad func(*LineError)) (*Prefixes, error) {
	var ps []netip.Prefix
	lines := newLineReader(r)
	for {
		raw, err := lines.next()
		if err == io.EOF {
			return NewPrefixes(ps...), nil
		}
		if err != nil && !errors.Is(err, errLongLine) {
			return nil, fmt.Errorf("%s: after line %d: %w", name, lines.n, err)
		}
		line := string(raw)
		text, _, _ := strings.Cut(line, "#")
		text = strings.TrimSpace(text)
		if err == nil && text == "" {
			continue
		}
		var p netip.Prefix
		if err == nil {
			p, err = parseAddrOrPrefix(text)
		}
		if err != nil {
			bad := &LineError{File: name, Line: lines.n, Text: shorten(line), Reason: err.Error()}
			if onBad == nil {
				return nil, bad
			}
			onBad(bad)
			continue
		}
		ps = append(ps, p)
	}
}

func parseAddrOrPrefix(s string) (netip.Prefix, error) {
	if strings.IndexByte(s, '/') >= 0 {
		return parsePrefix(s)
	}
	a, err := parseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return single(a), nil
}
