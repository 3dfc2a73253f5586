package main

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tfofleet/internal/lab"
)

// bareLoop is the yardstick: an epoll loop that makes the same connections as
// the attempt engine (sendmsg(MSG_FASTOPEN), request, response, close), reads
// TCP_INFO once each and keeps nothing. It is written for speed alone: no
// evidence, no cookie cache, no timers, no errors survived.
type bareLoop struct {
	epfd    int
	payload []byte
	targets []netip.AddrPort
	width   int // connections open at a time

	next, open int
	state      []bareConn // by fd
	responses  int
}

type bareConn struct {
	target, round, sent int
	ready               bool
}

// bareRun makes ladderRounds connections to every target, spread over loops
// threads.
func bareRun(netns string, targets []netip.AddrPort, payload []byte, loops, width int) (time.Duration, error) {
	var wg sync.WaitGroup
	all := make([]bareLoop, loops)
	begin := time.Now()
	for i := range all {
		l := &all[i]
		from, to := i*len(targets)/loops, (i+1)*len(targets)/loops
		*l = bareLoop{payload: payload, targets: targets[from:to], width: width / loops}
		wg.Go(func() { lab.In(netns, func() error { l.run(); return nil }) })
	}
	wg.Wait()
	d := time.Since(begin)
	responses := 0
	for i := range all {
		responses += all[i].responses
	}
	if want := len(targets) * len(ladderRounds); responses != want {
		return d, fmt.Errorf("bare loop: %d responses, want %d", responses, want)
	}
	return d, nil
}

func (l *bareLoop) run() {
	l.epfd, _ = unix.EpollCreate1(0)
	defer unix.Close(l.epfd)
	var events [512]unix.EpollEvent
	var buf [4096]byte
	l.fill()
	for l.open > 0 {
		n, _ := unix.EpollWait(l.epfd, events[:], -1)
		for _, ev := range events[:max(n, 0)] {
			l.event(int(ev.Fd), ev.Events, buf[:])
		}
	}
}

func (l *bareLoop) fill() {
	for l.open < l.width && l.next < len(l.targets) {
		l.start(l.next, 0)
		l.next++
	}
}

func (l *bareLoop) start(target, round int) {
	ap := l.targets[target]
	sa := &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	c := bareConn{target: target, round: round}
	if ladderRounds[round] {
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
	if c.round+1 < len(ladderRounds) {
		l.start(c.target, c.round+1)
	} else {
		l.fill()
	}
}
