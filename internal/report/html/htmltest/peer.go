package htmltest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// peer is a target and the path to it, with one habit.
type peer struct {
	r      *rand.Rand
	does   measure.Verdict
	rtt    time.Duration
	mss    int
	cookie [8]byte
	cached []byte // by the client
	tries  int    // Fast Open attempts so far
	kind   uint8  // the kernel's next kind of option
	port   uint16
}

const timeout = 3 * time.Second

// attempt is what one step of a plan shows.
func (p *peer) attempt(step measure.Step, remote netip.AddrPort) tfo.Evidence {
	p.port++
	local := "198.51.100.7"
	if remote.Addr().Is6() {
		local = "2001:db8:7::7"
	}
	ev := tfo.Evidence{
		Kind: step.Kind, Local: netip.AddrPortFrom(netip.MustParseAddr(local), 40000+p.port), Remote: remote, Offered: 202,
		SynAcked: tfo.NotKnown, ConnectNS: tfo.NotKnown, FirstByteNS: tfo.NotKnown, CookieBefore: p.cache(), WireAbsent: tfo.WireNoRight,
	}
	if step.ClearCookie {
		ev.CookieCleared, p.cached = tfo.Yes, nil
		ev.CookieBefore = p.cache()
	}
	if step.Size > 0 {
		ev.Offered = step.Size
	}
	p.meet(&ev)
	ev.CookieAfter = p.cache()
	raw := step.Kind == tfo.KindForged || step.Kind == tfo.KindUnknown // seen, or not made at all
	if raw || p.r.IntN(3) > 0 {
		p.see(&ev)
	}
	return ev
}

func (p *peer) cache() tfo.Cookie {
	if p.cached == nil {
		return tfo.Cookie{State: tfo.CookieNone}
	}
	return tfo.Cookie{State: tfo.CookiePresent, Bytes: p.cached}
}

func (p *peer) meet(ev *tfo.Evidence) {
	plain := ev.Kind == tfo.KindPlain
	if !plain {
		p.tries++
	}
	switch {
	case p.does == measure.Offline:
		p.timeout(ev)
	case plain && p.does == measure.ClientBlocked && p.tries >= 1:
		p.timeout(ev)
	case plain:
		p.response(ev)
	case ev.Kind == tfo.KindRequest:
		p.request(ev)
	case ev.Kind == tfo.KindData || ev.Kind == tfo.KindSized:
		p.data(ev)
	default:
		p.trial(ev)
	}
}

func (p *peer) jitter() time.Duration {
	return p.rtt + time.Duration(p.r.ExpFloat64()*float64(p.rtt)/15)
}

func (p *peer) timeout(ev *tfo.Evidence) {
	ev.End, ev.Errno, ev.TotalNS, ev.SynRetransmits = tfo.EndTimeout, "ETIMEDOUT", int64(timeout), 1
}

// connect is the handshake, after so many timeouts of the SYN.
func (p *peer) connect(ev *tfo.Evidence, again int) {
	ev.SynRetransmits = again
	ev.ConnectNS = int64(p.jitter()) + int64(again)*int64(time.Second)
	ev.SynAcked = 0
	ev.TCPIOptions = 7
}

func (p *peer) answer(ev *tfo.Evidence, after time.Duration) {
	ev.End, ev.ResponseBytes, ev.ResponseHash = tfo.EndResponse, 512, 0x1234567890abcdef
	ev.FirstByteNS = ev.ConnectNS + int64(after) + int64(p.r.ExpFloat64()*2e6)
	ev.TotalNS = ev.FirstByteNS + 100_000
}

func (p *peer) response(ev *tfo.Evidence) {
	p.connect(ev, 0)
	p.answer(ev, p.jitter())
}

func (p *peer) request(ev *tfo.Evidence) {
	ev.OptionKind = tfo.OptionKindTFO
	if p.kind = p.kind + 1; p.kind%2 == 0 {
		ev.OptionKind = tfo.OptionKindExp
	}
	ev.ClientFail = 1
	switch p.does {
	case measure.OptionDropped:
		p.connect(ev, 1)
		p.answer(ev, p.jitter())
		ev.ClientFail = 3
		return
	case measure.FlowBlackholed:
		p.timeout(ev)
		return
	case measure.Reset:
		ev.End, ev.Errno, ev.TotalNS = tfo.EndRefused, "ECONNREFUSED", int64(p.jitter())
		return
	case measure.Unsupported:
	default:
		p.cached = append([]byte(nil), p.cookie[:]...)
	}
	p.response(ev)
}

func (p *peer) data(ev *tfo.Evidence) {
	ev.OptionKind = tfo.OptionKindTFO
	ev.SynBytes = min(ev.Offered, p.mss)
	switch p.does {
	case measure.CookieOnly:
		p.connect(ev, 0)
		ev.ClientFail, ev.DataRetransmits = 2, 1
		p.answer(ev, p.jitter())
	case measure.DataTruncated:
		p.connect(ev, 0)
		ev.SynAcked, ev.DataRetransmits = ev.SynBytes/2, 1
		p.answer(ev, p.jitter())
	case measure.CookieUnstable:
		p.connect(ev, 0)
		ev.ClientFail, ev.DataRetransmits = 2, 1
		p.cookie[0]++
		p.cached = append([]byte(nil), p.cookie[:]...)
		p.answer(ev, p.jitter())
	case measure.DataDropped:
		p.connect(ev, 1)
		ev.ClientFail = 3
		p.answer(ev, p.jitter())
	case measure.BlackholedAfterHandshake:
		p.connect(ev, 0)
		ev.SynAcked, ev.TCPIOptions = ev.SynBytes, 7|tfo.OptSynData
		ev.End, ev.TotalNS, ev.DataRetransmits = tfo.EndSilent, int64(timeout), 2
	case measure.ClientBlocked, measure.FlowBlackholed:
		p.timeout(ev)
	case measure.Inconclusive:
		if p.tries%2 == 0 {
			p.connect(ev, 0)
			ev.ClientFail = 2
			p.answer(ev, p.jitter())
			return
		}
		fallthrough
	default:
		if ev.Kind == tfo.KindSized && ev.SynBytes > 512 && p.mss < 1340 {
			p.connect(ev, 1)
			ev.ClientFail = 3
			p.answer(ev, p.jitter())
			return
		}
		p.connect(ev, 0)
		ev.SynAcked, ev.TCPIOptions = ev.SynBytes, 7|tfo.OptSynData
		p.answer(ev, 0)
	}
}

// trial is an attempt of thorough's further questions: refused, as it should be.
func (p *peer) trial(ev *tfo.Evidence) {
	switch ev.Kind {
	case tfo.KindCookieless:
		ev.SynBytes, ev.ClientFail = ev.Offered, 2
		p.response(ev)
	default:
		ev.End, ev.TotalNS, ev.SynAcked = tfo.EndSynAck, int64(p.jitter()), 0
		if ev.Kind == tfo.KindForged {
			ev.SynBytes, ev.OptionKind = ev.Offered, tfo.OptionKindTFO
		}
	}
}

// see gives an attempt its facts from the wire.
func (p *peer) see(ev *tfo.Evidence) {
	var cookie []byte
	switch {
	case ev.Kind == tfo.KindForged:
		cookie = []byte{0xf0, 0x4e, 0xd0, 0xc0, 0x0c, 0x1e, 0, 1}
	case ev.OptionKind != 0 && ev.SynBytes > 0:
		cookie = ev.CookieBefore.Bytes
	}
	w := &tfo.Wire{Syns: 1 + ev.SynRetransmits, Syn: segment(0x02, 64, 1460, ev.OptionKind, cookie, ev.SynBytes, p.r.Uint32()), Acked: tfo.NotKnown}
	if ev.SynRetransmits > 0 && ev.OptionKind != 0 {
		w.RetransmitsBare = tfo.Yes
	}
	if ev.End.Established() || ev.End == tfo.EndSynAck {
		kind, granted := uint8(0), []byte(nil)
		if !ev.CookieAfter.Equal(ev.CookieBefore) && ev.CookieAfter.State == tfo.CookiePresent {
			kind, granted = ev.OptionKind, ev.CookieAfter.Bytes
		}
		w.SynAcks, w.SynAck, w.Acked, w.AfterSyns = 1, segment(0x12, 52, uint16(p.mss), kind, granted, 0, p.r.Uint32()), max(ev.SynAcked, 0), w.Syns
	}
	if ev.End == tfo.EndRefused {
		w.Resets, w.ResetTTL = 1, 52
	}
	ev.Wire, ev.WireAbsent = w, ""
}

// segment is a SYN or SYN-ACK over IPv4, as it would be on the wire.
func segment(flags, ttl byte, mss uint16, kind uint8, cookie []byte, payload int, seq uint32) tfo.Segment {
	options := []byte{2, 4, byte(mss >> 8), byte(mss), 4, 2, 1, 3, 3, 7}
	switch kind {
	case tfo.OptionKindTFO:
		options = append(append(options, tfo.OptionKindTFO, byte(2+len(cookie))), cookie...)
	case tfo.OptionKindExp:
		options = append(append(options, tfo.OptionKindExp, byte(4+len(cookie)), 0xf9, 0x89), cookie...)
	}
	for len(options)%4 > 0 {
		options = append(options, 1)
	}
	raw := make([]byte, 40, 80)
	raw[0], raw[8], raw[9] = 0x45, ttl, 6
	raw = append(raw, options...)
	binary.BigEndian.PutUint16(raw[2:], uint16(len(raw)+payload))
	binary.BigEndian.PutUint32(raw[24:], seq)
	raw[32], raw[33] = byte(len(raw)-20)/4<<4, flags
	s, err := tfo.ParseSegment(raw)
	if err != nil {
		panic(err) // made above
	}
	return s
}
