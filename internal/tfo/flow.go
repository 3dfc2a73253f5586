package tfo

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// phase is where a flow's attempt stands.
type phase uint8

const (
	phaseIdle    phase = iota // no attempt
	phaseDelayed              // waits for its delay
	phasePaced                // waits for its slot
	phaseConnect              // SYN sent
	phaseRespond              // handshake done, waits for the first byte
	phaseRaw                  // raw SYN sent, looks for an answer
	phaseRest                 // has a response, waits for the rest of it
	phaseDenied               // its Gate was against the SYN
)

// restTimeout is how long a response may pause once it has begun. It is short:
// the evidence needs an answer, not all of it.
const restTimeout = 200 * time.Millisecond

// flow is one sequence under way, and its attempt of the moment.
type flow struct {
	key        int32 // place in shard.flows
	generation int32 // counts attempts, so that an event of a closed socket is known
	seq        Sequence
	remote     netip.AddrPort
	sa         sockaddr
	family     int
	timer      flowTimer
	history    history

	phase    phase
	att      Attempt
	fd       int
	start    int64 // ns on the shard's clock
	sent     int   // payload bytes the kernel took
	response []byte
	raw      raw
	observed *observed // nil without capture, or before a SYN
	ev       *Evidence
}

// history is what a flow remembers from one attempt to the next.
type history struct {
	source   netip.Addr   // the kernel's choice, once it has made one
	entry    MetricsEntry // as read after the attempt before
	read     bool         // entry was read in this turn of the loop: nothing can have come between
	exp      expState     // which option kind the kernel will ask with
	cookieAt uint8        // option kind with which the cached cookie was granted
}

// expState mirrors try_exp of the kernel's cache entry (net/ipv4/tcp_metrics.c,
// tcp_rcv_fastopen_synack in net/ipv4/tcp_input.c): a request that was answered
// without a cookie, and without a timeout, makes the next one use the
// experimental kind; after that it is kind 34 for good.
type expState uint8

const (
	expUntried expState = iota
	expNext
	expDone
)

// take hands the evidence over and leaves the flow idle.
func (f *flow) take() *Evidence {
	ev := f.ev
	f.ev = nil
	return ev
}

// next asks the sequence what comes after last and sets it going.
func (s *shard) next(f *flow, last *Evidence) {
	att, more := f.seq.Next(last)
	if !more {
		f.phase = phaseIdle
		s.finish(f, false)
		return
	}
	f.att = att
	if att.Delay > 0 {
		f.phase = phaseDelayed
		f.history.read = false
		s.timers.set(&f.timer, s.now()+int64(att.Delay))
		return
	}
	s.pass(f)
}

// pass launches the attempt as soon as there is a slot for it. A slot is taken
// for now and not for after a rest: all later ones would have to wait for it.
func (s *shard) pass(f *flow) {
	now := s.now()
	if at := s.pace.slot(now); at > now {
		f.phase = phasePaced
		f.history.read = false
		s.timers.set(&f.timer, at)
		return
	}
	s.launch(f)
}

// launch prepares the cookie cache and sends the SYN.
func (s *shard) launch(f *flow) {
	if g, ok := f.seq.(Gate); ok && !g.Permit() {
		f.phase = phaseDenied
		s.ready = append(s.ready, f) // finished later: many may be denied at once
		return
	}
	ev := &Evidence{
		Kind: f.att.Kind, Remote: f.remote, Offered: len(f.att.forSyn()), SynAcked: NotKnown,
		ConnectNS: NotKnown, FirstByteNS: NotKnown, TotalNS: NotKnown,
	}
	f.ev = ev
	f.generation++
	f.sent = 0
	f.response = nil
	h := &f.history
	if f.att.ClearCookie {
		if err := s.metrics.Delete(f.remote.Addr()); err == nil {
			ev.CookieCleared = Yes
			h.exp, h.read = expUntried, false
		} else {
			ev.CookieCleared = No
		}
	}
	if !h.read {
		h.entry, _ = s.metrics.Get(h.source, f.remote.Addr())
	}
	h.read = false
	ev.CookieBefore = h.entry.Cookie

	if f.att.Kind == KindForged || f.att.Kind == KindUnknown {
		s.launchRaw(f)
		return
	}
	var e syscall.Errno
	if f.fd, e = socketTCP(f.family); e != 0 {
		f.start = s.now()
		s.settle(f, EndLocal, e)
		return
	}
	f.start = s.now()
	switch f.att.Kind {
	case KindPlain:
		e = connect(f.fd, &f.sa)
	case KindCookieless:
		if e = setNoCookie(f.fd); e == 0 {
			f.sent, e = sendFastOpen(f.fd, f.att.forSyn(), &f.sa)
			ev.SynBytes = f.sent
		}
	default:
		f.sent, e = sendFastOpen(f.fd, f.att.forSyn(), &f.sa)
		ev.SynBytes = f.sent
		if e == 0 || e == unix.EINPROGRESS {
			ev.OptionKind = h.optionKind(ev.CookieBefore)
		}
	}
	switch e {
	case 0, unix.EINPROGRESS:
	case unix.ECONNREFUSED, unix.ECONNRESET, unix.ETIMEDOUT:
		s.settle(f, EndRefused, e)
		return
	default:
		s.settle(f, EndLocal, e)
		return
	}
	ev.Local = localAddr(f.fd)
	f.observed = s.capture.claim(ev.Local, f.remote)
	h.source = ev.Local.Addr()
	f.phase = phaseConnect
	epev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: f.key, Pad: f.generation}
	if e := epollAdd(s.epfd, f.fd, &epev); e != 0 {
		s.settle(f, EndLocal, e)
		return
	}
	s.timers.set(&f.timer, f.start+int64(f.att.Timeout))
}

// forSyn is what the kernel may put into the SYN.
func (a *Attempt) forSyn() []byte {
	if a.SynLimit > 0 && a.SynLimit < len(a.Payload) {
		return a.Payload[:a.SynLimit]
	}
	return a.Payload
}

// optionKind is the kind the kernel uses for the SYN now.
func (h *history) optionKind(cached Cookie) uint8 {
	if cached.State == CookiePresent {
		if h.cookieAt == OptionKindExp {
			return OptionKindExp
		}
		return OptionKindTFO
	}
	if h.exp == expNext {
		return OptionKindExp
	}
	return OptionKindTFO
}

// event handles what epoll said of a flow's socket.
func (s *shard) event(f *flow, events uint32) {
	if f.phase == phaseConnect {
		if !s.connected(f, events) {
			return
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		s.receive(f)
	}
}

// connected takes the first event of a connecting socket. It reports whether
// the handshake completed and the flow goes on.
func (s *shard) connected(f *flow, events uint32) bool {
	now := s.now()
	info := readInfo(f.fd, &s.info)
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		// A server may accept, answer and reset before we look: then the
		// handshake happened, and what came back is still to be read.
		if e := soError(f.fd); e != 0 {
			if f.phase == phaseConnect && !wasEstablished(info) {
				s.settle(f, EndRefused, e)
				return false
			}
			s.handshake(f, info, now)
			if n, err := recv(f.fd, s.read[:]); err == 0 && n > 0 {
				f.ev.FirstByteNS, f.ev.ResponseBytes = now-f.start, n
				f.response = s.read[:n]
				s.settle(f, EndResponse, 0)
				return false
			}
			s.settle(f, EndReset, e)
			return false
		}
	}
	if st := info.State(); st == stateSynSent || st == stateClose {
		if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			s.settle(f, EndRefused, unix.ECONNREFUSED)
			return false
		}
		return false // nothing has happened yet
	}
	s.handshake(f, info, now)
	f.phase = phaseRespond
	if !s.sendRest(f) {
		return false
	}
	s.timers.set(&f.timer, now+int64(f.att.Timeout))
	return true
}

// TCP states (include/net/tcp_states.h).
const (
	stateSynSent = 2
	stateClose   = 7
)

// wasEstablished tells from the TCP_INFO of a dead socket whether its
// handshake had completed: segments with a SYN-ACK or data had come in.
func wasEstablished(info Info) bool { return info.BytesAcked() > 0 || info.BytesReceived() > 0 }

// handshake records what the kernel knows the moment the handshake completes.
func (s *shard) handshake(f *flow, info Info, now int64) {
	ev := f.ev
	ev.InfoHandshake = bytes.Clone(info)
	ev.ConnectNS = now - f.start
	ev.SynRetransmits = info.SynTimeouts()
	ev.ClientFail = info.ClientFail()
	ev.TCPIOptions = info.Options()
	ev.SynAcked = info.SynAcked(ev.SynBytes)
	if kernelTellsFail && ev.OptionKind != 0 && ev.ClientFail == FailUnspec && info.Options()&OptSynData == 0 && ev.SynBytes == 0 && ev.CookieBefore.State != CookiePresent {
		// A request that went out is marked "cookie unavailable". Nothing is
		// marked: the kernel sent a plain SYN (Fast Open paused, or off).
		ev.OptionKind = 0
	}
}

// sendRest sends the payload the SYN did not carry.
func (s *shard) sendRest(f *flow) bool {
	if f.sent >= len(f.att.Payload) {
		return true
	}
	n, e := send(f.fd, f.att.Payload[f.sent:])
	if e != 0 && e != unix.EAGAIN {
		if e == unix.EPIPE || e == unix.ECONNRESET {
			s.receive(f) // an answer may have come before the reset
			return false
		}
		s.settle(f, EndReset, e)
		return false
	}
	f.sent += n // at most 500 bytes into an empty buffer: never short
	return true
}

// receive reads what there is.
func (s *shard) receive(f *flow) {
	for {
		n, e := recv(f.fd, s.read[:])
		switch {
		case e == unix.EAGAIN:
			return
		case e != 0 && len(f.response) > 0, e == 0 && n == 0 && len(f.response) > 0:
			s.settle(f, EndResponse, 0)
			return
		case e != 0:
			s.settle(f, EndReset, e)
			return
		case n == 0:
			s.settle(f, EndClosed, 0)
			return
		}
		if len(f.response) == 0 {
			now := s.now()
			f.ev.FirstByteNS = now - f.start
			f.phase = phaseRest
			s.timers.set(&f.timer, now+int64(restTimeout))
		}
		got := s.read[:n]
		f.ev.ResponseBytes += n
		if f.response == nil && (f.att.Complete == nil || f.att.Complete(got)) {
			// The usual case: all in one read, hashed in place.
			f.response = got
			s.settle(f, EndResponse, 0)
			return
		}
		f.response = append(slices.Clip(f.response), got[:min(n, readLimit-len(f.response))]...)
		if len(f.response) >= readLimit || f.att.Complete != nil && f.att.Complete(f.response) {
			s.settle(f, EndResponse, 0)
			return
		}
		if n < len(s.read) {
			return
		}
	}
}

// timeout ends the phase a flow is in.
func (s *shard) timeout(f *flow) {
	switch f.phase {
	case phaseDelayed:
		s.pass(f)
	case phasePaced:
		s.launch(f)
	case phaseRaw:
		s.lookRaw(f)
	case phaseConnect:
		s.settle(f, EndTimeout, 0)
	case phaseRespond:
		s.settle(f, EndSilent, 0)
	case phaseRest:
		s.settle(f, EndResponse, 0)
	}
}

// settle ends the attempt: the last evidence is read, the socket closed, and
// the flow put down to be moved on.
func (s *shard) settle(f *flow, end End, e syscall.Errno) {
	ev := f.ev
	s.timers.clear(&f.timer)
	ev.End, ev.Errno = end, errnoName(e)
	if e == 0 && end == EndTimeout {
		ev.Errno = "ETIMEDOUT"
	}
	ev.TotalNS = s.now() - f.start
	ev.Start = time.Unix(0, s.baseNS+f.start)
	s.look(f)
	f.endRaw()
	if len(f.response) > 0 {
		sum := sha256.Sum256(f.response)
		ev.ResponseHash = binary.BigEndian.Uint64(sum[:])
		f.response = nil
	}
	if f.fd >= 0 {
		if end != EndLocal {
			info := readInfo(f.fd, &s.info)
			ev.InfoFinal = bytes.Clone(info)
			if !end.Established() {
				ev.SynRetransmits = info.SynTimeouts()
				ev.ClientFail = info.ClientFail()
			} else {
				ev.DataRetransmits = max(0, info.TotalRetrans()-ev.SynRetransmits)
			}
		}
		closeFD(f.fd)
		f.fd = -1
	}
	h := &f.history
	if end != EndLocal {
		var err error
		if h.entry, err = s.metrics.Get(h.source, f.remote.Addr()); err == nil {
			h.read = true
		}
		ev.CookieAfter = h.entry.Cookie
		h.learn(ev)
	} else {
		ev.CookieAfter = ev.CookieBefore
	}
	f.phase = phaseIdle
	s.ready = append(s.ready, f)
}

// look takes what the wire showed, while the port is still ours. Where it
// showed the SYN, the option kind is a thing seen and no longer derived.
func (s *shard) look(f *flow) {
	ev := f.ev
	ev.Wire, ev.WireAbsent = s.capture.settle(f.observed, ev.End)
	f.observed = nil
	// Where the first SYN never left (no neighbour yet, say), what was seen is a
	// retransmission, and those are bare.
	if ev.Wire != nil && (ev.Wire.Syns > ev.SynRetransmits || ev.Wire.Syn.OptionKind != 0) {
		ev.OptionKind = ev.Wire.Syn.OptionKind
		if ev.End == EndSynAck {
			ev.SynAcked = min(ev.Wire.Acked, ev.SynBytes)
		}
	}
}

// learn keeps the mirror of the kernel's choice of option kind current.
func (h *history) learn(ev *Evidence) {
	if ev.OptionKind == 0 || !ev.End.Established() {
		return
	}
	if ev.CookieAfter.State == CookiePresent {
		if !ev.CookieAfter.Equal(ev.CookieBefore) {
			h.cookieAt = ev.OptionKind
		}
		return
	}
	if ev.SynBytes > 0 || ev.SynRetransmits > 0 {
		return
	}
	if w := ev.Wire; w != nil && w.SynAck.Mirrored() {
		return // an empty option counts as an answer
	}
	switch h.exp {
	case expUntried:
		h.exp = expNext
	case expNext:
		h.exp = expDone
	}
}

// interrupt cuts a sequence short; the attempt under way is not evidence.
func (s *shard) interrupt(f *flow) {
	s.timers.clear(&f.timer)
	if f.fd >= 0 {
		closeFD(f.fd)
		f.fd = -1
	}
	f.endRaw()
	if f.observed != nil {
		s.capture.settle(f.observed, EndInterrupted)
		f.observed = nil
	}
	q := f.seq
	f.seq = nil
	q.Over(true)
}
