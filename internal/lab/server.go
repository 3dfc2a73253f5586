package lab

import (
	"container/list"
	"fmt"
	"os"

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

	// Yours is no listener of the lab: whoever built it listens himself, on the
	// port that [Lab.ServerPort] says, in the namespace of [Lab.ServersNetNS].
	// Unequal values have unequal ports; nothing else in them counts.
	Yours App = "yours"
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
	backlog    = 65535 // of connections, and of pending TFO requests
	firstPort  = 10001 // of listeners that do not stand on a port of their own
	firstProxy = 20001 // of proxies
	closedPort = 9     // nothing listens here
)

// standard are the servers of the direct link, on the ports people use.
var standard = map[Server]uint16{
	{App: HTTP, TFO: TFOOn, Key: KeyA}: 80,
	{App: TLS, TFO: TFOOn, Key: KeyA}:  443,
	{App: DNS, TFO: TFOOn, Key: KeyA}:  53,
	{App: HTTP}:                        8080,
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
				switch sv.App {
				case Closed:
					s.ports[sv] = closedPort
				case Yours:
					s.ports[sv] = next
					next++
				default:
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
