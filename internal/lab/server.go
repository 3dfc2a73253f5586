package lab

import (
	"container/list"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// App is what a server says to a client. The values are the names shown to
// people.
type App string

const (
	HTTP   App = "http"   // a small response to a request, then the end
	TLS    App = "tls"    // a TLS alert to a ClientHello, or to anything else
	DNS    App = "dns"    // DNS over TCP with the lab's names
	Silent App = "silent" // takes everything, says nothing
	Hangup App = "hangup" // closes after the first bytes, without one of its own
	Closed App = "closed" // no listener: the kernel resets
)

// Key is a server's TFO key (TCP_FASTOPEN_KEY).
type Key [16]byte

// Keys of the lab's servers. Their values mean nothing; servers with the same
// key take each other's cookies.
var (
	KeyA = Key{'t', 'f', 'o', 'l', 'a', 'b', ' ', 'k', 'e', 'y', ' ', 'A'}
	KeyB = Key{'t', 'f', 'o', 'l', 'a', 'b', ' ', 'k', 'e', 'y', ' ', 'B'}
	KeyC = Key{'t', 'f', 'o', 'l', 'a', 'b', ' ', 'k', 'e', 'y', ' ', 'C'}
	KeyD = Key{'t', 'f', 'o', 'l', 'a', 'b', ' ', 'k', 'e', 'y', ' ', 'D'}
)

// TFO is what a server does with TCP Fast Open.
type TFO string

const (
	TFOOff      TFO = ""
	TFOOn       TFO = "on"        // cookies by Key; those of Backup are taken and replaced
	TFONoCookie TFO = "no cookie" // takes data without a cookie and never gives one
	TFORotate   TFO = "rotate"    // another key after every connection
)

// Server is a real Linux listener in the servers namespace. Equal values share
// one listener.
type Server struct {
	App    App
	TFO    TFO
	Key    Key
	Backup Key // zero for none
}

const (
	backlog       = 65535 // of connections, and of pending TFO requests
	firstPort     = 10001 // of listeners that do not stand on a port of their own
	closedPort    = 9     // nothing listens here
	maxConns      = 8192  // connections a server waits on; the oldest goes first
	connPatience  = 30 * time.Second
	requestLength = 4096
)

// standard are the servers of the direct link, on the ports people use.
var standard = map[Server]uint16{
	{App: HTTP, TFO: TFOOn, Key: KeyA}: 80,
	{App: TLS, TFO: TFOOn, Key: KeyA}:  443,
	{App: DNS, TFO: TFOOn, Key: KeyA}:  53,
	{App: HTTP}:                        8080,
}

// servers are all listeners of a lab, on one epoll loop: accept, read, answer,
// close. It is as lean as it can be, because benchmarks run against it.
type servers struct {
	poll   *poller
	ports  map[Server]uint16
	listen map[int]*listener
	conns  map[int]*list.Element // of byAge
	byAge  list.List             // of *conn, the oldest in front
	buf    [requestLength]byte
	names  *names

	accepted, shed atomic.Uint64
}

type listener struct {
	fd     int
	server Server
	rotate byte
}

type conn struct {
	fd    int
	app   App
	since time.Time
	req   []byte // what came before the request was whole
}

// newServers opens a listener for every server that paths name and for the
// standard ones. It must run inside the servers namespace.
func newServers(paths []*path, names *names, ipv6 bool) (_ *servers, err error) {
	s := &servers{ports: map[Server]uint16{}, listen: map[int]*listener{}, conns: map[int]*list.Element{}, names: names}
	if s.poll, err = newPoller(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.free()
		}
	}()
	for sv, port := range standard {
		if err := s.open(sv, port, ipv6); err != nil {
			return nil, err
		}
	}
	next := uint16(firstPort)
	for _, p := range paths {
		for _, sv := range p.Servers {
			if _, ok := s.ports[sv]; !ok {
				if sv.App == Closed {
					s.ports[sv] = closedPort
				} else {
					if err := s.open(sv, next, ipv6); err != nil {
						return nil, err
					}
					next++
				}
			}
			p.servers = append(p.servers, s.ports[sv])
		}
	}
	return s, nil
}

func (s *servers) open(sv Server, port uint16, ipv6 bool) error {
	s.ports[sv] = port
	families := []int{unix.AF_INET}
	if ipv6 {
		families = append(families, unix.AF_INET6)
	}
	for _, family := range families {
		fd, err := listen(family, sv, port)
		if err != nil {
			return fmt.Errorf("listen on port %d: %w", port, err)
		}
		s.listen[fd] = &listener{fd: fd, server: sv}
		if err := s.poll.add(fd, unix.EPOLLIN); err != nil {
			return err
		}
	}
	return nil
}

func listen(family int, sv Server, port uint16) (fd int, err error) {
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	var addr unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
	if family == unix.AF_INET6 {
		addr = &unix.SockaddrInet6{Port: int(port)}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return -1, os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	if err := unix.Bind(fd, addr); err != nil {
		return -1, os.NewSyscallError("bind", err)
	}
	if sv.TFO != TFOOff {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, backlog); err != nil {
			return -1, os.NewSyscallError("setsockopt TCP_FASTOPEN", err)
		}
		if err := setKey(fd, sv.Key, sv.Backup); err != nil {
			return -1, err
		}
	}
	if sv.TFO == TFONoCookie {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE, 1); err != nil {
			return -1, os.NewSyscallError("setsockopt TCP_FASTOPEN_NO_COOKIE", err)
		}
	}
	return fd, os.NewSyscallError("listen", unix.Listen(fd, backlog))
}

func setKey(fd int, key, backup Key) error {
	k := string(key[:])
	if backup != (Key{}) {
		k += string(backup[:])
	}
	return os.NewSyscallError("setsockopt TCP_FASTOPEN_KEY", unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY, k))
}

// run serves until stop; free closes the sockets.
func (s *servers) run() error {
	ev := make([]unix.EpollEvent, 256)
	for {
		var n int
		var deadline time.Time
		if c := s.oldest(); c != nil {
			deadline = c.since.Add(connPatience)
		}
		err := s.poll.wait(deadline, func() bool { n = s.poll.events(ev); return n > 0 })
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		for _, e := range ev[:n] {
			if l := s.listen[int(e.Fd)]; l != nil {
				s.accept(l)
			} else if elem := s.conns[int(e.Fd)]; elem != nil {
				c := elem.Value.(*conn)
				rest, over := s.serve(c.fd, c.app, c.req)
				if over {
					s.close(c)
				} else {
					c.req = append(c.req[:0], rest...)
				}
			}
		}
		now := time.Now()
		for c := s.oldest(); c != nil && now.Sub(c.since) >= connPatience; c = s.oldest() {
			s.close(c)
		}
	}
}

func (s *servers) stop() { s.poll.close() }

func (s *servers) free() {
	s.poll.close()
	for fd := range s.listen {
		unix.Close(fd)
	}
	for fd := range s.conns {
		unix.Close(fd)
	}
	clear(s.listen)
	clear(s.conns)
}

// accept takes what waits. A request that came with the SYN is answered here
// and the connection is over before epoll ever heard of it.
func (s *servers) accept(l *listener) {
	for range 64 {
		fd, _, err := unix.Accept4(l.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EAGAIN:
			return
		case unix.ECONNABORTED, unix.EINTR:
			continue
		default: // out of descriptors or memory
			if !s.makeRoom() {
				return
			}
			continue
		}
		s.accepted.Add(1)
		if l.server.TFO == TFORotate {
			l.rotateKey()
		}
		rest, over := s.serve(fd, l.server.App, nil)
		if !over {
			over = s.keep(fd, l.server.App, rest) != nil
		}
		if over {
			unix.Close(fd)
		}
	}
}

// keep waits for the rest of a request, or for the client to leave.
func (s *servers) keep(fd int, app App, req []byte) error {
	if err := s.poll.add(fd, unix.EPOLLIN|unix.EPOLLRDHUP); err != nil {
		return err
	}
	if len(s.conns) >= maxConns {
		s.makeRoom()
	}
	s.conns[fd] = s.byAge.PushBack(&conn{fd: fd, app: app, since: time.Now(), req: append([]byte(nil), req...)})
	return nil
}

func (s *servers) oldest() *conn {
	if e := s.byAge.Front(); e != nil {
		return e.Value.(*conn)
	}
	return nil
}

// makeRoom closes the oldest connection; false if there is none.
func (s *servers) makeRoom() bool {
	c := s.oldest()
	if c == nil {
		return false
	}
	s.shed.Add(1)
	s.close(c)
	return true
}

// rotateKey gives every listener of the server its next key; a failure would
// show as a cookie that stays valid.
func (l *listener) rotateKey() {
	l.rotate++
	key := l.server.Key
	key[15] = l.rotate
	_ = setKey(l.fd, key, Key{})
}

// serve reads what is there, behind what came before, and answers a whole
// request. It returns what is still to be completed, valid until the next
// call, and whether the connection is over.
func (s *servers) serve(fd int, app App, before []byte) (rest []byte, over bool) {
	n, err := unix.Read(fd, s.buf[:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return before, false
	}
	if err != nil || n == 0 {
		return nil, true
	}
	req := s.buf[:n]
	if len(before) > 0 {
		req = append(before, req...)
	}
	answer, rest, over := reply(app, req, s.names)
	if len(answer) > 0 {
		// An answer is small and the socket's buffer empty: it is taken whole,
		// or the client is gone.
		if _, err := unix.Write(fd, answer); err != nil {
			return nil, true
		}
	}
	return rest, over || len(rest) > requestLength
}

func (s *servers) close(c *conn) {
	unix.Close(c.fd) // takes it out of epoll
	s.byAge.Remove(s.conns[c.fd])
	delete(s.conns, c.fd)
}
