package lab

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// box is the middlebox. One goroutine runs it; nothing in it is locked.
type box struct {
	ports            []*port // the ends of the links to the hosts
	net              topology
	poll             *poller
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

// topology tells the box which host is where. Hosts are known by the index of
// their port.
type topology interface {
	// locate finds out all there is to know of the frame in b.p, which came in
	// by a port: its direction, path, flow and server, and the port it leaves
	// by. It shows a server's frame as the client is to see it. It reports false
	// for a frame that belongs nowhere, and counts it.
	locate(b *box, in int) bool
	// pass is the port for a frame that is no whole TCP segment; nil drops it.
	pass(b *box, raw []byte, in int) *port
}

// newBox must run inside the path namespace, where the links are. Their rings
// have as many blocks each.
func newBox(net topology, links []string, blocks int, seed uint64) (_ *box, err error) {
	b := &box{
		net: net, hosts: map[addrKey]*host{}, rand: rand.New(rand.NewPCG(seed, 0)), start: time.Now(),
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
	if b.poll, err = newPoller(); err != nil {
		return nil, err
	}
	for _, link := range links {
		p, err := openPort(link, blocks)
		if err != nil {
			return nil, err
		}
		b.ports = append(b.ports, p)
		if err := b.poll.add(p.fd, unix.EPOLLIN); err != nil {
			return nil, err
		}
	}
	return b, nil
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
	for _, p := range b.ports {
		p.close()
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
		n := 0
		for i := range b.ports {
			n += b.batch(i)
		}
		b.flush()
		for _, p := range b.ports {
			p.release()
		}
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

func (b *box) readable() bool { return slices.ContainsFunc(b.ports, (*port).readable) }

// batch takes up to txBatch frames from a port through the path.
func (b *box) batch(in int) int {
	for n := range txBatch {
		raw := b.ports[in].next()
		if raw == nil {
			return n
		}
		b.take(raw, in)
	}
	return txBatch
}

// flush sends all that is queued; after it no buffer is in use.
func (b *box) flush() {
	for _, p := range b.ports {
		p.flush()
	}
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

// readDrops adds the kernel's drop counts, which reading clears, to ours.
func (b *box) readDrops() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.freed {
		return
	}
	for _, p := range b.ports {
		if n, err := p.drops(); err == nil {
			b.ringDrops.Add(n)
		}
	}
}

// stats may be called from any goroutine, also after the end of run.
func (b *box) stats() Stats {
	b.readDrops()
	st := Stats{
		Frames: b.frames.Load(), Other: b.other.Load(), Late: b.late.Load(), Unrouted: b.unrouted.Load(),
		Evicted: b.evicted.Load(), RingDrops: b.ringDrops.Load(), Overdue: b.overdue.Load(),
	}
	for _, p := range b.ports {
		st.TxFailed += p.txFailed.Load()
	}
	return st
}
