package targets

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxName  = 253 // RFC 1035 section 2.3.4: 255 octets on the wire
	maxLabel = 63
)

// names maps an internationalised name as browsers do (UTS 46, non-transitional).
// What is left of the rules for letters, digits and hyphens is hostName's to
// check, because real names hold underscores and hyphens in odd places.
var names = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.StrictDomainName(false),
	idna.CheckHyphens(false),
)

// hostName returns the canonical form of a host name: lower case, in ASCII
// (punycode), without the trailing dot. Underscores pass: they are no host
// names (RFC 952), but they resolve and are in every list of popular names.
func hostName(s string) (string, error) {
	if !isASCII(s) {
		if len(s) > 4*maxName { // 4 bytes of UTF-8 each; keeps idna off hostile lengths
			return "", reason("the host name is longer than 253 characters")
		}
		ascii, err := names.ToASCII(s)
		// idna takes invalid UTF-8 for U+FFFD, and that for a letter.
		if err != nil || strings.ContainsRune(s, utf8.RuneError) {
			return "", reason("not a valid internationalised host name")
		}
		s = ascii
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	switch {
	case s == "":
		return "", reason("the host name is empty")
	case len(s) > maxName:
		return "", reason("the host name is longer than 253 characters")
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			if !hostByte(s[i]) {
				return "", reasonf("character %q can not be in a host name", s[i])
			}
			continue
		}
		label := s[start:i]
		switch {
		case label == "":
			return "", reason("the host name has an empty label")
		case len(label) > maxLabel:
			return "", reason("a label of the host name is longer than 63 characters")
		case label[0] == '-' || label[len(label)-1] == '-':
			return "", reason("a label of the host name starts or ends with a hyphen")
		}
		if i == len(s) && isNumber(label) {
			return "", reason("not an IP address, and a host name can not end in a number")
		}
		start = i + 1
	}
	return s, nil
}

// isNumber reports whether a last label makes the whole name an attempt at an
// IPv4 address ("256.1.1.1", "0x7f000001"), which some resolvers would take
// for one (WHATWG URL, "ends in a number").
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return allDigits(label)
}

func hostByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
