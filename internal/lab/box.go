package lab

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// path is a [Path] in place.
type path struct {
	Path
	block   int      // the first of its blocks
	servers []uint16 // the port each of Path.Servers listens on
	nat     uint32   // outside addresses handed out
	pathCounters
}

// holds reports whether address n of the path exists.
func (p *path) holds(n int) bool { return n >= 1 && n <= p.Hosts }

func (p *path) nextOutside(v6 bool) addrKey {
	p.nat++
	return poolAddr(int(p.nat%poolSize), v6)
}

// serverPort translates a port as clients see it to the listener behind it.
// Ports other than the path's own lead to whatever listens there.
func (p *path) serverPort(server uint8, port uint16) uint16 {
	if port == p.Port {
		return p.servers[server]
	}
	return port
}

// box is the middlebox. One goroutine runs it; nothing in it is locked.
type box struct {
	client, servers  *port // the ends towards each
	poll             *poller
	paths            [blockCount]*path
	hosts            map[addrKey]*host
	flows            *flowTable
	queue            delayQueue
	rand             *rand.Rand
	start            time.Time
	now              int64 // ns since start, taken once per batch
	p                passage
	replies          [][]byte
	nreplies         int
	router4, router6 addrKey
	boxCounters

	mu    sync.Mutex // held to read the ports' statistics, and to close them
	freed bool
}

// newBox must run inside the path namespace.
func newBox(clientLink, serversLink string, seed uint64) (_ *box, err error) {
	b := &box{
		hosts: map[addrKey]*host{}, rand: rand.New(rand.NewPCG(seed, 0)), start: time.Now(),
		router4: keyOf(boxLink.servers4.Addr()), router6: keyOf(boxLink.servers6.Addr()),
	}
	b.flows = newFlowTable(func() { b.evicted.Add(1) })
	for range txBatch {
		b.replies = append(b.replies, make([]byte, 0, replySize))
	}
	defer func() {
		if err != nil {
			b.free()
		}
	}()
	if b.client, err = openPort(clientLink); err != nil {
		return nil, err
	}
	if b.servers, err = openPort(serversLink); err != nil {
		return nil, err
	}
	if b.poll, err = newPoller(); err != nil {
		return nil, err
	}
	if err = b.poll.add(b.client.fd, unix.EPOLLIN); err != nil {
		return nil, err
	}
	return b, b.poll.add(b.servers.fd, unix.EPOLLIN)
}

// free closes everything; run must have ended.
func (b *box) free() {
	b.readDrops()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.freed {
		return
	}
	b.freed = true
	if b.client != nil {
		b.client.close()
	}
	if b.servers != nil {
		b.servers.close()
	}
	if b.poll != nil {
		b.poll.close()
	}
}

// run forwards frames until stop; free closes the ports.
func (b *box) run() error {
	for {
		b.now = int64(time.Since(b.start))
		b.sendDue()
		n := b.batch(b.client, Forward) + b.batch(b.servers, Return)
		b.flush()
		b.client.release()
		b.servers.release()
		if n > 0 {
			continue
		}
		var deadline time.Time
		if len(b.queue.heap) > 0 {
			deadline = b.start.Add(time.Duration(b.queue.heap[0].due))
		}
		err := b.poll.wait(deadline, b.readable)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			if errors.Is(err, os.ErrClosed) {
				return nil
			}
			return err
		}
	}
}

// stop ends run; it may be called from any goroutine.
func (b *box) stop() { b.poll.close() }

func (b *box) readable() bool { return b.client.readable() || b.servers.readable() }

// batch takes up to txBatch frames from a port through the path.
func (b *box) batch(in *port, d Dir) int {
	for n := range txBatch {
		raw := in.next()
		if raw == nil {
			return n
		}
		b.take(raw, d)
	}
	return txBatch
}

// flush sends all that is queued; after it no buffer is in use.
func (b *box) flush() {
	b.client.flush()
	b.servers.flush()
	b.nreplies = 0
}

func (b *box) sendDue() {
	var done [txBatch]*delayed
	for {
		n := 0
		for n < len(done) {
			d := b.queue.pop(b.now)
			if d == nil {
				break
			}
			d.out.send(d.b)
			done[n] = d
			n++
		}
		if n == 0 {
			return
		}
		b.flush()
		for _, d := range done[:n] {
			b.queue.recycle(d)
		}
	}
}

// out is the port that frames of a direction leave by.
func (b *box) out(d Dir) *port {
	if d == Forward {
		return b.servers
	}
	return b.client
}

// take passes one frame on, or not.
func (b *box) take(raw []byte, d Dir) {
	b.frames.Add(1)
	p := &b.p
	if !p.parse(raw) {
		b.other.Add(1)
		if len(raw) >= ethLen && raw[0]&1 == 0 {
			b.out(d).send(raw)
		}
		return
	}
	p.box, p.dir, p.opening, p.lost, p.delay = b, d, false, false, 0
	server := p.dst()
	if d == Return {
		server = p.src()
	}
	block, n, ok := blockOf(server, p.v6)
	if !ok || b.paths[block] == nil {
		b.unrouted.Add(1)
		return
	}
	p.path = b.paths[block]
	if !p.v6 {
		n += (block - p.path.block) * blockSize
	} else if block != p.path.block {
		n = 0 // an IPv6 path has one block of any size
	}
	if !p.path.holds(n) {
		b.unrouted.Add(1)
		return
	}
	if d == Forward {
		ok = b.enter()
	} else {
		ok = b.comeBack()
	}
	if !ok {
		b.late.Add(1)
		return
	}
	p.flow.seen = b.now
	p.host = b.hosts[server]
	if p.host == nil {
		p.host = &host{turn: map[Mark]uint32{}, marked: map[addrKey]int64{}}
		b.hosts[server] = p.host
	}
	b.count()
	b.rules()
	if p.lost {
		return
	}
	p.flow.sawFlags(d, p.flags())
	if d == Forward {
		b.leave()
	}
	p.seal()
	last := &p.flow.due[d>>1]
	due := max(b.now+p.delay, *last)
	if due <= b.now {
		b.out(d).send(p.b)
		return
	}
	*last = due
	if !b.queue.push(due, b.out(d), p.b) {
		b.overdue.Add(1)
	}
}

// enter finds the flow of a client's frame, or opens one for its SYN.
func (b *box) enter() bool {
	p := &b.p
	k := flowKey{p.src(), p.dst(), p.srcPort(), p.dstPort()}
	p.flow = b.flows.forward[k]
	if !p.isSYN() {
		return p.flow != nil && p.flow.bound()
	}
	if p.flow != nil && p.flow.isn != p.seq() { // the ports were used again
		p.flow.closed = true
		b.flows.remove(p.flow)
		p.flow = nil
	}
	if p.flow == nil {
		p.flow = b.flows.open(k, b.now)
		p.flow.isn = p.seq()
	}
	p.opening = !p.flow.bound()
	p.flow.rememberOption(p.options())
	return true
}

// comeBack finds the flow of a server's frame and shows the frame as the
// client is to see it.
func (b *box) comeBack() bool {
	p := &b.p
	p.flow = b.flows.back[flowKey{p.dst(), p.src(), p.dstPort(), p.srcPort()}]
	if p.flow == nil {
		return false
	}
	p.setPort(0, p.flow.forward.serverPort)
	p.setAddr(1, p.flow.client)
	return true
}

// leave shows a client's frame as the server is to see it.
func (b *box) leave() {
	p, f := &b.p, b.p.flow
	if p.opening {
		back := flowKey{f.outside, f.forward.server, f.forward.clientPort, p.path.serverPort(f.server, f.forward.serverPort)}
		for range poolSize {
			if f.outside == f.client || b.flows.back[back] == nil {
				break
			}
			f.outside = p.path.nextOutside(p.v6)
			back.client = f.outside
		}
		b.flows.bind(f, back)
	}
	p.setPort(1, f.back.serverPort)
	p.setAddr(0, f.outside)
}

func (b *box) count() {
	p, c := &b.p, &b.p.path.pathCounters
	c.frames.Add(1)
	switch {
	case p.dir == Forward && p.isSYN():
		c.syn.Add(1)
		if opt, kind := findTFO(p.options(), AnyKind); opt != nil {
			c.synOption.Add(1)
			if len(cookieOf(opt, kind)) > 0 {
				c.synCookie.Add(1)
			}
		}
		if len(p.payload()) > 0 {
			c.synData.Add(1)
		}
	case p.dir == Return && p.isSYNACK():
		c.synACK.Add(1)
	}
}

func (b *box) rules() {
	p := &b.p
	for i := range p.path.Rules {
		r := &p.path.Rules[i]
		if r.On&p.dir == 0 || r.If.is != nil && !r.If.is(p) {
			continue
		}
		if r.Do.do(p) {
			p.path.rules[i].Add(1)
		}
		if p.lost {
			return
		}
	}
}

// reply sends a refusal back to the sender of the frame at hand.
func (b *box) reply(p *passage, with Answer) {
	if b.nreplies == len(b.replies) {
		b.flush()
	}
	buf := appendReply(b.replies[b.nreplies][:0], &p.frame, with, b.router4, b.router6)
	b.nreplies++
	b.out(Both &^ p.dir).send(buf)
}

// readDrops adds the kernel's drop counts, which reading clears, to ours.
func (b *box) readDrops() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range []*port{b.client, b.servers} {
		if p == nil || b.freed {
			continue
		}
		if n, err := p.drops(); err == nil {
			b.ringDrops.Add(n)
		}
	}
}

// stats may be called from any goroutine, also after the end of run.
func (b *box) stats() Stats {
	b.readDrops()
	return Stats{
		Frames: b.frames.Load(), Other: b.other.Load(), Late: b.late.Load(), Unrouted: b.unrouted.Load(),
		Evicted: b.evicted.Load(), RingDrops: b.ringDrops.Load(), Overdue: b.overdue.Load(),
		TxFailed: b.client.txFailed.Load() + b.servers.txFailed.Load(),
	}
}
