package measure

import (
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// ArrivalToWire and ArrivalFromWire lose nothing but the monotonic part of a
// time, its location, and the difference between a nil and an empty slice.

// ArrivalToWire is the message for an arrival. It shares byte slices with a.
func ArrivalToWire(a *tfo.Arrival) *pb.Arrival {
	return &pb.Arrival{
		AcceptedUnixNs: timeToWire(a.Accepted),
		PeerAddress:    addrToWire(a.Peer.Addr()), PeerPort: uint32(a.Peer.Port()),
		LocalAddress: addrToWire(a.Local.Addr()), LocalPort: uint32(a.Local.Port()),
		Syn:           a.SYN.Raw,
		Claim:         pb.CookieClaim(a.Claim),
		Gives:         a.Gives,
		Child:         pb.Tri(a.Child),
		SynBytes:      count(a.SynBytes),
		SynTaken:      count(a.SynTaken),
		AtAccept:      count(a.AtAccept),
		Request:       a.Request,
		RequestKind:   pb.RequestKind(a.RequestKind),
		RequestBytes:  count(a.RequestBytes),
		ResponseBytes: count(a.ResponseBytes),
		ResponseAcked: count(a.ResponseAcked),
		AnsweredEarly: pb.Tri(a.AnsweredEarly),
		HandshakeNs:   a.HandshakeNS, RequestNs: a.RequestNS, TotalNs: a.TotalNS,
		End: pb.ArrivalEnd(a.End), Errno: a.Errno,
		InfoAccept: a.InfoAccept, InfoFinal: a.InfoFinal,
	}
}

// ArrivalFromWire is the inverse of ArrivalToWire. It shares byte slices with
// w. The error says which field holds what no arrival can.
func ArrivalFromWire(w *pb.Arrival) (*tfo.Arrival, error) {
	var r reader
	a := &tfo.Arrival{
		Accepted:      timeFromWire(w.GetAcceptedUnixNs()),
		Peer:          netip.AddrPortFrom(r.addr("peer address", w.GetPeerAddress()), r.port("peer port", w.GetPeerPort())),
		Local:         netip.AddrPortFrom(r.addr("local address", w.GetLocalAddress()), r.port("local port", w.GetLocalPort())),
		SYN:           r.savedSYN(w.GetSyn()),
		Claim:         tfo.CookieClaim(r.octet("claim", int64(w.GetClaim()))),
		Gives:         some(w.GetGives()),
		Child:         tfo.Tri(r.octet("child", int64(w.GetChild()))),
		SynBytes:      int(w.GetSynBytes()),
		SynTaken:      int(w.GetSynTaken()),
		AtAccept:      int(w.GetAtAccept()),
		Request:       some(w.GetRequest()),
		RequestKind:   tfo.RequestKind(r.octet("request kind", int64(w.GetRequestKind()))),
		RequestBytes:  int(w.GetRequestBytes()),
		ResponseBytes: int(w.GetResponseBytes()),
		ResponseAcked: int(w.GetResponseAcked()),
		AnsweredEarly: tfo.Tri(r.octet("answered early", int64(w.GetAnsweredEarly()))),
		HandshakeNS:   w.GetHandshakeNs(), RequestNS: w.GetRequestNs(), TotalNS: w.GetTotalNs(),
		End: tfo.ArrivalEnd(r.octet("arrival end", int64(w.GetEnd()))), Errno: w.GetErrno(),
		InfoAccept: some(w.GetInfoAccept()), InfoFinal: some(w.GetInfoFinal()),
	}
	return a, r.err
}

// savedSYN reads a SYN again from its bytes; without any there is none.
func (r *reader) savedSYN(raw []byte) tfo.SavedSYN {
	if len(raw) == 0 {
		return tfo.SavedSYN{}
	}
	s, err := tfo.DecodeSYN(raw)
	if err != nil {
		r.fail("SYN of %d bytes: %v", len(raw), err)
	}
	return s
}

// AlarmToWire is the message for a listener's alarm.
func AlarmToWire(a tfo.Alarm) *pb.ListenerAlarm {
	return &pb.ListenerAlarm{
		Kind: pb.ListenerAlarmKind(a.Kind), AtUnixNs: timeToWire(a.Time), Queue: count(a.Queue), InUse: count(a.InUse), Count: a.Count, Errno: a.Errno,
	}
}

// AlarmFromWire is the inverse of AlarmToWire.
func AlarmFromWire(w *pb.ListenerAlarm) (tfo.Alarm, error) {
	var r reader
	a := tfo.Alarm{
		Kind: tfo.AlarmKind(r.octet("alarm", int64(w.GetKind()))), Time: timeFromWire(w.GetAtUnixNs()),
		Queue: int(w.GetQueue()), InUse: int(w.GetInUse()), Count: w.GetCount(), Errno: w.GetErrno(),
	}
	return a, r.err
}

// ListenSpec is a listener that a probe is asked to open.
type ListenSpec struct {
	Port     uint16         // 0: the probe chooses
	Allow    []netip.Prefix // sources that are answered; none: all
	Lifetime time.Duration  // after which it closes by itself
	Patience time.Duration  // how long a connection may take; 0: the listener's own
	Queue    int            // pending TFO connections; 0: as many as the kernel allows
}

// ListenSpecToWire is the message for a listener that is asked for.
func ListenSpecToWire(s ListenSpec) *pb.ListenSpec {
	w := &pb.ListenSpec{Port: uint32(s.Port), Lifetime: durationpb.New(s.Lifetime), Patience: durationpb.New(s.Patience), Queue: uint32(s.Queue)}
	for _, p := range s.Allow {
		w.Allow = append(w.Allow, p.String())
	}
	return w
}

// ListenSpecFromWire is the inverse of ListenSpecToWire.
func ListenSpecFromWire(w *pb.ListenSpec) (ListenSpec, error) {
	var r reader
	s := ListenSpec{
		Port: r.port("port", w.GetPort()), Lifetime: r.span("lifetime", w.GetLifetime()), Patience: r.span("patience", w.GetPatience()),
		Queue: int(w.GetQueue()),
	}
	for _, text := range w.GetAllow() {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			r.fail("allow: %v", err)
		}
		s.Allow = append(s.Allow, p)
	}
	return s, r.err
}

func (r *reader) span(field string, d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() < 0 {
		r.fail("%s is no span of time", field)
	}
	return d.AsDuration()
}

// EncodeArrivals is the batch, compressed as EncodeBatch does it.
func EncodeArrivals(b *pb.ArrivalBatch) ([]byte, error) {
	raw, err := proto.Marshal(b)
	if err != nil {
		return nil, err
	}
	return compressor().EncodeAll(raw, make([]byte, 0, len(raw)/4)), nil
}

// DecodeArrivals is the inverse of EncodeArrivals. The bytes come from outside.
func DecodeArrivals(data []byte) (arrivals []*tfo.Arrival, alarms []tfo.Alarm, err error) {
	raw, err := decompressor().DecodeAll(data, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("arrival batch: %w", err)
	}
	b := &pb.ArrivalBatch{}
	if err := proto.Unmarshal(raw, b); err != nil {
		return nil, nil, fmt.Errorf("arrival batch: %w", err)
	}
	for i, w := range b.GetArrivals() {
		a, err := ArrivalFromWire(w)
		if err != nil {
			return nil, nil, fmt.Errorf("arrival batch: arrival %d: %w", i, err)
		}
		arrivals = append(arrivals, a)
	}
	for i, w := range b.GetAlarms() {
		a, err := AlarmFromWire(w)
		if err != nil {
			return nil, nil, fmt.Errorf("arrival batch: alarm %d: %w", i, err)
		}
		alarms = append(alarms, a)
	}
	return arrivals, alarms, nil
}
