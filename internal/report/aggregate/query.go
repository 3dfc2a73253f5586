package aggregate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tfofleet/internal/report/origin"
)

// Query is what is asked of datasets. The zero value asks for what every
// summary has: all, by probe, by port, by family.
type Query struct {
	By []By // further groups
	// Origin tells AS and country; nil: nothing is known of them.
	Origin *origin.Table
	// Prefixes are what [KeyPrefix] groups by, the longest that holds the
	// address; none: those that Origin tells, and where it tells none /24 and /48.
	Prefixes []netip.Prefix
	// SuffixLabels is how many labels of a name [KeySuffix] groups by; 0: its
	// public suffix, as publicsuffix.org lists them.
	SuffixLabels int
	// Workers is how many goroutines count; 0: as many as there are processors.
	Workers int
}

// By is the properties of a group: one, or two that are crossed.
type By []Key

// Key is a property that measurements can be grouped by. The values are stable.
type Key string

const (
	KeyProbe   Key = "probe"   // name of the probe
	KeyKernel  Key = "kernel"  // of the probe's host
	KeyPort    Key = "port"    // TCP port
	KeyFamily  Key = "family"  // ipv4, ipv6, or none (no address)
	KeyPrefix  Key = "prefix"  // of the target's address
	KeyAS      Key = "as"      // that announces it
	KeyCountry Key = "country" // it is in
	KeySuffix  Key = "suffix"  // of the target's name
	KeyDataset Key = "dataset" // id of the survey
)

// Keys lists every property.
func Keys() []Key {
	return []Key{KeyProbe, KeyKernel, KeyPort, KeyFamily, KeyPrefix, KeyAS, KeyCountry, KeySuffix, KeyDataset}
}

// ParseBy reads "port" or "probe,port".
func ParseBy(s string) (By, error) {
	var by By
	for word := range strings.SplitSeq(s, ",") {
		k := Key(strings.TrimSpace(word))
		if !slices.Contains(Keys(), k) {
			return nil, fmt.Errorf("%q is nothing to group by", word)
		}
		if slices.Contains(by, k) {
			return nil, fmt.Errorf("%q twice", word)
		}
		by = append(by, k)
	}
	if len(by) > maxKeys {
		return nil, fmt.Errorf("%d properties at once: two at most", len(by))
	}
	return by, nil
}

func (b By) String() string {
	words := make([]string, len(b))
	for i, k := range b {
		words[i] = string(k)
	}
	return strings.Join(words, ",")
}
