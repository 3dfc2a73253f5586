package lab_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
)

// TestPathsShareAnAddress: each port of an address is a path of its own, with
// its own rules, servers and counters, also for flows that differ in nothing
// else. A port that no path has is on the first.
func TestPathsShareAnAddress(t *testing.T) {
	t.Parallel()
	lose := lab.Rule{On: lab.Return, If: lab.Data, Do: lab.Drop}
	l := labtest.New(t, lab.Config{Paths: []lab.Path{
		{Name: "one", At: "here", Port: 80, Servers: []lab.Server{web}},
		{Name: "two", At: "here", Port: 81, Servers: []lab.Server{off}, Rules: []lab.Rule{lose}},
		{Name: "alone", Port: 80, Servers: []lab.Server{web}},
	}})
	one, two, alone := l.Targets()[0], l.Targets()[1], l.Targets()[2]
	if one.V4 != two.V4 || one.V6 != two.V6 || one.Host != "here.lab" || two.Host != "here.lab" || alone.V4 == one.V4 || alone.Host != "alone.lab" {
		t.Fatalf("placed at %+v, %+v, %+v", one, two, alone)
	}
	labtest.InClient(t, l, func() error {
		for _, a := range addrs(one) {
			domain, _ := sockaddr(netip.AddrPortFrom(a, 0))
			var fds []int
			for _, port := range []uint16{80, 81, 443} {
				fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				var from unix.Sockaddr = &unix.SockaddrInet4{Port: 45678}
				if a.Is6() {
					from = &unix.SockaddrInet6{Port: 45678}
				}
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
				if err := unix.Bind(fd, from); err != nil {
					return err
				}
				_, to := sockaddr(netip.AddrPortFrom(a, port))
				if err := unix.Connect(fd, to); err != nil {
					return err
				}
				fds = append(fds, fd)
			}
			for i, want := range []string{"answer", "silent", "answer"} {
				if _, err := unix.Write(fds[i], request); err != nil {
					return err
				}
				if got := readAnswer(fds[i], time.Now().Add(300*time.Millisecond)); got != want {
					t.Errorf("%s, port %d of the list: %s, want %s", a, i, got, want)
				}
			}
		}
		return nil
	})
	if a, b := l.Counters("one"), l.Counters("two"); a.SYN != 4 || b.SYN != 2 || a.Dropped != 0 || b.Rules[0] == 0 {
		t.Errorf("counters: %+v and %+v", a, b)
	}
}

// TestFamilyOfItsOwn: two families of one name are two paths, and a path
// without a family is not there in it.
func TestFamilyOfItsOwn(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Config{Paths: []lab.Path{
		{Name: "only", Port: 80, Family: lab.V4, Servers: []lab.Server{web}},
		{Name: "four", At: "both", Port: 80, Family: lab.V4, Servers: []lab.Server{web}},
		{Name: "six", At: "both", Port: 80, Family: lab.V6, Servers: []lab.Server{web}, Rules: []lab.Rule{{On: lab.Return, Do: lab.Strip(lab.AnyKind)}}},
	}})
	four, _ := l.Target("four")
	six, _ := l.Target("six")
	if four.V6.IsValid() || six.V4.IsValid() {
		t.Fatalf("placed at %+v and %+v", four, six)
	}
	got := dial(t, l, []netip.Addr{four.V4, six.V6}, []bool{true, true}, request)
	if !slices.Equal(got[0], []outcome{"request 8 answer", "syn ok answer"}) || !slices.Equal(got[1], []outcome{"request none answer", "request none answer"}) {
		t.Errorf("got %q", got)
	}
	before := l.Stats().Unrouted
	if got := dial(t, l, []netip.Addr{netip.MustParseAddr("fd54:464f::1")}, []bool{false}, request); got[0][0] != "plain timeout" {
		t.Errorf("in the family that the path has not: %q", got)
	}
	if l.Stats().Unrouted == before {
		t.Error("and yet it was routed")
	}
}

// TestCookieHasNoPort: what the kernel learned on one port of an address it
// uses on the next, where nobody gave it (net/ipv4/tcp_metrics.c). The paths of
// M25 are there because of it.
func TestCookieHasNoPort(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Config{})
	for _, tt := range []struct {
		path string
		want outcome
	}{
		{"ports-80", "request 8 answer"},
		{"ports-80", "syn ok answer"},
		{"ports-8080", "syn 0 fail 2 answer"},           // never asked, and no Fast Open
		{"ports-443", "syn 0 fail 2 answer new cookie"}, // never asked, and another key
		{"ports-443", "syn ok answer"},
		{"ports-80", "syn 0 fail 2 answer new cookie"},
	} {
		p, ok := l.Target(tt.path)
		if !ok {
			t.Fatalf("no path %s", tt.path)
		}
		labtest.InClient(t, l, func() error {
			c, err := newClient()
			if err != nil {
				return err
			}
			defer c.close()
			for _, a := range addrs(p) {
				if got := c.connect(netip.AddrPortFrom(a, p.Port), true, request); got != tt.want {
					t.Errorf("%s: %q, want %q", netip.AddrPortFrom(a, p.Port), got, tt.want)
				}
			}
			return nil
		})
	}
}
