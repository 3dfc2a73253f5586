package lab

import "time"

const (
	maxFlows      = 1 << 17
	closedLinger  = int64(time.Second)     // late frames of a closed flow
	idleFlow      = int64(2 * time.Minute) // longer than any attempt waits
	maxHostMarked = 1024                   // clients marked at one server address
)

// flowKey names a flow as seen on one side of the box.
type flowKey struct {
	client, server         addrKey
	clientPort, serverPort uint16
}

// hash is FNV-1a over the key: the same flow gives the same answer in every
// run.
func (k flowKey) hash() uint64 {
	h := uint64(14695981039346656037)
	mix := func(b byte) { h = (h ^ uint64(b)) * 1099511628211 }
	for _, b := range k.client {
		mix(b)
	}
	for _, b := range k.server {
		mix(b)
	}
	for _, p := range [...]uint16{k.clientPort, k.serverPort} {
		mix(byte(p >> 8))
		mix(byte(p))
	}
	return h ^ h>>32
}

// flow is what the box remembers of one 5-tuple.
type flow struct {
	path    *path
	forward flowKey // as the client writes it
	back    flowKey // as the server writes it; zero until bound
	client  addrKey
	outside addrKey // the client's address beyond the box
	// outsidePort is its port there.
	outsidePort uint16
	server      uint8 // index into the path's servers
	marks       Mark
	isn         uint32
	fin         Dir
	closed      bool
	seen        int64    // ns, the last frame
	peer        *peer    // on scripted paths, once it was sent a SYN
	due         [2]int64 // ns, when the last frame held back leaves, by direction

	// The TFO option of the client's latest SYN, for Mirror.
	optKind   Kinds
	cookieLen uint8
	cookie    [maxCookie]byte
}

// flowTable finds flows from both sides and forgets them: closed ones after a
// second, idle ones after two minutes, the oldest when there are too many.
type flowTable struct {
	forward, back map[flowKey]*flow
	clock         []*flow // a circle of all flows; hand is the next to look at
	hand          int
	free          []*flow
	evicted       func() // called for a flow that may still live
}

func newFlowTable(evicted func()) *flowTable {
	return &flowTable{forward: map[flowKey]*flow{}, back: map[flowKey]*flow{}, evicted: evicted}
}

// open returns a new flow, not yet bound to its server side.
func (t *flowTable) open(k flowKey, now int64) *flow {
	t.sweep(now)
	var f *flow
	if n := len(t.free); n > 0 {
		f, t.free = t.free[n-1], t.free[:n-1]
	} else {
		f = new(flow)
	}
	*f = flow{forward: k, client: k.client, outside: k.client, outsidePort: k.clientPort, seen: now}
	t.forward[k] = f
	t.clock = append(t.clock, f)
	return f
}

// bind makes the flow known by what the server will write. An older flow of
// that name loses it.
func (t *flowTable) bind(f *flow, back flowKey) {
	f.back = back
	t.back[back] = f
}

// sweep looks at two flows of the circle, so that the table shrinks faster
// than it grows, and removes what is over.
func (t *flowTable) sweep(now int64) {
	for range 2 {
		if len(t.clock) == 0 {
			return
		}
		t.hand %= len(t.clock)
		f := t.clock[t.hand]
		idle := now - f.seen
		over := f.closed && idle > closedLinger || idle > idleFlow
		if !over && len(t.clock) >= maxFlows {
			over = true
			t.evicted()
		}
		if !over {
			t.hand++
			continue
		}
		t.remove(f)
		last := len(t.clock) - 1
		t.clock[t.hand] = t.clock[last]
		t.clock[last] = nil
		t.clock = t.clock[:last]
		t.free = append(t.free, f)
	}
}

// remove takes the names of a flow away, unless a later flow has them.
func (t *flowTable) remove(f *flow) {
	if t.forward[f.forward] == f {
		delete(t.forward, f.forward)
	}
	if t.back[f.back] == f {
		delete(t.back, f.back)
	}
}

// bound reports whether the flow has its server side.
func (f *flow) bound() bool { return f.back != flowKey{} }

func (f *flow) rememberOption(opts []byte) {
	opt, kind := findTFO(opts, AnyKind)
	f.optKind, f.cookieLen = kind, 0
	if opt != nil {
		f.cookieLen = uint8(copy(f.cookie[:], cookieOf(opt, kind)))
	}
}

// sawFlags follows the end of the connection.
func (f *flow) sawFlags(d Dir, flags byte) {
	if flags&flagFIN != 0 {
		f.fin |= d
	}
	if flags&flagRST != 0 || f.fin == Both {
		f.closed = true
	}
}

// host is what the box remembers of one server address. There are no more of
// them than the paths have addresses.
type host struct {
	flows  uint32
	turn   map[Mark]uint32
	marked map[addrKey]int64 // client -> until when (ns)
}

func (h *host) mark(client addrKey, until int64) {
	if len(h.marked) >= maxHostMarked {
		clear(h.marked)
	}
	h.marked[client] = until
}
