package targets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"

	"tfofleet/internal/measure"
)

// Family restricts the addresses of a list.
type Family uint8

const (
	AnyFamily Family = 0
	IPv4      Family = 4
	IPv6      Family = 6
)

// ReadOptions says how a list is read. The zero value takes every family and
// needs a port on every line.
type ReadOptions struct {
	// Ports apply to entries that name no port; each gives one target.
	Ports []uint16
	// Family skips addresses of the other family. Names pass: what they
	// resolve to is found out by the probe.
	Family Family
	// Strict makes the first bad line an error that ends the reading.
	Strict bool
	// OnBad, if set, is told every bad line that does not end the reading, in
	// order.
	OnBad func(*LineError)
}

// ReadStats counts what was read. Lines = Bad + OtherFamily + Blank + the lines
// that gave targets.
type ReadStats struct {
	Lines       int64
	Targets     int64 // emitted, before duplicates are dropped
	Bad         int64
	OtherFamily int64 // lines skipped by ReadOptions.Family; a block counts once
	Blank       int64 // blank lines, comments, CSV headers
}

// Add adds the counts of another list.
func (s *ReadStats) Add(t ReadStats) {
	s.Lines += t.Lines
	s.Targets += t.Targets
	s.Bad += t.Bad
	s.OtherFamily += t.OtherFamily
	s.Blank += t.Blank
}

// Read streams the targets of a list to emit, in list order, with duplicates
// and without numbering them: that is for [Sorter].
//
// Every line is recognised by itself, so formats may be mixed:
//
//	example.com                 a name, with each of the default ports
//	example.com:8443            a name or IPv4 address with its own port
//	192.0.2.1                   an address
//	2001:db8::1, [2001:db8::1]:443
//	192.0.2.0/24                a block: every address of it
//	1,example.com               "rank,domain" as Tranco and Umbrella have it
//	{"ip":"192.0.2.1","port":443,"domain":"example.com"}
//	                            also addr or dip for ip, dp for port
//	https://example.com/path    the host, with the port of the URL
//	# a comment, also after an entry
//
// A block gives all of its addresses, the first and last too: a list does not
// tell how a network is divided, and inside a larger subnet those are hosts.
// Blocks are expanded while they are emitted and cost no memory.
//
// Names come out in lower case, in punycode, without a trailing dot. Input
// compressed by gzip or zstd is recognised by its first bytes, a zip archive
// only when r can be read at any offset, as a file can.
//
// A line that can not be used is counted, told to OnBad, and skipped; with
// Strict it is returned as a *[LineError] instead. Any other error is one of reading
// r, named by the name of the list, or the error of emit, as it is.
func Read(r io.Reader, name string, opts ReadOptions, emit func(measure.Target) error) (ReadStats, error) {
	var st ReadStats
	plain, err := decompress(r)
	if err != nil {
		return st, fmt.Errorf("%s: %w", name, err)
	}
	defer plain.Close()

	lines := newLineReader(plain)
	for {
		line, err := lines.next()
		if err == io.EOF {
			return st, nil
		}
		var e entry
		content := true
		if err == nil {
			e, content, err = parseLine(string(line))
		} else if !errors.Is(err, errLongLine) {
			return st, fmt.Errorf("%s: after line %d: %w", name, st.Lines, err)
		}
		st.Lines++
		if err == nil && content && e.port == 0 && len(opts.Ports) == 0 {
			err = reason("the line names no port and there is no default port")
		}
		switch {
		case err != nil:
			st.Bad++
			bad := &LineError{File: name, Line: lines.n, Text: shorten(string(line)), Reason: err.Error()}
			if opts.Strict {
				return st, bad
			}
			if opts.OnBad != nil {
				opts.OnBad(bad)
			}
		case !content:
			st.Blank++
		case !opts.Family.has(e.block):
			st.OtherFamily++
		default:
			n, err := e.expand(opts.Ports, emit)
			st.Targets += n
			if err != nil {
				return st, err
			}
		}
	}
}

// has reports whether the family admits a block; a name (no block) passes.
func (f Family) has(block netip.Prefix) bool {
	return f == AnyFamily || !block.IsValid() || (f == IPv4) == block.Addr().Is4()
}

// expand emits every address of the entry with every port and returns how many
// targets were taken.
func (e entry) expand(ports []uint16, emit func(measure.Target) error) (n int64, err error) {
	if e.port != 0 {
		ports = []uint16{e.port}
	}
	for addr := e.block.Addr(); ; addr = addr.Next() {
		for _, port := range ports {
			if err := emit(measure.Target{Addr: addr, Port: port, Hostname: e.host}); err != nil {
				return n, err
			}
			n++
		}
		// A name has no block, the last address of all has no next.
		if next := addr.Next(); !next.IsValid() || !e.block.Contains(next) {
			return n, nil
		}
	}
}

// Format writes a target as a line that [Read] reads back as the same target.
func Format(t measure.Target) string {
	switch {
	case !t.Addr.IsValid():
		return net.JoinHostPort(t.Hostname, strconv.Itoa(int(t.Port)))
	case t.Hostname == "":
		return netip.AddrPortFrom(t.Addr, t.Port).String()
	}
	b, err := json.Marshal(struct {
		IP     netip.Addr `json:"ip"`
		Port   uint16     `json:"port"`
		Domain string     `json:"domain"`
	}{t.Addr, t.Port, t.Hostname})
	if err != nil {
		panic(errors.Join(errors.New("targets: a target is always JSON"), err))
	}
	return string(b)
}
