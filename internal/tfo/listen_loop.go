package tfo

import (
	"encoding/binary"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// listenerKey is the epoll key of the listening socket.
	listenerKey = -2
	// acceptBurst is how many connections are accepted before those under way
	// have their turn.
	acceptBurst = 64
	// tick is how often the counters are read.
	tick = int64(time.Second)
)

// maxInbound is how many connections are open at a time; the oldest gives way.
// It is twice the usual limit of pending TFO connections. A variable for tests.
var maxInbound = 8192

// listenLoop is the event loop of a listener. All of it but the waker belongs
// to the loop alone.
type listenLoop struct {
	cfg   ListenConfig
	lfd   int // -1 once closed
	epfd  int
	wake  waker
	keys  *keyring
	watch *queueWatch

	base   time.Time // the loop's clock counts ns from here
	baseNS int64     // base as Unix ns, for time stamps
	slots  []*inbound
	free   []int32
	open   inboundList // the oldest first, which is the order of deadlines
	paused bool        // the listening socket is not looked at: no descriptors to be had

	events [256]unix.EpollEvent
	info   [tcpInfoMax]byte
	syn    [savedSYNMax]byte
	read   [requestLimit]byte
}

// newListenLoop must run in the namespace. It owns lfd, also when it fails.
func newListenLoop(cfg ListenConfig, lfd, queue int) (_ *listenLoop, err error) {
	l := &listenLoop{cfg: cfg, lfd: lfd, epfd: -1, wake: waker{fd: -1}, base: time.Now()}
	l.baseNS = l.base.UnixNano()
	defer func() {
		if err != nil {
			l.release()
		}
	}()
	if l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if l.wake.fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	for fd, key := range map[int]int32{l.wake.fd: wakeKey, lfd: listenerKey} {
		if e := epollAdd(l.epfd, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: key}); e != 0 {
			return nil, os.NewSyscallError("epoll_ctl", e)
		}
	}
	l.keys = openKeys(cfg.Keys)
	l.watch, err = newQueueWatch(cfg, queue)
	return l, err
}

func (l *listenLoop) release() {
	if l.watch != nil {
		l.watch.close()
	}
	if l.keys != nil {
		l.keys.close()
	}
	for _, fd := range []int{l.lfd, l.epfd, l.wake.fd} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (l *listenLoop) now() int64 { return int64(time.Since(l.base)) }

func (l *listenLoop) stop() { l.wake.stop() }

// run is the loop. It ends some time after stop, with every connection over.
func (l *listenLoop) run() {
	defer l.release()
	l.watch.begin()
	nextTick, patience := l.now()+tick, int64(l.cfg.Patience)
	var drained int64 // when connections under way are cut, once lfd is closed
	for {
		now := l.now()
		if l.wake.stopped.Load() && l.lfd >= 0 {
			l.accept(maxInbound)
			unix.Close(l.lfd)
			l.lfd = -1
			drained = now + int64(l.cfg.Drain)
		}
		for c := l.open.first; c != nil && c.start+patience <= now; c = l.open.first {
			l.finish(c, c.overdue(), 0)
		}
		if l.lfd < 0 {
			for drained <= now && l.open.first != nil {
				l.finish(l.open.first, ArrivalCut, 0)
			}
			if l.open.first == nil {
				l.watch.tick(now)
				return
			}
		}
		if nextTick <= now {
			nextTick = now + tick
			l.watch.tick(now)
			l.pause(false)
		}
		until := nextTick
		if c := l.open.first; c != nil {
			until = min(until, c.start+patience)
		}
		if l.lfd < 0 {
			until = min(until, drained)
		}
		l.poll(until - now)
	}
}

// poll waits for the kernel, at most the time given.
func (l *listenLoop) poll(ns int64) {
	const ms = int64(time.Millisecond)
	n, err := unix.EpollWait(l.epfd, l.events[:], int(max(0, ns+ms-1)/ms))
	if err != nil {
		return // EINTR; nothing else can happen to a descriptor of our own
	}
	incoming := false
	for _, ev := range l.events[:n] {
		switch {
		case ev.Fd == listenerKey:
			incoming = true
		case ev.Fd == wakeKey:
			var b [8]byte
			unix.Read(l.wake.fd, b[:])
		default:
			if c := l.slots[ev.Fd]; c.fd >= 0 && c.generation == ev.Pad {
				l.event(c)
			}
		}
	}
	if incoming {
		l.accept(acceptBurst)
	}
}

// accept takes up to n connections in.
func (l *listenLoop) accept(n int) {
	for range n {
		fd, peer, e := accept(l.lfd)
		switch e {
		case 0:
			l.begin(fd, peer)
		case unix.EAGAIN:
			return
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			l.shortage(e)
			return
		default: // this one died in the queue; the next may live
		}
	}
}

// shortage makes room where there is none, or looks away for a tick: the
// connection that cannot be accepted would wake the loop for ever.
func (l *listenLoop) shortage(e syscall.Errno) {
	l.watch.alarm(Alarm{Kind: AlarmShortage, Errno: errnoName(e)})
	if c := l.open.first; c != nil {
		l.finish(c, ArrivalCut, e)
		return
	}
	l.pause(true)
}

func (l *listenLoop) pause(on bool) {
	if on == l.paused || l.lfd < 0 {
		return
	}
	l.paused = on
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: listenerKey}
	if on {
		ev.Events = 0
	}
	// It cannot fail: both descriptors are ours and the entry exists.
	_ = unix.EpollCtl(l.epfd, unix.EPOLL_CTL_MOD, l.lfd, &ev)
}

// waker interrupts an epoll_wait.
type waker struct {
	fd      int
	stopped atomic.Bool
}

func (w *waker) stop() {
	w.stopped.Store(true)
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(w.fd, one[:])
}
