package lab

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// box is the middlebox. One goroutine runs it; nothing in it is locked.
type box struct {
	client, servers  *port // the ends towards each
	poll             *poller
	paths            [blockCount][]*path // those that share the addresses of a block
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
