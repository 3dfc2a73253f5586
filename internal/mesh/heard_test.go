package mesh

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// A measurement of four attempts in 3 s, by a clock that is an hour behind the
// server's.
const (
	behind = time.Hour
	isn    = 0x01020304
)

var (
	begun    = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) // by the client's clock
	nonce    = measure.Nonce{7}
	clientAt = netip.MustParseAddrPort("192.0.2.1:1000")
)

func client() *measure.Measurement {
	m := &measure.Measurement{Target: measure.Target{Port: 443}, Outcome: measure.OutcomeMeasured}
	for i := range 4 {
		m.Attempts = append(m.Attempts, tfo.Evidence{Start: begun.Add(time.Duration(i) * time.Second), TotalNS: int64(200 * time.Millisecond)})
	}
	return m
}

// came is an arrival that long after the measurement began; attempt -1 has no
// tag.
func came(after time.Duration, attempt int, port uint16, of measure.Nonce) *tfo.Arrival {
	a := &tfo.Arrival{
		Accepted: begun.Add(behind + after), Peer: netip.MustParseAddrPort("[::ffff:198.51.100.1]:5000"), Local: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.9"), port),
	}
	if attempt >= 0 {
		a.Request = measure.TaggedPayload(measure.PayloadHTTP, nil, measure.Target{Addr: a.Local.Addr(), Port: port}, measure.Tag{Nonce: of, Attempt: attempt}).Bytes
	}
	return a
}

func TestHeardOf(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	tagged := func(after time.Duration, attempt int) *tfo.Arrival { return came(after, attempt, 443, nonce) }
	bare := func(after time.Duration) *tfo.Arrival { return came(after, -1, 443, measure.Nonce{}) }
	withISN := bare(10 * ms)
	withISN.SYN = tfo.SavedSYN{Raw: []byte{1}, Seq: isn}
	withPort := bare(10 * ms)
	withPort.Peer = netip.AddrPortFrom(netip.MustParseAddr("::ffff:192.0.2.1"), clientAt.Port())
	alarm := func(k tfo.AlarmKind, after time.Duration, n int64) tfo.Alarm {
		return tfo.Alarm{Kind: k, Time: begun.Add(behind + after), Count: n}
	}
	overflow := func(after time.Duration) tfo.Alarm { return alarm(tfo.AlarmQueueOverflow, after, 1) }
	for _, tt := range []struct {
		name       string
		in         []*tfo.Arrival
		want       []int // of in
		alarms     []tfo.Alarm
		wantAlarms []int
		change     func(*measure.Measurement)
		lost       bool
	}{
		{name: "its own, wherever and whenever", in: []*tfo.Arrival{tagged(0, 0), came(time.Minute, 1, 80, nonce), came(0, 0, 443, measure.Nonce{8})}, want: []int{0, 1}},
		{name: "without a tag: what came while it ran", in: []*tfo.Arrival{tagged(10*ms, 0), bare(s), bare(-3 * s), bare(7 * s), bare(-5 * s), bare(8 * s), came(s, -1, 80, nonce)}, want: []int{0, 1, 2, 3}},
		{name: "the clocks are told by the last attempt as well", in: []*tfo.Arrival{bare(s), tagged(3*s+10*ms, 3)}, want: []int{1, 0}},
		{name: "one SYN was repeated for 7 s: the other tells the clocks", in: []*tfo.Arrival{tagged(7*s, 0), tagged(1010*ms, 1), bare(-3 * s)}, want: []int{0, 1, 2}},
		{name: "nothing with a tag, but a sequence number", in: []*tfo.Arrival{withISN, bare(s), bare(time.Minute)}, want: []int{0, 1}},
		{name: "nothing with a tag, but an address and port", in: []*tfo.Arrival{bare(s), withPort, bare(time.Minute)}, want: []int{0, 1}},
		{name: "nothing arrived", in: []*tfo.Arrival{bare(0), bare(s)}, alarms: []tfo.Alarm{overflow(0), overflow(time.Hour)}, wantAlarms: []int{0, 1}},
		{
			name: "alarms of its time", in: []*tfo.Arrival{tagged(0, 0)}, want: []int{0},
			alarms:     []tfo.Alarm{overflow(s), overflow(4 * s), overflow(-time.Minute), overflow(time.Minute)},
			wantAlarms: []int{0, 1},
		},
		{
			name: "what lasts since before it", in: []*tfo.Arrival{tagged(0, 0)}, want: []int{0},
			alarms: []tfo.Alarm{
				alarm(tfo.AlarmServerOff, -time.Hour, 0), alarm(tfo.AlarmSyncookies, -time.Hour, 0), alarm(tfo.AlarmSyncookies, -time.Hour, 3), alarm(tfo.AlarmServerOff, time.Hour, 0),
			},
			wantAlarms: []int{0, 1},
		},
		{name: "a tag of no attempt", in: []*tfo.Arrival{tagged(0, 9), bare(0)}, want: []int{0}},
		{name: "no attempt was made", in: []*tfo.Arrival{bare(0)}, change: func(m *measure.Measurement) { m.Attempts = nil }},
		{name: "the client was lost", in: []*tfo.Arrival{tagged(0, 0), tagged(s, 1), bare(0)}, want: []int{0, 1}, lost: true, alarms: []tfo.Alarm{overflow(0), overflow(-time.Minute)}, wantAlarms: []int{0}},
		{name: "the client was lost, and nothing arrived", lost: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := client()
			m.Attempts[0].Local, m.Attempts[0].Wire = clientAt, &tfo.Wire{Syns: 1, Syn: tfo.Segment{Seq: isn}}
			if tt.change != nil {
				tt.change(m)
			}
			if tt.lost {
				m = nil
			}
			h := Hear(tt.in, tt.alarms)
			arrivals, alarms := h.Of(nonce, m)
			for i, a := range tt.in {
				if slices.Contains(arrivals, a) != slices.Contains(tt.want, i) {
					t.Errorf("arrival %d at %v: %v", i, a.Accepted.Sub(begun.Add(behind)), slices.Contains(arrivals, a))
				}
			}
			for i, a := range tt.alarms {
				if slices.Contains(alarms, a) != slices.Contains(tt.wantAlarms, i) {
					t.Errorf("alarm %d: %v", i, slices.Contains(alarms, a))
				}
			}
			// What was picked is picked again.
			again, alarmsAgain := Hear(arrivals, alarms).Of(nonce, m)
			if len(again) != len(tt.want) || len(alarmsAgain) != len(tt.wantAlarms) {
				t.Errorf("again: %d arrivals, %d alarms", len(again), len(alarmsAgain))
			}
		})
	}
}

// Who was lost, and who never began, is not the path's doing.
func TestJudgeLost(t *testing.T) {
	all := Ends{Plan: measure.Standard, Nonce: nonce, Client: client()}
	interrupted := *all.Client
	interrupted.Outcome = measure.OutcomeInterrupted
	for _, tt := range []struct {
		name string
		ends Ends
		want measure.JointVerdict
	}{
		{"the client", Ends{Plan: measure.Standard, Nonce: nonce, Arrivals: []*tfo.Arrival{came(0, 0, 443, nonce)}}, measure.JointPeerLost},
		{"the client, half way", Ends{Plan: measure.Standard, Nonce: nonce, Client: &interrupted}, measure.JointPeerLost},
		{"the server", Ends{Plan: all.Plan, Nonce: nonce, Client: all.Client, ServerLost: true}, measure.JointPeerLost},
		{"both", Ends{ServerLost: true}, measure.JointPeerLost},
	} {
		if j := Judge(tt.ends); j.Verdict != tt.want {
			t.Errorf("%s: %v", tt.name, j.Verdict)
		}
		if _, err := tt.ends.Evidence(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if b, err := (Ends{}).Evidence(); b != nil || err != nil {
		t.Errorf("nothing: %x, %v", b, err)
	}
}

// A payload that only its client can know is not held against what arrived.
func TestOffered(t *testing.T) {
	for port, known := range map[uint16]bool{53: true, 80: true, 443: false, 8443: false, 8080: true} {
		e := Ends{Payload: measure.PayloadAuto, Nonce: nonce, Client: &measure.Measurement{Target: measure.Target{Addr: netip.MustParseAddr("192.0.2.9"), Port: port}}}
		if b := e.offered(0); (b != nil) != known {
			t.Errorf("port %d: %q", port, b)
		}
	}
}
