package measure

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"tfofleet/internal/tfo"
)

// A road is a path between two ends as simple as it can be: what the kernels at
// its ends would show is computed, not measured. It exists to try many
// thousands; the lab has the real thing.
type road struct {
	loss   float64 // of each SYN and SYN-ACK
	noWire bool    // the client may not look at its wire
	rand   *rand.Rand

	there func(*syn)   // what the path does to a SYN; drops it by lost
	back  func(*reply) // to a SYN-ACK
	dead  Direction    // what is lost after the SYN-ACK, of flows that began with data
	proxy bool         // somebody with Fast Open answers in the listener's place
	quiet bool         // the listener withholds Fast Open

	n        int // attempts so far
	clock    time.Time
	cookie   []byte // the client's cache
	kind     uint8  // of the option it came with
	tryExp   bool   // ask with kind 254 next
	nonce    Nonce
	arrivals []*tfo.Arrival
}

type syn struct {
	first    bool
	kind     uint8
	cookie   []byte
	data     int
	seq, ts  uint32
	mss      uint16
	from     netip.AddrPort
	lost     bool
	withData bool // the flow began with data
	withTFO  bool // or with the option
}

type reply struct {
	bare     bool // sent again: without an option
	option   bool
	cookie   []byte
	lost     bool
	withData bool
	withTFO  bool
}

var (
	roadClient   = netip.MustParseAddr("192.0.2.7")
	roadListener = netip.MustParseAddrPort("198.51.100.1:80")
	roadKey      = tfo.Key{7}
)

// raw is the SYN as headers.
func (s *syn) raw() []byte {
	opts := []byte{2, 4, byte(s.mss >> 8), byte(s.mss), 4, 2, 8, 10}
	opts = binary.BigEndian.AppendUint32(opts, s.ts)
	opts = append(opts, 0, 0, 0, 0, 1, 3, 3, 7)
	switch s.kind {
	case 34:
		opts = append(append(opts, 34, byte(2+len(s.cookie))), s.cookie...)
	case 254:
		opts = append(append(opts, 254, byte(4+len(s.cookie)), 0xf9, 0x89), s.cookie...)
	}
	for len(opts)%4 != 0 {
		opts = append(opts, 1)
	}
	b := make([]byte, 40, 80)
	b[0], b[6], b[8], b[9] = 0x45, 0x40, 64, 6
	binary.BigEndian.PutUint16(b[2:], uint16(40+len(opts)+s.data))
	copy(b[12:], s.from.Addr().AsSlice())
	copy(b[16:], roadListener.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[20:], s.from.Port())
	binary.BigEndian.PutUint16(b[22:], roadListener.Port())
	binary.BigEndian.PutUint32(b[24:], s.seq)
	b[32], b[33] = byte((20+len(opts))/4)<<4, 2
	binary.BigEndian.PutUint16(b[34:], 64240)
	return append(b, opts...)
}

// ride makes a whole measurement.
func (r *road) ride(plan Plan) Sides {
	if r.rand == nil {
		r.rand = rand.New(rand.NewPCG(1, 2))
	}
	r.clock, r.nonce = time.Unix(1_700_000_000, 0), NewNonce()
	var evs []tfo.Evidence
	for {
		step, more := Next(plan, evs)
		if !more {
			return Sides{Plan: plan, Nonce: r.nonce, Attempts: evs, Arrivals: r.arrivals}
		}
		evs = append(evs, r.attempt(step))
		r.n++
	}
}

// attempt makes one connection.
func (r *road) attempt(step Step) tfo.Evidence {
	r.clock = r.clock.Add(time.Second)
	if step.ClearCookie {
		r.cookie, r.tryExp = nil, false
	}
	ev := tfo.Evidence{
		Kind: step.Kind, Start: r.clock, Local: netip.AddrPortFrom(roadClient, uint16(40000+r.n)), Remote: roadListener, Offered: 100,
		End: tfo.EndResponse, ConnectNS: 20 * ms, FirstByteNS: 40 * ms, CookieBefore: held(r.cookie), CookieAfter: held(r.cookie),
	}
	s := syn{first: true, seq: r.rand.Uint32(), ts: r.rand.Uint32(), mss: 1460, from: ev.Local}
	if step.Kind != tfo.KindPlain {
		s.kind, s.withTFO = 34, true
		if r.cookie == nil && r.tryExp {
			s.kind = 254
		}
		if s.cookie = r.cookie; s.cookie != nil {
			s.kind, s.data, s.withData = r.kind, 100, true
			ev.SynBytes = 100
		}
		ev.OptionKind = s.kind
	}
	sent := s
	// Up to four SYNs, the later ones bare; the listener keeps the first that
	// comes.
	var a *tfo.Arrival
	var answer *reply
	syns := 0
	for ; syns < 4 && answer == nil; syns++ {
		try := sent
		if syns > 0 {
			try.first, try.kind, try.cookie, try.data = false, 0, nil, 0
			try.ts += uint32(1000 * syns)
		}
		if r.there != nil {
			r.there(&try)
		}
		if try.lost || r.rand.Float64() < r.loss {
			continue
		}
		back := &reply{bare: a != nil || try.kind == 0, withData: s.withData, withTFO: s.withTFO}
		if a == nil {
			a = r.arrive(&try)
		}
		if !back.bare && a.Claim != tfo.ClaimValid && !r.quiet {
			back.option, back.cookie = true, a.Gives
		}
		if r.back != nil {
			r.back(back)
		}
		if !back.lost && r.rand.Float64() >= r.loss {
			answer = back
		}
	}
	ev.SynRetransmits = syns - 1
	if answer == nil {
		ev.End, ev.SynRetransmits = tfo.EndTimeout, 4
		ev = fail(ev)
		if a != nil && a.Child == tfo.Yes { // else the kernel tells nobody
			a.HandshakeNS, a.End = tfo.NotKnown, tfo.ArrivalUnacked
			a.ResponseBytes = 102
			r.arrivals = append(r.arrivals, a)
		}
		return ev
	}
	ev.ConnectNS += int64(syns-1) * 1000 * ms
	ev.FirstByteNS += int64(syns-1) * 1000 * ms
	r.learn(&ev, answer, a)
	r.talk(&ev, a)
	if !r.noWire {
		ev.Wire = &tfo.Wire{Syns: syns, SynAcks: 1, Acked: ev.SynAcked, AfterSyns: syns, RetransmitsBare: triOf(true)}
		ev.Wire.Syn, _ = tfo.ParseSegment(sent.raw())
		if answer.option {
			ev.Wire.SynAck.OptionKind, ev.Wire.SynAck.Cookie = s.kind, answer.cookie
		}
	}
	return ev
}

// arrive is what the listener makes of a SYN.
func (r *road) arrive(s *syn) *tfo.Arrival {
	a := &tfo.Arrival{Accepted: r.clock, Peer: s.from, Local: roadListener, Child: tfo.No, End: tfo.ArrivalServed, ResponseBytes: 102, ResponseAcked: 102}
	if r.proxy {
		s = &syn{seq: r.rand.Uint32(), ts: r.rand.Uint32(), mss: 65495, from: netip.AddrPortFrom(roadListener.Addr().Next(), s.from.Port()+1)}
		a.Peer = s.from
	}
	a.SYN, _ = tfo.DecodeSYN(s.raw())
	c := roadKey.Cookie(a.Peer.Addr(), roadListener.Addr())
	a.Gives, a.SynBytes = c[:], s.data
	switch opt := a.SYN.Options.FastOpen(); {
	case opt.Count == 0:
		a.Claim = tfo.ClaimNone
	case len(opt.Cookie) == 0:
		a.Claim = tfo.ClaimRequest
	case bytes.Equal(opt.Cookie, a.Gives):
		a.Claim = tfo.ClaimValid
		if !r.quiet {
			a.Child, a.SynTaken = tfo.Yes, s.data
		}
	default:
		a.Claim = tfo.ClaimStale
	}
	return a
}

// learn is what the client's kernel takes from the SYN-ACK.
func (r *road) learn(ev *tfo.Evidence, answer *reply, a *tfo.Arrival) {
	if r.proxy && ev.OptionKind != 0 {
		if ev.SynAcked = ev.SynBytes; ev.SynBytes == 0 {
			r.cookie, r.kind = []byte("proxied!"), ev.OptionKind
		}
		ev.CookieAfter = held(r.cookie)
		return
	}
	ev.SynAcked = min(a.SynTaken, ev.SynBytes)
	if ev.SynBytes > ev.SynAcked {
		ev.ClientFail = tfo.FailDataNotAcked
		if ev.SynRetransmits > 0 {
			ev.ClientFail = tfo.FailSynRetransmitted
		}
	}
	if ev.Kind == tfo.KindPlain {
		return
	}
	switch n := len(answer.cookie); {
	case answer.option && n >= 4 && n%2 == 0:
		r.cookie, r.kind = answer.cookie, ev.OptionKind
	case !(answer.option && n == 0) && ev.SynBytes == 0 && ev.SynRetransmits == 0:
		r.tryExp = !r.tryExp && ev.OptionKind == 34
	}
	ev.CookieAfter = held(r.cookie)
}

// talk is what follows the handshake.
func (r *road) talk(ev *tfo.Evidence, a *tfo.Arrival) {
	a.Request = TaggedPayload(PayloadHTTP, nil, Target{Addr: roadListener.Addr(), Port: 80}, Tag{r.nonce, r.n}).Bytes
	arrived := true
	if ev.SynBytes > 0 && r.dead != 0 {
		if r.dead&Forward != 0 {
			a.HandshakeNS, a.End, a.ResponseAcked = tfo.NotKnown, tfo.ArrivalUnacked, 0
			if a.SynTaken == 0 { // not before the handshake
				arrived = false
			}
		}
		if r.dead&Return != 0 || !arrived {
			ev.End, a.End, a.ResponseAcked = tfo.EndSilent, tfo.ArrivalUnacked, 0
			*ev = fail(*ev)
		}
	}
	if arrived {
		r.arrivals = append(r.arrivals, a)
	}
}
