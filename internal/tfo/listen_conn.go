package tfo

import (
	"bytes"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// inbound is one accepted connection under way.
type inbound struct {
	key        int32 // place in listenLoop.slots
	generation int32 // counts uses of the place, so that an event of a closed socket is known
	fd         int   // -1 when the place is free
	start      int64 // of the accept, on the loop's clock
	a          *Arrival
	request    []byte // so far
	pending    bool   // a TFO child whose handshake is not complete: it is in the kernel's queue
	answered   bool
	shut       bool // our direction is closed

	prev, next *inbound
}

// stateSynRecv as in include/net/tcp_states.h.
const stateSynRecv = 3

// begin takes an accepted connection in, reads what there is to read about it,
// and answers at once if its request came in the SYN.
func (l *listenLoop) begin(fd int, peer netip.AddrPort) {
	if l.open.len >= maxInbound {
		l.finish(l.open.first, ArrivalCut, 0)
	}
	c := l.newInbound(fd)
	info := readInfo(fd, &l.info)
	a := &Arrival{
		Accepted: time.Unix(0, l.baseNS+c.start), Peer: peer, SynBytes: NotKnown,
		HandshakeNS: NotKnown, RequestNS: NotKnown, InfoAccept: bytes.Clone(info), AtAccept: info.BytesReceived(),
	}
	c.a = a
	if raw := savedSYN(fd, &l.syn); raw != nil {
		if syn, err := DecodeSYN(bytes.Clone(raw)); err == nil {
			a.SYN, a.SynBytes, a.Local = syn, syn.Payload, syn.Dst
		}
	}
	if !a.Local.IsValid() {
		local := localAddr(fd)
		a.Local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	}
	a.Claim, a.Child = l.keys.judge(&a.SYN, func(claim CookieClaim) Tri { return childMade(info, claim, a.SynBytes) })
	a.Gives = l.keys.gives(peer.Addr(), a.Local.Addr())
	if info.Options()&OptSynData != 0 {
		if a.SynTaken = a.SynBytes; a.SynTaken == NotKnown {
			a.SynTaken = a.AtAccept
		}
	}
	switch info.State() {
	case stateSynRecv:
		c.pending = true
		l.watch.enter(c.start)
	case stateClose: // reset while it waited to be accepted
	default:
		a.HandshakeNS = 0
	}
	if !l.cfg.allows(peer.Addr()) {
		l.finish(c, ArrivalRefused, 0)
		return
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: c.key, Pad: c.generation}
	if e := epollAdd(l.epfd, fd, &ev); e != 0 {
		l.finish(c, ArrivalCut, e)
		return
	}
	l.receive(c)
}

// event moves a connection on. The kernel wakes us when the handshake is
// completed, when data or a FIN come, and when our own FIN is acknowledged.
func (l *listenLoop) event(c *inbound) {
	info := readInfo(c.fd, &l.info)
	l.shaken(c, info)
	if c.answered && info.BytesAcked() > c.a.ResponseBytes {
		// The FIN behind the response is acknowledged as well.
		l.finish(c, ArrivalServed, 0)
		return
	}
	l.shut(c)
	l.receive(c)
}

// shaken notes the end of the handshake, good or bad.
func (l *listenLoop) shaken(c *inbound, info Info) {
	if !c.pending || info.State() == stateSynRecv {
		return
	}
	now := l.now()
	c.pending = false
	reset := neverShaken(info)
	if !reset {
		c.a.HandshakeNS = now - c.start
	}
	l.watch.leave(now, reset)
}

// neverShaken tells from the TCP_INFO of a dead TFO child whether its handshake
// was ever completed: the last ACK gives the first round-trip time
// (tcp_synack_rtt_meas, net/ipv4/tcp_input.c).
func neverShaken(info Info) bool { return info.State() == stateClose && info.RTTMicros() == 0 }

// shut closes our direction behind the response, but not before the handshake
// is complete: until Linux 6.9 a FIN there would hide the end of it.
func (l *listenLoop) shut(c *inbound) {
	if c.answered && !c.pending && !c.shut {
		c.shut = true
		shutdownWrite(c.fd)
	}
}

// receive reads all there is, and answers when the request is whole.
func (l *listenLoop) receive(c *inbound) {
	a := c.a
	for {
		n, e := recv(c.fd, l.read[:])
		switch {
		case e == unix.EAGAIN:
			return
		case e != 0:
			l.finish(c, ArrivalBroken, e)
			return
		case n == 0 && !c.answered:
			l.finish(c, ArrivalClosed, 0)
			return
		case n == 0:
			if readInfo(c.fd, &l.info).State() == stateClose {
				l.finish(c, ArrivalUnacked, 0)
			}
			return
		}
		a.RequestBytes += n
		if c.answered {
			continue
		}
		got := l.read[:n]
		if c.request != nil {
			c.request = append(c.request, got...)
			got = c.request
		}
		kind, answer := respond(got)
		if kind == RequestNone {
			if c.request == nil {
				c.request = bytes.Clone(got)
			}
			continue
		}
		a.Request = bytes.Clone(got[:min(len(got), RequestKeep)])
		a.RequestKind, a.RequestNS = kind, l.now()-c.start
		if !l.answer(c, answer) {
			return
		}
	}
}

// answer sends the response and reports whether the connection goes on.
func (l *listenLoop) answer(c *inbound, b []byte) bool {
	before := c.pending
	n, e := send(c.fd, b)
	if e != 0 {
		l.finish(c, ArrivalBroken, e)
		return false
	}
	c.answered, c.a.ResponseBytes = true, n // into an empty buffer: never short
	info := readInfo(c.fd, &l.info)
	switch {
	case before && (info.State() == stateSynRecv || neverShaken(info)):
		c.a.AnsweredEarly = Yes
	case !before:
		c.a.AnsweredEarly = No
	}
	l.shaken(c, info)
	l.shut(c)
	return true
}

// overdue is how a connection ended that took too long.
func (c *inbound) overdue() ArrivalEnd {
	if c.answered {
		return ArrivalUnacked
	}
	return ArrivalSilent
}

// finish reads the last evidence, closes the connection and hands it over. A
// response that was acknowledged in whole was served, whatever came after.
func (l *listenLoop) finish(c *inbound, end ArrivalEnd, e syscall.Errno) {
	a := c.a
	info := readInfo(c.fd, &l.info)
	a.InfoFinal = bytes.Clone(info)
	a.ResponseAcked = min(info.BytesAcked(), a.ResponseBytes)
	if c.answered && a.ResponseAcked == a.ResponseBytes {
		end = ArrivalServed
	}
	a.End, a.Errno = end, errnoName(e)
	a.TotalNS = l.now() - c.start
	if a.Request == nil && len(c.request) > 0 {
		a.Request = bytes.Clone(c.request[:min(len(c.request), RequestKeep)])
	}
	l.shaken(c, info)
	if c.pending || end == ArrivalRefused {
		resetClose(c.fd)
	} else {
		closeFD(c.fd)
	}
	if c.pending {
		l.watch.leave(l.now(), false)
	}
	l.freeInbound(c)
	l.cfg.Arrived(a)
}

func (l *listenLoop) newInbound(fd int) *inbound {
	var c *inbound
	if n := len(l.free); n > 0 {
		c = l.slots[l.free[n-1]]
		l.free = l.free[:n-1]
	} else {
		c = &inbound{key: int32(len(l.slots))}
		l.slots = append(l.slots, c)
	}
	*c = inbound{key: c.key, generation: c.generation + 1, fd: fd, start: l.now()}
	l.open.push(c)
	return c
}

func (l *listenLoop) freeInbound(c *inbound) {
	l.open.remove(c)
	*c = inbound{key: c.key, generation: c.generation, fd: -1}
	l.free = append(l.free, c.key)
}

// inboundList is a list of connections in the order of their accepts.
type inboundList struct {
	first, last *inbound
	len         int
}

func (q *inboundList) push(c *inbound) {
	if c.prev = q.last; c.prev != nil {
		c.prev.next = c
	} else {
		q.first = c
	}
	q.last = c
	q.len++
}

func (q *inboundList) remove(c *inbound) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		q.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		q.last = c.prev
	}
	q.len--
}
