package measure

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// ToWire and FromWire lose nothing but the monotonic part of a time, its
// location, the difference between a nil and an empty slice, and the packets
// that the wire facts were read from.

// ToWire is the message for a measurement. It shares byte slices with m.
func ToWire(m *Measurement) *pb.Measurement {
	w := &pb.Measurement{
		Target:        TargetToWire(m.Target),
		Outcome:       pb.Outcome(m.Outcome),
		Verdict:       pb.Verdict(m.Verdict),
		Cookie:        m.Cookie,
		StartedUnixNs: timeToWire(m.Started),
		DurationNs:    int64(m.Duration),
	}
	if len(m.Conditions) > 0 {
		w.Conditions = make([]string, len(m.Conditions))
		for i, c := range m.Conditions {
			w.Conditions[i] = string(c)
		}
	}
	if len(m.Attempts) > 0 {
		backing := make([]pb.Attempt, len(m.Attempts))
		w.Attempts = make([]*pb.Attempt, len(m.Attempts))
		for i := range m.Attempts {
			w.Attempts[i] = &backing[i]
			attemptToWire(&backing[i], &m.Attempts[i])
		}
	}
	return w
}

// FromWire is the inverse of ToWire. It shares byte slices with w. The error
// says which field holds what no measurement can.
func FromWire(w *pb.Measurement) (Measurement, error) {
	t, err := TargetFromWire(w.GetTarget())
	if err != nil {
		return Measurement{}, err
	}
	var r reader
	m := Measurement{
		Target:   t,
		Outcome:  Outcome(r.octet("outcome", int64(w.GetOutcome()))),
		Verdict:  Verdict(r.octet("verdict", int64(w.GetVerdict()))),
		Cookie:   some(w.GetCookie()),
		Started:  timeFromWire(w.GetStartedUnixNs()),
		Duration: time.Duration(w.GetDurationNs()),
	}
	if n := len(w.GetConditions()); n > 0 {
		m.Conditions = make([]Condition, n)
		for i, c := range w.GetConditions() {
			m.Conditions[i] = Condition(c)
		}
	}
	if n := len(w.GetAttempts()); n > 0 {
		m.Attempts = make([]tfo.Evidence, n)
		for i, a := range w.GetAttempts() {
			r.attempt(&m.Attempts[i], a)
		}
	}
	return m, r.err
}

// TargetToWire is the message for a target.
func TargetToWire(t Target) *pb.Target {
	return &pb.Target{Item: t.Item, Address: addrToWire(t.Addr), Port: uint32(t.Port), Hostname: t.Hostname}
}

// TargetFromWire is the inverse of TargetToWire.
func TargetFromWire(w *pb.Target) (Target, error) {
	var r reader
	t := Target{
		Item:     w.GetItem(),
		Addr:     r.addr("address", w.GetAddress()),
		Port:     r.port("port", w.GetPort()),
		Hostname: w.GetHostname(),
	}
	return t, r.err
}

func attemptToWire(w *pb.Attempt, e *tfo.Evidence) {
	w.Kind = pb.AttemptKind(e.Kind)
	w.StartedUnixNs = timeToWire(e.Start)
	w.LocalAddress, w.LocalPort = addrToWire(e.Local.Addr()), uint32(e.Local.Port())
	w.RemoteAddress, w.RemotePort = addrToWire(e.Remote.Addr()), uint32(e.Remote.Port())
	w.OptionKind = uint32(e.OptionKind)
	w.OfferedBytes = count(e.Offered)
	w.SynBytes = count(e.SynBytes)
	w.SynBytesAcked = count(e.SynAcked)
	w.End = pb.AttemptEnd(e.End)
	w.Errno = e.Errno
	w.ConnectNs, w.FirstByteNs, w.TotalNs = e.ConnectNS, e.FirstByteNS, e.TotalNS
	w.SynRetransmits = count(e.SynRetransmits)
	w.DataRetransmits = count(e.DataRetransmits)
	w.ClientFail = uint32(e.ClientFail)
	w.TcpiOptions = uint32(e.TCPIOptions)
	w.InfoHandshake, w.InfoFinal = e.InfoHandshake, e.InfoFinal
	w.CookieCleared = pb.Tri(e.CookieCleared)
	w.CookieBeforeState, w.CookieBefore = pb.CookieState(e.CookieBefore.State), e.CookieBefore.Bytes
	w.CookieAfterState, w.CookieAfter = pb.CookieState(e.CookieAfter.State), e.CookieAfter.Bytes
	w.ResponseBytes = count(e.ResponseBytes)
	w.ResponseHash = e.ResponseHash
	w.WireAbsent = e.WireAbsent
	w.Wire = seenToWire(e.Wire)
}

func seenToWire(e *tfo.Wire) *pb.Wire {
	if e == nil {
		return nil
	}
	return &pb.Wire{
		Syns:            count(e.Syns),
		Syn:             e.Syn.Raw,
		RetransmitsBare: pb.Tri(e.RetransmitsBare),
		SynAcks:         count(e.SynAcks),
		SynAck:          e.SynAck.Raw,
		AckedBytes:      count(e.Acked),
		AfterSyns:       count(e.AfterSyns),
		OverAcked:       e.OverAcked,
		Resets:          count(e.Resets),
		ResetTtl:        uint32(e.ResetTTL),
		ResetHandshake:  e.ResetHandshake,
		IcmpErrors:      count(e.ICMPErrors),
		IcmpType:        uint32(e.ICMPType),
		IcmpCode:        uint32(e.ICMPCode),
		IcmpFrom:        addrToWire(e.ICMPFrom),
		Incomplete:      e.Incomplete,
	}
}

func (r *reader) attempt(e *tfo.Evidence, w *pb.Attempt) {
	*e = tfo.Evidence{
		Kind:            tfo.Kind(r.octet("attempt kind", int64(w.GetKind()))),
		Start:           timeFromWire(w.GetStartedUnixNs()),
		Local:           netip.AddrPortFrom(r.addr("local address", w.GetLocalAddress()), r.port("local port", w.GetLocalPort())),
		Remote:          netip.AddrPortFrom(r.addr("remote address", w.GetRemoteAddress()), r.port("remote port", w.GetRemotePort())),
		OptionKind:      r.octet("option kind", int64(w.GetOptionKind())),
		Offered:         int(w.GetOfferedBytes()),
		SynBytes:        int(w.GetSynBytes()),
		SynAcked:        int(w.GetSynBytesAcked()),
		End:             tfo.End(r.octet("attempt end", int64(w.GetEnd()))),
		Errno:           w.GetErrno(),
		ConnectNS:       w.GetConnectNs(),
		FirstByteNS:     w.GetFirstByteNs(),
		TotalNS:         w.GetTotalNs(),
		SynRetransmits:  int(w.GetSynRetransmits()),
		DataRetransmits: int(w.GetDataRetransmits()),
		ClientFail:      r.octet("client fail", int64(w.GetClientFail())),
		TCPIOptions:     r.octet("tcpi options", int64(w.GetTcpiOptions())),
		InfoHandshake:   some(w.GetInfoHandshake()),
		InfoFinal:       some(w.GetInfoFinal()),
		CookieCleared:   tfo.Tri(r.octet("cookie cleared", int64(w.GetCookieCleared()))),
		CookieBefore:    tfo.Cookie{State: tfo.CookieState(r.octet("cookie state", int64(w.GetCookieBeforeState()))), Bytes: some(w.GetCookieBefore())},
		CookieAfter:     tfo.Cookie{State: tfo.CookieState(r.octet("cookie state", int64(w.GetCookieAfterState()))), Bytes: some(w.GetCookieAfter())},
		ResponseBytes:   int(w.GetResponseBytes()),
		ResponseHash:    w.GetResponseHash(),
		WireAbsent:      w.GetWireAbsent(),
		Wire:            r.seen(w.GetWire()),
	}
}

func (r *reader) seen(w *pb.Wire) *tfo.Wire {
	if w == nil {
		return nil
	}
	return &tfo.Wire{
		Syns:            int(w.GetSyns()),
		Syn:             r.segment("SYN", w.GetSyn()),
		RetransmitsBare: tfo.Tri(r.octet("retransmits bare", int64(w.GetRetransmitsBare()))),
		SynAcks:         int(w.GetSynAcks()),
		SynAck:          r.segment("SYN-ACK", w.GetSynAck()),
		Acked:           int(w.GetAckedBytes()),
		AfterSyns:       int(w.GetAfterSyns()),
		OverAcked:       w.GetOverAcked(),
		Resets:          int(w.GetResets()),
		ResetTTL:        r.octet("reset TTL", int64(w.GetResetTtl())),
		ResetHandshake:  w.GetResetHandshake(),
		ICMPErrors:      int(w.GetIcmpErrors()),
		ICMPType:        r.octet("ICMP type", int64(w.GetIcmpType())),
		ICMPCode:        r.octet("ICMP code", int64(w.GetIcmpCode())),
		ICMPFrom:        r.addr("ICMP source", w.GetIcmpFrom()),
		Incomplete:      w.GetIncomplete(),
	}
}

func (r *reader) segment(which string, raw []byte) tfo.Segment {
	s, err := tfo.ParseSegment(raw)
	if err != nil {
		r.fail("%s: %v", which, err)
	}
	return s
}

// count keeps a number within the wire's 32 bits. Evidence counts bytes and
// segments of one short connection.
func count(n int) int32 { return int32(min(max(n, math.MinInt32), math.MaxInt32)) }

func timeToWire(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeFromWire(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func addrToWire(a netip.Addr) []byte {
	if !a.IsValid() {
		return nil
	}
	b, _ := a.MarshalBinary() // has no error
	return b
}

func some(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// reader keeps the first thing that was wrong with a message.
type reader struct{ err error }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) octet(field string, v int64) uint8 {
	if v < 0 || v > math.MaxUint8 {
		r.fail("%s %d is out of range", field, v)
		return 0
	}
	return uint8(v)
}

func (r *reader) port(field string, v uint32) uint16 {
	if v > math.MaxUint16 {
		r.fail("%s %d is out of range", field, v)
	}
	return uint16(v)
}

func (r *reader) addr(field string, b []byte) (a netip.Addr) {
	if len(b) == 0 {
		return a
	}
	if err := a.UnmarshalBinary(b); err != nil {
		r.fail("%s of %d bytes: %v", field, len(b), err)
	}
	return a
}

// maxBatch bounds what a batch may unfold to: a probe must not fill the
// controller's memory with a small message.
const maxBatch = 64 << 20

var (
	// The fastest level: it leaves a tenth of raw TCP_INFO, which is mostly
	// zeros, and a better one would cost more than the measurement itself.
	compressor = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(512<<10), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // constant options
		}
		return e
	})
	decompressor = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxBatch), zstd.WithDecoderConcurrency(0))
		if err != nil {
			panic(err) // constant options
		}
		return d
	})
)

// EncodeBatch is measurements as ReportResultsRequest carries them: a
// MeasurementBatch, compressed.
func EncodeBatch(ms []Measurement) ([]byte, error) {
	w := &pb.MeasurementBatch{Measurements: make([]*pb.Measurement, len(ms))}
	for i := range ms {
		w.Measurements[i] = ToWire(&ms[i])
	}
	raw, err := proto.Marshal(w)
	if err != nil {
		return nil, err
	}
	return compressor().EncodeAll(raw, make([]byte, 0, len(raw)/4)), nil
}

// DecodeBatch is the inverse of EncodeBatch. The bytes come from outside.
func DecodeBatch(b []byte) ([]Measurement, error) {
	raw, err := decompressor().DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("measurement batch: %w", err)
	}
	var w pb.MeasurementBatch
	if err := proto.Unmarshal(raw, &w); err != nil {
		return nil, fmt.Errorf("measurement batch: %w", err)
	}
	ms := make([]Measurement, len(w.GetMeasurements()))
	for i, m := range w.GetMeasurements() {
		if ms[i], err = FromWire(m); err != nil {
			return nil, fmt.Errorf("measurement batch: measurement %d: %w", i, err)
		}
	}
	return ms, nil
}
