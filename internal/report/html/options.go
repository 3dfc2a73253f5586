package html

import (
	"net/netip"
	"strconv"

	"golang.org/x/net/publicsuffix"

	"tfofleet/internal/measure"
)

// Options is how a report is made. The zero value is good.
type Options struct {
	// Groupings are further properties of targets to group by, such as their
	// origin AS, in addition to port and name.
	Groupings []Grouping
	// Bytes bounds the file; 0 means DefaultBytes.
	Bytes int
	// Rows bounds the table of measurements; 0 means DefaultRows.
	Rows int
	// Sample is how many measurements with nothing wrong keep their attempts,
	// and as many of those that are offline; 0 means DefaultSample.
	Sample int
}

const (
	// DefaultBytes is a file that can still be sent by mail.
	DefaultBytes = 19_000_000
	// DefaultRows take a second to unpack, sort and search in a browser.
	DefaultRows = 200_000
	// DefaultSample is enough to see what normal looks like.
	DefaultSample = 5_000
)

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		value *int
		to    int
	}{{&o.Bytes, DefaultBytes}, {&o.Rows, DefaultRows}, {&o.Sample, DefaultSample}} {
		if *d.value <= 0 {
			*d.value = d.to
		}
	}
	return o
}

// Grouping puts targets into groups by one property of theirs.
type Grouping struct {
	By string // what it is, such as "AS"
	// Key names a target's group; empty when it is in none.
	Key func(measure.Target) string
}

// ByPort groups by port and IP version.
var ByPort = Grouping{"port", func(t measure.Target) string {
	return strconv.Itoa(int(t.Port)) + " " + familyName(t.Addr)
}}

// BySuffix groups by the suffix under which a host name is registered, such as
// co.uk.
var BySuffix = Grouping{"name suffix", func(t measure.Target) string {
	if t.Hostname == "" {
		return ""
	}
	suffix, _ := publicsuffix.PublicSuffix(t.Hostname)
	return "." + suffix
}}

func familyName(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "no address"
	case a.Unmap().Is4():
		return "IPv4"
	}
	return "IPv6"
}
