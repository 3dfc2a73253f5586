package tfo

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// shard is one event loop. Everything below the mutex is touched by the loop
// alone.
type shard struct {
	limit   int
	pace    *pacer
	hold    time.Duration
	netns   NetNS
	metrics *Metrics
	capture *capture
	epfd    int
	rawfd   [2]int // for raw SYNs, by family; 0 until needed
	wakefd  int

	mu      sync.Mutex
	inbox   []Sequence
	stopped bool
	repaced bool // the rate is another
	asleep  bool

	base    time.Time // the loop's clock counts ns from here
	baseNS  int64     // base as Unix ns, for time stamps
	flows   []*flow   // by the number epoll gives back
	free    []int32
	running int
	waiting []Sequence // no room yet
	refill  flowTimer  // runs while they wait for the pacer
	addrs   map[netip.Addr]*line
	timers  timerHeap
	ready   []*flow // to be moved on in this turn
	events  [512]unix.EpollEvent
	info    [tcpInfoMax]byte
	read    [readLimit]byte
}

// line is the queue in front of one address.
type line struct {
	busy  bool
	queue []Sequence
	hold  flowTimer // runs while nobody is served and the address rests
}

// startAhead is how far the pacer may be booked when a new sequence begins.
// The sequences under way go first: a survey that began with everything at once
// would finish nothing for long.
const startAhead = int64(20 * time.Millisecond)

// readLimit is how much of a response is read and hashed.
const readLimit = 4096

// wakeKey is the epoll key of the wake-up descriptor.
const wakeKey = -1

func newShard(cfg Config, limit int, pace *pacer, wire *capture) (*shard, error) {
	s := &shard{limit: limit, pace: pace, capture: wire, hold: cfg.Hold, netns: cfg.NetNS, addrs: make(map[netip.Addr]*line), refill: flowTimer{index: -1}, epfd: -1, wakefd: -1}
	err := cfg.NetNS.Do(func() (err error) {
		s.metrics, err = OpenMetrics()
		return err
	})
	if err != nil {
		return nil, err
	}
	if s.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		s.close()
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if s.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		s.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeKey}
	if err := unix.EpollCtl(s.epfd, unix.EPOLL_CTL_ADD, s.wakefd, &ev); err != nil {
		s.close()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	s.base = time.Now()
	s.baseNS = s.base.UnixNano()
	return s, nil
}

func (s *shard) close() {
	if s.metrics != nil {
		s.metrics.Close()
	}
	for _, fd := range []int{s.epfd, s.wakefd, s.rawfd[0], s.rawfd[1]} {
		if fd > 0 {
			unix.Close(fd)
		}
	}
}

func (s *shard) now() int64 { return int64(time.Since(s.base)) }

func (s *shard) submit(q Sequence) {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		q.Over(true)
		return
	}
	s.inbox = append(s.inbox, q)
	s.wakeLocked()
	s.mu.Unlock()
}

func (s *shard) stop() {
	s.mu.Lock()
	s.stopped = true
	s.wakeLocked()
	s.mu.Unlock()
}

func (s *shard) repace() {
	s.mu.Lock()
	s.repaced = true
	s.wakeLocked()
	s.mu.Unlock()
}

// wakeLocked costs a system call only when the loop is in, or on its way into,
// epoll_wait.
func (s *shard) wakeLocked() {
	if !s.asleep {
		return
	}
	s.asleep = false
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(s.wakefd, one[:])
}

// run is the loop. It ends after stop, with every sequence over.
func (s *shard) run() {
	defer s.close()
	if err := s.netns.Enter(); err != nil {
		// newShard entered the same namespace a moment ago; it is gone now,
		// and so is everything this loop could measure.
		s.mu.Lock()
		s.stopped = true
		s.mu.Unlock()
	}
	for {
		if !s.collect() {
			s.cutAll()
			return
		}
		s.fireTimers()
		s.runReady()
		s.poll()
	}
}

// collect takes new sequences in and reports false when the loop must end.
func (s *shard) collect() bool {
	s.mu.Lock()
	in, stopped, repaced := s.inbox, s.stopped, s.repaced
	s.inbox, s.repaced = nil, false
	s.mu.Unlock()
	if repaced {
		s.takeSlots()
	}
	for _, q := range in {
		s.admit(q)
	}
	return !stopped
}

// takeSlots takes a slot at the new rate for whoever has one at the old, in
// their order, and looks whether there is room for more.
func (s *shard) takeSlots() {
	var waiting []*flow
	for _, f := range s.flows {
		if f.phase == phasePaced {
			waiting = append(waiting, f)
		}
	}
	slices.SortFunc(waiting, func(a, b *flow) int { return cmp.Compare(a.timer.at, b.timer.at) })
	now := s.now()
	for _, f := range waiting {
		s.timers.set(&f.timer, s.pace.slot(now))
	}
	s.timers.clear(&s.refill)
	s.fill()
}

func (s *shard) cutAll() {
	for _, f := range s.flows {
		if f != nil && f.seq != nil {
			s.interrupt(f)
		}
	}
	for _, q := range s.waiting {
		q.Over(true)
	}
	for _, l := range s.addrs {
		for _, q := range l.queue {
			q.Over(true)
		}
	}
}

// admit starts a sequence, or puts it in line behind the one that has its
// address, or behind the limit.
func (s *shard) admit(q Sequence) {
	addr := q.Remote().Addr().Unmap()
	if l := s.addrs[addr]; l != nil {
		l.queue = append(l.queue, q)
		return
	}
	if !s.room() {
		s.waiting = append(s.waiting, q)
		return
	}
	s.addrs[addr] = &line{busy: true}
	s.begin(q)
}

// begin gives a sequence a flow. Its address is marked busy already.
func (s *shard) begin(q Sequence) {
	s.running++
	f := s.newFlow()
	f.seq = q
	f.remote = netip.AddrPortFrom(q.Remote().Addr().Unmap(), q.Remote().Port())
	f.sa, f.family = makeSockaddr(f.remote)
	s.next(f, nil)
}

func (s *shard) newFlow() *flow {
	if n := len(s.free); n > 0 {
		f := s.flows[s.free[n-1]]
		s.free = s.free[:n-1]
		return f
	}
	f := &flow{key: int32(len(s.flows)), fd: -1, raw: raw{holder: -1}}
	f.timer = flowTimer{flow: f, index: -1}
	s.flows = append(s.flows, f)
	return f
}

// finish ends a flow's sequence and lets the next one of the address, or the
// next one of all, in.
func (s *shard) finish(f *flow, cut bool) {
	q, addr := f.seq, f.remote.Addr()
	f.seq = nil
	f.history = history{}
	s.free = append(s.free, f.key)
	s.running--
	q.Over(cut)

	l := s.addrs[addr]
	l.busy = false
	if s.hold > 0 {
		l.hold = flowTimer{addr: addr, line: l, index: -1}
		s.timers.set(&l.hold, s.now()+int64(s.hold))
	} else {
		s.release(addr, l)
	}
	s.fill()
}

// release lets the next in line for the address go, once it has rested.
func (s *shard) release(addr netip.Addr, l *line) {
	if len(l.queue) == 0 {
		delete(s.addrs, addr)
		return
	}
	if !s.room() {
		// Its turn comes with the others': an address must not get around
		// the limit.
		s.waiting = append(s.waiting, l.queue...)
		delete(s.addrs, addr)
		return
	}
	q := l.queue[0]
	l.queue = l.queue[1:]
	l.busy = true
	s.begin(q)
}

// room reports whether another sequence may begin. When only the pacer is in
// the way, a timer looks again.
func (s *shard) room() bool {
	if s.running >= s.limit {
		return false
	}
	now := s.now()
	ahead := s.pace.backlog(now)
	if ahead <= startAhead {
		return true
	}
	if s.refill.index < 0 {
		s.timers.set(&s.refill, now+ahead-startAhead)
	}
	return false
}

// fill starts waiting sequences while there is room.
func (s *shard) fill() {
	for len(s.waiting) > 0 && s.room() {
		q := s.waiting[0]
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		s.admit(q)
	}
}

func (s *shard) fireTimers() {
	now := s.now()
	for t := s.timers.expired(now); t != nil; t = s.timers.expired(now) {
		if t.line != nil {
			s.release(t.addr, t.line)
			s.fill()
			continue
		}
		if t.flow == nil {
			s.fill()
			continue
		}
		s.timeout(t.flow)
	}
}

// runReady moves on the flows whose attempt ended, until none is left: an
// attempt may end the moment it starts.
func (s *shard) runReady() {
	for len(s.ready) > 0 {
		f := s.ready[len(s.ready)-1]
		s.ready = s.ready[:len(s.ready)-1]
		if f.phase == phaseDenied {
			f.phase = phaseIdle
			s.finish(f, true)
			continue
		}
		s.next(f, f.take())
	}
}

// poll waits for the kernel, the next timer or a wake-up, whichever is first.
func (s *shard) poll() {
	s.mu.Lock()
	s.asleep = len(s.inbox) == 0 && !s.stopped && !s.repaced
	asleep := s.asleep
	s.mu.Unlock()
	ms := 0
	if asleep {
		ms = s.capture.waitMS(s.timers.waitMS(s.now()))
	}
	n, err := unix.EpollWait(s.epfd, s.events[:], ms)
	s.capture.idle()
	if asleep {
		s.mu.Lock()
		s.asleep = false
		s.mu.Unlock()
	}
	if err != nil {
		return // EINTR; nothing else can happen to a descriptor of our own
	}
	for _, ev := range s.events[:n] {
		if ev.Fd == wakeKey {
			var b [8]byte
			unix.Read(s.wakefd, b[:])
			continue
		}
		f := s.flows[ev.Fd]
		if f.fd >= 0 && f.generation == ev.Pad {
			s.event(f, ev.Events)
		}
	}
	s.runReady()
}
