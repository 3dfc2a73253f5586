package main

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// bareLoop is the yardstick: one epoll loop that makes the same connections as
// the attempt engine (sendmsg(MSG_FASTOPEN), request, response, close), reads
// TCP_INFO once each and keeps nothing. It is written for speed alone: no
// evidence, no cookie cache, no timers, no errors survived.
type bareLoop struct {
	epfd    int
	payload []byte
	plain   []bool // by round: whether the connections of that round are plain
	targets []netip.AddrPort
	width   int // connections open at a time

	next, open, done int
	state            []bareConn // by fd
	responses        int
}

type bareConn struct {
	sent   int
	ready  bool
	target int
	round  int
}

// run makes len(targets) * len(plain) connections, the rounds of a target one
// after the other, and returns the time it took.
func (l *bareLoop) run() time.Duration {
	l.epfd, _ = unix.EpollCreate1(0)
	defer unix.Close(l.epfd)
	begin := time.Now()
	var events [512]unix.EpollEvent
	var buf [4096]byte
	l.fill()
	for l.open > 0 {
		n, _ := unix.EpollWait(l.epfd, events[:], -1)
		for _, ev := range events[:max(n, 0)] {
			l.event(int(ev.Fd), ev.Events, buf[:])
		}
	}
	return time.Since(begin)
}

func (l *bareLoop) fill() {
	for l.open < l.width && l.next < len(l.targets) {
		l.start(l.next, 0)
		l.next++
	}
}

func (l *bareLoop) start(target, round int) {
	ap := l.targets[target]
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	c := bareConn{target: target, round: round}
	if l.plain[round] {
		unix.Connect(fd, sa)
	} else {
		c.sent, _ = unix.SendmsgN(fd, l.payload, nil, sa, unix.MSG_FASTOPEN)
		c.sent = max(0, c.sent)
	}
	for fd >= len(l.state) {
		l.state = append(l.state, make([]bareConn, 1024)...)
	}
	l.state[fd] = c
	l.open++
	unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(fd)})
}

func (l *bareLoop) event(fd int, events uint32, buf []byte) {
	c := &l.state[fd]
	if !c.ready {
		c.ready = true
		unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if c.sent < len(l.payload) {
			unix.Write(fd, l.payload[c.sent:])
			c.sent = len(l.payload)
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
		return
	}
	n, err := unix.Read(fd, buf)
	if err == unix.EAGAIN {
		return
	}
	if n > 0 {
		l.responses++
	}
	unix.Close(fd)
	l.open--
	l.done++
	if c.round+1 < len(l.plain) {
		l.start(c.target, c.round+1)
	} else {
		l.fill()
	}
}
