package lab

import (
	"container/list"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxConns      = 8192 // connections a server waits on; the oldest goes first
	connPatience  = 30 * time.Second
	requestLength = 4096
)

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
