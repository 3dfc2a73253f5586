package lab_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
)

// TestServersTakeRequestsInPieces: an answer comes when the request is whole,
// and not before.
func TestServersTakeRequestsInPieces(t *testing.T) {
	hello := "\x16\x03\x01\x00\x05hello"
	for _, tt := range []struct {
		app    lab.App
		pieces []string
		answer string
	}{
		{lab.HTTP, []string{"H", "EAD / HTTP/1.1\r\n", "\r", "\n"}, "HTTP/1.1 200 OK\r\n"},
		{lab.HTTP, []string{"\x16\x03\x01"}, "HTTP/1.1 400 Bad Request\r\n"},
		{lab.TLS, []string{hello[:1], hello[1:7], hello[7:]}, "\x15\x03\x03\x00\x02\x02\x28"},
		{lab.TLS, []string{"HEAD"}, "\x15\x03\x03\x00\x02\x02\x28"},
		{lab.Hangup, []string{"x"}, ""},
	} {
		l, p := onePath(t, lab.Path{Servers: []lab.Server{{App: tt.app}}})
		labtest.InClient(t, l, func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 80, Addr: p.V4.As4()}); err != nil {
				return err
			}
			for i, piece := range tt.pieces {
				if i > 0 && wait(fd, unix.POLLIN, time.Now().Add(5*time.Millisecond)) {
					t.Errorf("%s: answered before %q", tt.app, piece)
				}
				if _, err := unix.Write(fd, []byte(piece)); err != nil {
					return err
				}
			}
			buf := make([]byte, 4096)
			if !wait(fd, unix.POLLIN, time.Now().Add(5*time.Second)) {
				t.Errorf("%s: no answer", tt.app)
				return nil
			}
			n, err := unix.Read(fd, buf)
			if err != nil || !strings.HasPrefix(string(buf[:n]), tt.answer) || tt.answer == "" && n > 0 {
				t.Errorf("%s: answered %q, %v", tt.app, buf[:n], err)
			}
			return nil
		})
	}
}

// TestManyWaitingConnections: connections that never ask do not keep others
// out, and a server holds no more than its share of them.
func TestManyWaitingConnections(t *testing.T) {
	const waiting = 500
	l, p := onePath(t, lab.Path{Hosts: 2})
	labtest.InClient(t, l, func() error {
		for range waiting {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 80, Addr: p.V4.As4()}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, got := range dial(t, l, []netip.Addr{p.V4, p.V6}, []bool{true, true}, request) {
		if got[1] != "syn ok answer" {
			t.Errorf("%q", got)
		}
	}
	if n := l.Stats().Accepted; n != waiting+4 {
		t.Errorf("%d connections accepted", n)
	}
}
