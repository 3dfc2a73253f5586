package tfo

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ListenConfig describes a listener.
type ListenConfig struct {
	// Addr is where to listen. Port 0 lets the kernel choose. The unspecified
	// IPv6 address takes IPv4 as well.
	Addr netip.AddrPort
	// NetNS is where the socket lives.
	NetNS NetNS
	// Keys are the primary and the backup key. With none, the key of the
	// network namespace counts (net.ipv4.tcp_fastopen_key); the kernel makes
	// that up at random, so cookies do not outlive the namespace.
	Keys []Key
	// Queue is how many TFO connections may be pending, their handshakes
	// incomplete; beyond it the kernel gives no cookies and takes no data.
	// 0 = as many as net.core.somaxconn allows, which is the limit always.
	Queue int
	// NoCookie takes SYN data without a cookie, and gives no cookies
	// (TCP_FASTOPEN_NO_COOKIE, Linux 4.15).
	NoCookie bool
	// Allow are the sources that are answered; none means all.
	Allow []netip.Prefix
	// Patience is how long a connection may take, accept to end; 0 = 10 s.
	Patience time.Duration
	// Drain is how long Close leaves connections under way, where any are; 0 =
	// 2 s. What ends no later than Patience has its true end with a Drain of that.
	Drain time.Duration

	// Arrived is given every connection at its end, Alarm what endangers the
	// listener's own evidence. Both are called from the listener's loop, one
	// call at a time: they must not block, and not call Close. Alarm may be
	// nil.
	Arrived func(*Arrival)
	Alarm   func(Alarm)
}

const (
	defaultPatience = 10 * time.Second
	defaultDrain    = 2 * time.Second
)

// Listener accepts TFO connections, answers their requests, and reports what
// each showed. It is one epoll loop, without a goroutine per connection.
//
// It is plain TCP: Go's own listeners are MPTCP, which keeps no SYN
// (TCP_SAVE_SYN fails) and loses timestamps.
type Listener struct {
	cfg    ListenConfig
	addr   netip.AddrPort
	queue  int
	loop   *listenLoop
	closed sync.Once
	done   chan struct{}
}

// Listen opens a listener and starts it.
func Listen(cfg ListenConfig) (*Listener, error) {
	if len(cfg.Keys) > maxKeys {
		return nil, fmt.Errorf("listen: %d keys: want a primary and at most one backup key", len(cfg.Keys))
	}
	if cfg.Arrived == nil {
		return nil, errors.New("listen: nobody takes the arrivals")
	}
	if cfg.Alarm == nil {
		cfg.Alarm = func(Alarm) {}
	}
	if cfg.Patience <= 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Drain <= 0 {
		cfg.Drain = defaultDrain
	}
	l := &Listener{cfg: cfg, done: make(chan struct{})}
	err := cfg.NetNS.Do(func() (err error) {
		fd, err := listenSocket(cfg)
		if err != nil {
			return err
		}
		if l.queue, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN); err != nil {
			unix.Close(fd)
			return os.NewSyscallError("getsockopt TCP_FASTOPEN", err)
		}
		l.addr = localAddr(fd)
		l.loop, err = newListenLoop(cfg, fd, l.queue)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Addr, err)
	}
	go func() {
		defer close(l.done)
		l.loop.run()
	}()
	return l, nil
}

// Addr is where the listener listens.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Queue is how many TFO connections may be pending: what was asked for, capped
// by net.core.somaxconn.
func (l *Listener) Queue() int { return l.queue }

// Close takes no new connections, gives those under way the time of Drain to
// end, and returns when the last Arrived has returned. It may be called again.
func (l *Listener) Close() error {
	l.closed.Do(l.loop.stop)
	<-l.done
	return nil
}

// listenSocket must run in the namespace.
func listenSocket(cfg ListenConfig) (fd int, err error) {
	sa, family := makeSockaddr(cfg.Addr)
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	set := func(level, opt, value int, name string) {
		if err == nil {
			err = os.NewSyscallError("setsockopt "+name, unix.SetsockoptInt(fd, level, opt, value))
		}
	}
	set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR")
	if family == unix.AF_INET6 {
		only := 1
		if cfg.Addr.Addr().IsUnspecified() {
			only = 0
		}
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only, "IPV6_V6ONLY")
	}
	set(unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1, "TCP_SAVE_SYN")
	set(unix.IPPROTO_TCP, unix.TCP_FASTOPEN, cfg.queueAsked(), "TCP_FASTOPEN")
	if cfg.NoCookie {
		set(unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE, 1, "TCP_FASTOPEN_NO_COOKIE")
	}
	if err == nil && len(cfg.Keys) > 0 {
		var keys []byte
		for _, k := range cfg.Keys {
			keys = append(keys, k[:]...)
		}
		err = os.NewSyscallError("setsockopt TCP_FASTOPEN_KEY", unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY, string(keys)))
	}
	if err != nil {
		return -1, err
	}
	if err := bind(fd, &sa); err != 0 {
		return -1, os.NewSyscallError("bind", err)
	}
	// The kernel caps the backlog at somaxconn too.
	return fd, os.NewSyscallError("listen", unix.Listen(fd, queueMost))
}

// queueMost is more than any somaxconn in use.
const queueMost = 65535

func (c *ListenConfig) queueAsked() int {
	if c.Queue > 0 {
		return c.Queue
	}
	return queueMost
}

func (c *ListenConfig) allows(src netip.Addr) bool {
	for _, p := range c.Allow {
		if p.Contains(src) {
			return true
		}
	}
	return len(c.Allow) == 0
}
