package tfo

import (
	"bytes"
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CaptureMode says whether an engine looks at the wire.
type CaptureMode uint8

const (
	// CaptureAuto: wherever it is permitted (CAP_NET_RAW) and supported.
	// Evidence says why not where it is not.
	CaptureAuto CaptureMode = 0
	// CaptureOff: not at all.
	CaptureOff CaptureMode = 1
)

// CaptureStats tells how the capture of an engine does.
type CaptureStats struct {
	Absent  string // why there is none; empty when there is one
	Packets uint64 // taken from the ring, those of other programs included
	Drops   uint64 // found the ring full
}

// capture collects the handshake packets of the engine's attempts. It has no
// goroutine: the kernel puts a packet into the ring before TCP sees it, so by
// the time an attempt settles everything that led to it is there, and the
// shards themselves empty the ring when they claim and settle.
//
// One ring serves all shards, under one lock. An attempt holds it for some
// hundreds of nanoseconds, and two shards at full speed wait for it less than
// a hundred; a ring per shard would make the kernel copy every packet for every
// shard.
type capture struct {
	absent string // why there is no ring; empty when there is

	mu      sync.Mutex
	ring    *packetRing // nil when absent, or closed
	flows   map[flowKey]*observed
	strays  []*observed // not claimed, oldest at stray
	stray   int
	packets uint64
	drops   uint64
}

// maxStrays bounds the connections that are watched for the case that they are
// claimed: an attempt is claimed right after its SYN, but another shard may
// empty the ring in between. Most of them are other programs' connections and
// are forgotten in turn.
const maxStrays = 4096

// settlePatience is how long an attempt waits for a packet that another
// processor is writing. It is a matter of nanoseconds, unless that processor
// is a virtual one and was stopped just then.
const settlePatience = time.Millisecond

// idleMS is how long the ring is left alone: it holds the handshakes that more
// than 60,000 other connections per second make in that time.
const idleMS = 250

// flowKey is a connection, seen from this machine.
type flowKey struct {
	local, remote         address
	localPort, remotePort uint16
}

// observed is one connection in the capture.
type observed struct {
	key   flowKey
	stray int    // place in capture.strays; -1 once claimed
	drops uint64 // of the capture when it was claimed
	wire  *Wire  // nil before the first SYN
	room  []byte // for headers
	// A packet that passes a bridge, a bond or a VLAN comes by once for each
	// link. Each direction is looked at on the link where it was seen first.
	linkOut, linkIn int32
}

// openCapture opens a ring in the namespace, or notes why there is none.
func openCapture(mode CaptureMode, ns NetNS) *capture {
	if mode == CaptureOff {
		return &capture{absent: WireOff}
	}
	c := &capture{flows: make(map[flowKey]*observed), strays: make([]*observed, maxStrays)}
	err := ns.Do(func() (err error) {
		c.ring, err = openRing()
		return err
	})
	var e syscall.Errno
	switch {
	case err == nil:
		return c
	case errors.Is(err, unix.EPERM):
		c.absent = WireNoRight
	case errors.Is(err, unix.EAFNOSUPPORT):
		c.absent = WireNoSupport
	case errors.As(err, &e):
		c.absent = "not captured: " + errnoName(e)
	default:
		c.absent = "not captured: " + err.Error()
	}
	return c
}

// close leaves the counts readable.
func (c *capture) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ring != nil {
		c.ring.close()
		c.ring = nil
	}
}

func (c *capture) stats() CaptureStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CaptureStats{Absent: c.absent, Packets: c.packets, Drops: c.drops}
}

// claim says that the connection is an attempt's. Its SYN has been sent.
// Without a capture there is nothing to claim, and the result is nil.
func (c *capture) claim(local, remote netip.AddrPort) *observed {
	if c.absent != "" {
		return nil
	}
	k := flowKey{local.Addr().As16(), remote.Addr().As16(), local.Port(), remote.Port()}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.flows[k]
	if o == nil {
		o = &observed{key: k, stray: -1}
		c.flows[k] = o
	} else if o.stray >= 0 {
		c.strays[o.stray], o.stray = nil, -1
	}
	o.drops = c.drops
	c.drain()
	return o
}

// settle ends a claim and returns what was seen of the connection, or the
// reason there is nothing.
func (c *capture) settle(o *observed, end End) (*Wire, string) {
	switch {
	case c.absent != "":
		return nil, c.absent
	case o == nil && end == EndLocal:
		return nil, WireNothing
	case o == nil:
		return nil, WireUnseen
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	if c.ring != nil && !o.complete(end) {
		for begin := time.Now(); c.ring.overtaken() && time.Since(begin) < settlePatience; {
			c.drain()
		}
		c.drops += c.ring.drops()
	}
	delete(c.flows, o.key)
	lost := c.drops != o.drops
	switch {
	case o.wire != nil:
		o.wire.Incomplete = lost
		return o.wire, ""
	case lost:
		return nil, WireDropped
	}
	return nil, WireUnseen
}

// complete reports whether everything was seen that must have been there.
func (o *observed) complete(end End) bool {
	return o.wire != nil && (!end.Established() || o.wire.SynAcks > 0)
}

// idle empties the ring when no attempt has for a while, lest the connections
// of other programs fill it.
func (c *capture) idle() {
	if c.absent != "" {
		return
	}
	c.mu.Lock()
	c.drain()
	c.mu.Unlock()
}

// drain takes everything out of the ring. The lock is held.
func (c *capture) drain() {
	if c.ring == nil {
		return
	}
	var f frame
	n, losing := 0, false
	for c.ring.next(&f) {
		losing = losing || f.losing
		c.take(&f)
		c.ring.release()
		n++
	}
	c.packets += uint64(n)
	if losing || n >= ringFrames {
		c.drops += c.ring.drops()
	}
}

// waitMS limits how long a loop may sleep, so that it looks after the ring.
func (c *capture) waitMS(ms int) int {
	if c.absent == "" && (ms < 0 || ms > idleMS) {
		return idleMS
	}
	return ms
}

func (c *capture) take(f *frame) {
	var p packet
	if !decodePacket(f.data, &p) {
		return
	}
	if f.outgoing {
		if p.icmp || p.flags&(flagSYN|flagACK|flagRST) != flagSYN {
			return
		}
		k := flowKey{p.src, p.dst, p.sport, p.dport}
		o := c.flows[k]
		if o == nil {
			o = c.addStray(k)
		}
		o.sent(f, &p)
		return
	}
	k := flowKey{p.dst, p.src, p.dport, p.sport}
	if p.icmp { // it quotes what we sent
		k = flowKey{p.src, p.dst, p.sport, p.dport}
	}
	if o := c.flows[k]; o != nil {
		o.came(f, &p)
	}
}

// addStray starts to watch a connection nobody has claimed yet, in the place
// of the oldest one.
func (c *capture) addStray(k flowKey) *observed {
	if old := c.strays[c.stray]; old != nil {
		delete(c.flows, old.key)
	}
	o := &observed{key: k, stray: c.stray}
	c.strays[c.stray] = o
	c.stray = (c.stray + 1) % len(c.strays)
	c.flows[k] = o
	return o
}

// sent takes a SYN that leaves.
func (o *observed) sent(f *frame, p *packet) {
	if o.wire == nil || o.wire.Syn.Seq != p.seq {
		// The first, or the first of a new connection with the ports of an old
		// one.
		m := new(wireMemory)
		o.wire, o.room = &m.wire, m.room[:0]
		o.wire.Acked, o.wire.Packets = NotKnown, m.packets[:0]
		o.linkOut, o.linkIn = f.link, 0
	}
	if f.link != o.linkOut {
		return
	}
	p.move(o.copy(p.headers))
	o.wire.sawSYN(p)
	o.wire.keep(f, p.headers)
}

// wireMemory is the memory of one attempt's facts, in one piece: two packets
// and their headers are what there is to see of most.
type wireMemory struct {
	wire    Wire
	packets [2]Packet
	room    [2 * 96]byte
}

// copy copies b into the room there is, or elsewhere.
func (o *observed) copy(b []byte) []byte {
	n := len(o.room)
	if n+len(b) > cap(o.room) {
		return bytes.Clone(b)
	}
	o.room = append(o.room, b...)
	return o.room[n:len(o.room):len(o.room)]
}

// came takes an answer.
func (o *observed) came(f *frame, p *packet) {
	if o.wire == nil || o.linkIn != 0 && o.linkIn != f.link {
		return
	}
	mark, data := len(o.room), []byte(nil)
	if p.icmp {
		data = o.copy(f.data)
	} else {
		data = o.copy(p.headers)
		p.move(data)
	}
	if !o.wire.sawAnswer(p) {
		o.room = o.room[:mark]
		return
	}
	o.linkIn = f.link
	o.wire.keep(f, data)
}

// keep adds to the packets kept.
func (w *Wire) keep(f *frame, data []byte) {
	if len(w.Packets) < maxPackets {
		w.Packets = append(w.Packets, Packet{Time: f.time, Length: f.length, Data: data})
	}
}
