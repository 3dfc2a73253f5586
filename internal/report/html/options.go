package html

import "tfofleet/internal/report"

// Options is how a report is made. The zero value is good.
type Options struct {
	// Query is what is asked beyond what every report has: further groups, and
	// where AS and country of a target are from.
	Query report.Query
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
