package lab

import "sync/atomic"

// Counters is what the box saw and did on one path. A path whose fault did not
// strike proves nothing: compare before and after.
type Counters struct {
	Frames    uint64 // TCP frames of the path that reached the box, both directions
	SYN       uint64 // SYNs of clients, those below included
	SYNOption uint64 // SYNs with a TFO option of either kind
	SYNCookie uint64 // SYNs with a cookie in it
	SYNData   uint64 // SYNs with payload
	SYNACK    uint64 // SYN-ACKs of servers
	Dropped   uint64 // frames lost on purpose, refused ones included
	Modified  uint64 // rewrites; a frame may count more than once
	Delayed   uint64 // frames held back
	Resets    uint64 // resets sent in a server's name
	ICMP      uint64 // ICMP errors sent
	// Rules counts how often each of Path.Rules struck, in their order.
	Rules []uint64
}

// pathCounters is Counters while the box writes it.
type pathCounters struct {
	frames, syn, synOption, synCookie, synData, synACK atomic.Uint64
	dropped, modified, delayed, resets, icmp           atomic.Uint64
	rules                                              []atomic.Uint64
}

func (c *pathCounters) read() Counters {
	r := Counters{
		Frames: c.frames.Load(), SYN: c.syn.Load(), SYNOption: c.synOption.Load(), SYNCookie: c.synCookie.Load(),
		SYNData: c.synData.Load(), SYNACK: c.synACK.Load(), Dropped: c.dropped.Load(), Modified: c.modified.Load(),
		Delayed: c.delayed.Load(), Resets: c.resets.Load(), ICMP: c.icmp.Load(), Rules: make([]uint64, len(c.rules)),
	}
	for i := range c.rules {
		r.Rules[i] = c.rules[i].Load()
	}
	return r
}

// Stats is what befell the lab itself. In a sound run everything from Evicted
// on is 0: nothing was lost that no rule took.
type Stats struct {
	Frames   uint64 // frames the box read
	Other    uint64 // of them not TCP: passed on as they are, group addresses excepted
	Late     uint64 // segments of no flow known: those of flows closed before, mostly
	Unrouted uint64 // frames to an address of no path
	Accepted uint64 // connections the servers took

	Evicted   uint64 // flows forgotten because there were too many
	RingDrops uint64 // frames the kernel dropped because the box was too slow
	TxFailed  uint64 // frames the kernel did not take from the box
	Overdue   uint64 // frames dropped because too many were held back
	Shed      uint64 // connections closed early because the servers had too many
}

// Sound reports whether the lab did what it says: only rules took frames.
func (s Stats) Sound() bool {
	return s.Evicted+s.RingDrops+s.TxFailed+s.Overdue+s.Shed == 0
}

type boxCounters struct {
	frames, other, late, unrouted, evicted, ringDrops, overdue atomic.Uint64
}
