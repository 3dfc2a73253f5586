package dataset

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// measurementCells is the memory behind the pointers of a measurementRow, so
// that a batch of rows is filled without an allocation.
type measurementCells struct {
	started, plainConnect, plainFirstByte, tfoFirstByte, saved int64
}

// attemptCells is the memory behind the pointers of an attemptRow.
type attemptCells struct {
	started, connect, firstByte, total int64
	synAcked, clientFail, tcpiOptions  int32
	hash                               [8]byte
	wire                               wireCells
}

// cell stores v and returns where, or nil, which is null, when v is not known.
func cell[T any](p *T, v T, known bool) *T {
	if !known {
		return nil
	}
	*p = v
	return p
}

// micros stores a duration in ns as µs; one below 0 is not known.
func micros(p *int64, ns int64) *int64 { return cell(p, ns/1000, ns >= 0) }

// instant stores a time in µs since the epoch; the zero time is not known.
func instant(p *int64, t time.Time) *int64 { return cell(p, t.UnixMicro(), !t.IsZero()) }

// addrText is the address as text, "" (null) without one.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// family is the IP version packets to a use: 4, 6, or 0 without an address.
func family(a netip.Addr) int32 {
	switch {
	case !a.IsValid():
		return 0
	case a.Unmap().Is4():
		return 4
	}
	return 6
}

func (r *measurementRow) fill(k *ChunkKey, m *measure.Measurement, target string, c *measurementCells, scratch *[]int64) {
	r.Survey, r.Probe, r.Chunk = k.Survey, k.Probe, int64(k.Chunk)
	r.Item = int64(m.Item)
	r.Target, r.Port, r.Hostname = target, int32(m.Port), m.Hostname
	r.Family = family(m.Addr)
	r.Outcome = outcomes.name(m.Outcome)
	r.Verdict = ""
	if m.Verdict != 0 {
		r.Verdict = verdicts.name(m.Verdict)
	}
	r.Conditions = r.Conditions[:0]
	for _, s := range m.Conditions {
		r.Conditions = append(r.Conditions, string(s))
	}
	r.Cookie = m.Cookie
	r.ProbeAddress = addrText(m.Observed)
	r.Started = instant(&c.started, m.Started)
	r.DurationUS = int64(m.Duration) / 1000
	r.Attempts = int32(len(m.Attempts))

	// Without those that lost a SYN, on both sides: one with data that is lost is
	// never acknowledged, and could not be held against the plain ones.
	plainConnect := medianOf(m.Attempts, scratch, func(e *tfo.Evidence) int64 {
		if e.Kind != tfo.KindPlain || e.SynRetransmits > 0 {
			return tfo.NotKnown
		}
		return e.ConnectNS
	})
	plain := medianOf(m.Attempts, scratch, func(e *tfo.Evidence) int64 {
		if e.Kind != tfo.KindPlain || e.SynRetransmits > 0 || e.End != tfo.EndResponse {
			return tfo.NotKnown
		}
		return e.FirstByteNS
	})
	fast := medianOf(m.Attempts, scratch, func(e *tfo.Evidence) int64 {
		// Part of a payload in the SYN, or another payload, is not to be held
		// against plain attempts.
		if e.SynAcked <= 0 || e.SynAcked < e.SynBytes || e.SynRetransmits > 0 || e.End != tfo.EndResponse || e.Kind == tfo.KindSized {
			return tfo.NotKnown
		}
		return e.FirstByteNS
	})
	r.PlainConnectUS = micros(&c.plainConnect, plainConnect)
	r.PlainFirstByteUS = micros(&c.plainFirstByte, plain)
	r.TFOFirstByteUS = micros(&c.tfoFirstByte, fast)
	// From the two stored columns, so that the column is their difference.
	r.SavedUS = cell(&c.saved, plain/1000-fast/1000, plain >= 0 && fast >= 0)
}

// medianOf is the median of what f gives for each attempt, those below 0 left
// out; NotKnown when none is left. Of an even number it is the mean of the two
// in the middle, rounded down.
func medianOf(attempts []tfo.Evidence, scratch *[]int64, f func(*tfo.Evidence) int64) int64 {
	s := (*scratch)[:0]
	for i := range attempts {
		if v := f(&attempts[i]); v >= 0 {
			s = append(s, v)
		}
	}
	*scratch = s
	if len(s) == 0 {
		return tfo.NotKnown
	}
	slices.Sort(s)
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func (r *attemptRow) fill(k *ChunkKey, m *measure.Measurement, seq int, target string, c *attemptCells) {
	e := &m.Attempts[seq]
	r.Survey, r.Probe, r.Chunk = k.Survey, k.Probe, int64(k.Chunk)
	r.Item, r.Seq = int64(m.Item), int32(seq)
	if a := e.Remote.Addr(); a == m.Addr {
		r.Target = target
	} else {
		r.Target = addrText(a)
	}
	r.Port = int32(e.Remote.Port())
	r.Kind = kinds.name(e.Kind)
	r.OptionKind = int32(e.OptionKind)
	r.End = ends.name(e.End)
	r.Started = instant(&c.started, e.Start)
	r.LocalAddress, r.LocalPort = addrText(e.Local.Addr()), int32(e.Local.Port())
	r.OfferedBytes, r.SynBytes = int32(e.Offered), int32(e.SynBytes)
	r.SynBytesAcked = cell(&c.synAcked, int32(e.SynAcked), e.SynAcked >= 0)
	r.Errno = e.Errno
	r.ConnectUS = micros(&c.connect, e.ConnectNS)
	r.FirstByteUS = micros(&c.firstByte, e.FirstByteNS)
	r.TotalUS = micros(&c.total, e.TotalNS)
	r.SynRetransmits, r.DataRetransmits = int32(e.SynRetransmits), int32(e.DataRetransmits)
	// Both are read at the handshake: without one, 0 says nothing.
	handshake := e.ConnectNS >= 0
	r.ClientFail = cell(&c.clientFail, int32(e.ClientFail), handshake || e.ClientFail != 0)
	r.TCPIOptions = cell(&c.tcpiOptions, int32(e.TCPIOptions), handshake || e.TCPIOptions != 0)
	r.CookieCleared = tris.name(e.CookieCleared)
	r.CookieBeforeState, r.CookieBefore = cookieStates.name(e.CookieBefore.State), e.CookieBefore.Bytes
	r.CookieAfterState, r.CookieAfter = cookieStates.name(e.CookieAfter.State), e.CookieAfter.Bytes
	r.ResponseBytes = int32(e.ResponseBytes)
	binary.BigEndian.PutUint64(c.hash[:], e.ResponseHash)
	r.ResponseHash = cell(&c.hash, c.hash, e.ResponseHash != 0)
	r.WireAbsent = e.WireAbsent
	r.fillWire(e.Wire, &c.wire)
	r.InfoHandshake, r.InfoFinal = e.InfoHandshake, e.InfoFinal
}

func (r *measurementRow) key(late uint32) ChunkKey {
	return ChunkKey{r.Survey, r.Probe, uint32(r.Chunk), late}
}

// measurement is the inverse of fill, without the attempts.
func (r *measurementRow) measurement() (m measure.Measurement, err error) {
	var p parser
	m = measure.Measurement{
		Target:   measure.Target{Item: uint64(r.Item), Addr: p.addr("target", r.Target), Port: uint16(r.Port), Hostname: r.Hostname},
		Outcome:  parse(&p, outcomes, "outcome", r.Outcome),
		Cookie:   blob(r.Cookie),
		Observed: p.addr("probe_address", r.ProbeAddress),
		Started:  when(r.Started),
		Duration: time.Duration(r.DurationUS) * time.Microsecond,
	}
	if r.Verdict != "" {
		m.Verdict = parse(&p, verdicts, "verdict", r.Verdict)
	}
	for _, s := range r.Conditions {
		m.Conditions = append(m.Conditions, measure.Condition(s))
	}
	return m, p.err
}

// evidence is the inverse of fill.
func (r *attemptRow) evidence() (e tfo.Evidence, err error) {
	var p parser
	e = tfo.Evidence{
		Kind:            parse(&p, kinds, "kind", r.Kind),
		Start:           when(r.Started),
		Local:           netip.AddrPortFrom(p.addr("local_address", r.LocalAddress), uint16(r.LocalPort)),
		Remote:          netip.AddrPortFrom(p.addr("target", r.Target), uint16(r.Port)),
		OptionKind:      uint8(r.OptionKind),
		Offered:         int(r.OfferedBytes),
		SynBytes:        int(r.SynBytes),
		SynAcked:        int(or(r.SynBytesAcked, tfo.NotKnown)),
		End:             parse(&p, ends, "end", r.End),
		Errno:           r.Errno,
		ConnectNS:       nanos(r.ConnectUS),
		FirstByteNS:     nanos(r.FirstByteUS),
		TotalNS:         nanos(r.TotalUS),
		SynRetransmits:  int(r.SynRetransmits),
		DataRetransmits: int(r.DataRetransmits),
		ClientFail:      uint8(or(r.ClientFail, 0)),
		TCPIOptions:     uint8(or(r.TCPIOptions, 0)),
		InfoHandshake:   blob(r.InfoHandshake),
		InfoFinal:       blob(r.InfoFinal),
		CookieCleared:   parse(&p, tris, "cookie_cleared", r.CookieCleared),
		CookieBefore:    tfo.Cookie{State: parse(&p, cookieStates, "cookie_before_state", r.CookieBeforeState), Bytes: blob(r.CookieBefore)},
		CookieAfter:     tfo.Cookie{State: parse(&p, cookieStates, "cookie_after_state", r.CookieAfterState), Bytes: blob(r.CookieAfter)},
		ResponseBytes:   int(r.ResponseBytes),
		WireAbsent:      r.WireAbsent,
		Wire:            r.wire(&p),
	}
	if r.ResponseHash != nil {
		e.ResponseHash = binary.BigEndian.Uint64(r.ResponseHash[:])
	}
	return e, p.err
}

// parser keeps the first error of a row.
type parser struct{ err error }

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *parser) addr(column, s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		p.fail(fmt.Errorf("%s: %w", column, err))
	}
	return a
}

func parse[T ~uint8](p *parser, e *enum[T], column, name string) T {
	v, err := e.parse(column, name)
	if err != nil {
		p.fail(err)
	}
	return v
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func nanos(us *int64) int64 {
	if us == nil {
		return tfo.NotKnown
	}
	return *us * 1000
}

func when(us *int64) time.Time {
	if us == nil {
		return time.Time{}
	}
	return time.UnixMicro(*us).UTC()
}

// blob makes an empty column nil again.
func blob(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
