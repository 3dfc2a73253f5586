package lab_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
)

// TestProxy: the client meets the proxy's Fast Open, the server a plain
// connection from another address that asks the same.
func TestProxy(t *testing.T) {
	t.Parallel()
	yours := lab.Server{App: lab.Yours}
	for _, tt := range []struct {
		proxy lab.Proxy
		want  []outcome
	}{
		{lab.Proxy{TFO: lab.TFOOn, Key: lab.KeyC}, []outcome{"request 8 answer", "syn ok answer"}},
		{lab.Proxy{}, []outcome{"request none answer", "request none answer"}},
	} {
		l, p := onePath(t, lab.Path{Servers: []lab.Server{yours}, Proxy: &tt.proxy})
		port, ok := l.ServerPort(yours)
		if !ok {
			t.Fatal("no port for a listener of our own")
		}
		for _, a := range addrs(p) {
			accept := listen(t, l, a.Is6(), int(port))
			seen := make(chan arrival, 2)
			go func() { seen <- accept(); seen <- accept() }()
			if got := dial(t, l, []netip.Addr{a}, []bool{true, true}, request); !slices.Equal(got[0], tt.want) {
				t.Errorf("%s, proxy %+v: %q, want %q", a, tt.proxy, got[0], tt.want)
			}
			from := netip.MustParseAddr("198.19.128.2")
			if a.Is6() {
				from = netip.MustParseAddr("fd54:464f:2::2")
			}
			for range 2 {
				if got, want := <-seen, (arrival{all: string(request), peer: from}); got != want {
					t.Errorf("%s, proxy %+v: the server saw %+v, want %+v", a, tt.proxy, got, want)
				}
			}
		}
		if st := l.Stats(); st.Accepted != 0 {
			t.Errorf("a server of the lab stood in for ours: %+v", st)
		}
	}
}

// TestProxyWithoutServer: the client is connected, and then reset.
func TestProxyWithoutServer(t *testing.T) {
	t.Parallel()
	l, p := onePath(t, lab.Path{Servers: []lab.Server{{App: lab.Closed}}, Proxy: &lab.Proxy{}})
	for _, got := range dial(t, l, addrs(p), []bool{false}, request) {
		if !strings.Contains(string(got[0]), "ECONNRESET") && !strings.Contains(string(got[0]), "EPIPE") {
			t.Errorf("%q", got)
		}
	}
}

// TestProxyEndsWithTheLab: a connection that waits does not keep the lab open.
func TestProxyEndsWithTheLab(t *testing.T) {
	t.Parallel()
	l, p := onePath(t, lab.Path{Servers: []lab.Server{{App: lab.Silent}}, Proxy: &lab.Proxy{}})
	labtest.InClient(t, l, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 80, Addr: p.V4.As4()}); err != nil {
			return err
		}
		if _, err := unix.Write(fd, request); err != nil {
			return err
		}
		waitUntil(t, func() bool { return l.Stats().Accepted == 1 })
		start := time.Now()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the lab took %v to end", took)
		}
		return nil
	})
}
