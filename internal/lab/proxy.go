package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Proxy is a split-TCP proxy in the path. It takes every connection in the
// server's name, with Fast Open of its own or without, makes another one to the
// server, plain and from an address of its own, and passes the bytes on. What
// the server gets is another SYN: other sequence numbers, port and options.
type Proxy struct {
	TFO TFO
	Key Key
}

// proxy stands before one server of a path, in one address family.
type proxy struct {
	*net.TCPListener
	from   netip.Addr // its own address towards the server
	onward uint16     // the port the server listens on
	ctx    context.Context
	cancel context.CancelFunc
}

// newProxies puts the proxies of all paths before their servers. It must run
// inside the servers namespace.
func newProxies(paths []*path, ipv6 bool) (xs []*proxy, err error) {
	defer func() {
		if err != nil {
			for _, x := range xs {
				x.stop()
			}
			xs = nil
		}
	}()
	port := uint16(firstProxy)
	for _, p := range paths {
		if p.Proxy == nil {
			continue
		}
		for i, onward := range p.servers {
			for _, from := range []netip.Addr{boxLink.servers4.Addr(), boxLink.servers6.Addr()} {
				if from.Is6() && !ipv6 {
					continue
				}
				x := &proxy{from: from, onward: onward}
				if x.TCPListener, err = listenTCP(from.Is6(), Server{TFO: p.Proxy.TFO, Key: p.Proxy.Key}, port); err != nil {
					return xs, err
				}
				x.ctx, x.cancel = context.WithCancel(context.Background())
				xs = append(xs, x)
			}
			p.servers[i] = port
			port++
		}
	}
	return xs, nil
}

func listenTCP(v6 bool, sv Server, port uint16) (*net.TCPListener, error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := listen(family, sv, port)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "proxy")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// run takes connections until stop, on a thread inside the servers namespace:
// there the addresses of the paths are local, so that what the proxy sends does
// not pass the box again.
func (x *proxy) run() error {
	var relays sync.WaitGroup
	defer relays.Wait()
	for {
		client, err := x.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		meant := client.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		server, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(x.from, 0)),
			net.TCPAddrFromAddrPort(netip.AddrPortFrom(meant, x.onward)))
		if err != nil { // nobody there: the client is told by a reset
			_ = client.SetLinger(0)
			client.Close()
			continue
		}
		relays.Go(func() { x.relay(client, server) })
	}
}

func (x *proxy) stop() {
	x.cancel()
	x.Close()
}

// relay passes bytes and the end of each direction on, until both have ended,
// an error, stop, or the patience of the servers.
func (x *proxy) relay(client, server *net.TCPConn) {
	end := func() {
		client.Close()
		server.Close()
	}
	defer end()
	defer context.AfterFunc(x.ctx, end)()
	pass := func(to, from *net.TCPConn) {
		_ = from.SetDeadline(time.Now().Add(connPatience))
		if _, err := io.Copy(to, from); err != nil {
			end()
			return
		}
		_ = to.CloseWrite()
	}
	var there sync.WaitGroup
	there.Go(func() { pass(server, client) })
	pass(client, server)
	there.Wait()
}
