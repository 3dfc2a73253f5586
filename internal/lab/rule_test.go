package lab_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
)

var (
	web = lab.Server{App: lab.HTTP, TFO: lab.TFOOn, Key: lab.KeyA}
	off = lab.Server{App: lab.HTTP}
)

// onePath builds a lab of one path.
func onePath(t testing.TB, p lab.Path) (*lab.Lab, lab.Placed) {
	t.Helper()
	p.Name, p.Port = "path", 80
	if p.Servers == nil {
		p.Servers = []lab.Server{web}
	}
	l := labtest.New(t, lab.Config{Paths: []lab.Path{p}, Seed: 1})
	return l, l.Targets()[0]
}

// addrs are the first addresses of a path, of both families.
func addrs(p lab.Placed) []netip.Addr { return []netip.Addr{p.V4, p.V6} }

// dial makes n connections to every address given and returns their outcomes.
func dial(t testing.TB, l *lab.Lab, to []netip.Addr, fastOpen []bool, payload []byte) (got [][]outcome) {
	t.Helper()
	labtest.InClient(t, l, func() error {
		c, err := newClient()
		if err != nil {
			return err
		}
		defer c.close()
		for _, a := range to {
			var os []outcome
			for _, f := range fastOpen {
				os = append(os, c.connect(netip.AddrPortFrom(a, 80), f, payload))
			}
			got = append(got, os)
		}
		return nil
	})
	return got
}

// TestDataOver: the limit is exact.
func TestDataOver(t *testing.T) {
	t.Parallel()
	l, p := onePath(t, lab.Path{Rules: []lab.Rule{{On: lab.Forward, If: lab.SYN.And(lab.DataOver(300)), Do: lab.Drop}}})
	for size, want := range map[int]outcome{300: "syn ok answer", 301: "syn 0 fail 3 rto 1 answer"} {
		payload := append([]byte("HEAD / HTTP/1.1\r\nX: "), bytes.Repeat([]byte("x"), size)...)
		payload = append(payload[:size-4], "\r\n\r\n"...)
		for _, got := range dial(t, l, addrs(p), []bool{true, true}, payload) {
			if got[len(got)-1] != want {
				t.Errorf("%d bytes: %q, want %q", size, got, want)
			}
		}
	}
}

// TestRefusals: every answer reaches the socket as the errno the kernel has for
// it (net/ipv4/icmp.c icmp_err_convert, net/ipv6/icmp.c), per family.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for with, want := range map[lab.Answer][2]outcome{
		lab.RST:             {"plain ECONNREFUSED", "plain ECONNREFUSED"},
		lab.HostUnreachable: {"plain EHOSTUNREACH", "plain EHOSTUNREACH"},
		lab.PortUnreachable: {"plain ECONNREFUSED", "plain ECONNREFUSED"},
		lab.AdminProhibited: {"plain EHOSTUNREACH", "plain EACCES"},
	} {
		l, p := onePath(t, lab.Path{Rules: []lab.Rule{{On: lab.Forward, If: lab.SYN, Do: lab.Refuse(with)}}})
		for i, got := range dial(t, l, addrs(p), []bool{false}, request) {
			if got[0] != want[i] {
				t.Errorf("%s to %s: %q, want %q", with, addrs(p)[i], got[0], want[i])
			}
		}
		c := l.Counters("path")
		if with == lab.RST && (c.Resets != 2 || c.ICMP != 0) || with != lab.RST && (c.ICMP != 2 || c.Resets != 0) {
			t.Errorf("%s: counted %+v", with, c)
		}
	}
}

// arrival is what a listener saw of one connection.
type arrival struct {
	option string // the TFO option of the SYN, in hex
	inSYN  int    // bytes of data the SYN carried
	all    string // everything read in the end
	peer   netip.Addr
}

// listen opens a TFO listener in the servers' namespace. Each call of accept
// waits for a connection and reads it to the end of the request.
func listen(t *testing.T, l *lab.Lab, v6 bool, port int) (accept func() arrival) {
	t.Helper()
	ln := -1
	labtest.InServers(t, l, func() (err error) {
		domain, addr := sockaddr(netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)))
		if v6 {
			domain, addr = sockaddr(netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)))
		}
		if ln, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if v6 {
			err = unix.SetsockoptInt(ln, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		}
		return errors.Join(err,
			unix.SetsockoptInt(ln, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16),
			unix.SetsockoptInt(ln, unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1),
			unix.Bind(ln, addr),
			unix.Listen(ln, 16))
	})
	t.Cleanup(func() { unix.Close(ln) })
	return func() (a arrival) {
		if !wait(ln, unix.POLLIN, time.Now().Add(5*time.Second)) {
			t.Error("no connection arrived")
			return a
		}
		fd, from, err := unix.Accept(ln)
		if err != nil {
			t.Error(err)
			return a
		}
		defer unix.Close(fd)
		switch f := from.(type) {
		case *unix.SockaddrInet4:
			a.peer = netip.AddrFrom4(f.Addr)
		case *unix.SockaddrInet6:
			a.peer = netip.AddrFrom16(f.Addr)
		}
		syn := savedSYN(fd)
		header, total := int(syn[0]&15)*4, int(binary.BigEndian.Uint16(syn[2:]))
		if v6 {
			header, total = 40, 40+int(binary.BigEndian.Uint16(syn[4:]))
		}
		end := header + int(syn[header+12]>>4)*4
		a.inSYN = total - end
		for opts := syn[header+20 : end]; len(opts) > 1; {
			if opts[0] == 1 {
				opts = opts[1:]
				continue
			}
			if opts[0] == 0 {
				break
			}
			if opts[0] == 34 || opts[0] == 254 {
				a.option = hex.EncodeToString(opts[:opts[1]])
			}
			opts = opts[opts[1]:]
		}
		buf := make([]byte, 4096)
		for !strings.HasSuffix(a.all, "\r\n\r\n") && wait(fd, unix.POLLIN, time.Now().Add(5*time.Second)) {
			n, err := unix.Read(fd, buf)
			if n <= 0 || err != nil {
				break
			}
			a.all += string(buf[:n])
		}
		_, _ = unix.Write(fd, []byte("ok"))
		return a
	}
}

// TestServerSeesTheSYN reads at a listener of our own what arrives: the far
// side of every rewrite on the way there.
func TestServerSeesTheSYN(t *testing.T) {
	t.Parallel()
	const port = 9000
	whole := len(request)
	for _, tt := range []struct {
		do     lab.Action
		option func(cookie string) string // of the SYN with data
		inSYN  int
	}{
		{lab.SetMark(lab.Mark1), func(c string) string { return "220a" + c }, whole}, // changes nothing
		{lab.Strip(lab.AnyKind), func(string) string { return "" }, whole},
		{lab.Strip(lab.Kind254), func(c string) string { return "220a" + c }, whole},
		{lab.Blank(lab.AnyKind), func(string) string { return "" }, whole},
		{lab.Empty(lab.AnyKind), func(string) string { return "2202" }, whole},
		{lab.SetKind(lab.Kind34, lab.Kind254), func(c string) string { return "fe0cf989" + c }, whole},
		{lab.FlipCookie, func(c string) string { return "220a" + flipped(c) }, whole},
		{lab.ResizeCookie(6), func(c string) string { return "2208" + c[:12] }, whole},
		{lab.ResizeCookie(16), func(c string) string { return "2212" + c + strings.Repeat("00", 8) }, whole},
		{lab.StripData, func(c string) string { return "220a" + c }, 0},
		{lab.Truncate(7), func(c string) string { return "220a" + c }, 7},
	} {
		t.Run(tt.do.String(), func(t *testing.T) {
			l, p := onePath(t, lab.Path{Rules: []lab.Rule{{On: lab.Forward, If: lab.SYN.And(lab.Data), Do: tt.do}}})
			for _, a := range addrs(p) {
				accept := listen(t, l, a.Is6(), port)
				seen := make(chan arrival, 2)
				go func() { seen <- accept(); seen <- accept() }()
				var cookie []byte
				labtest.InClient(t, l, func() error {
					c, err := newClient()
					if err != nil {
						return err
					}
					defer c.close()
					c.connect(netip.AddrPortFrom(a, port), true, request)
					cookie = c.cookie(a)
					c.connect(netip.AddrPortFrom(a, port), true, request)
					return nil
				})
				if asked := <-seen; asked.option != "2202" || asked.inSYN != 0 || asked.all != string(request) {
					t.Errorf("%s: the cookie request arrived as %+v", a, asked)
				}
				got := <-seen
				if want := tt.option(hex.EncodeToString(cookie)); got.option != want || got.inSYN != tt.inSYN || got.all != string(request) {
					t.Errorf("%s: arrived as %+v, want option %s and %d bytes", a, got, want, tt.inSYN)
				}
			}
		})
	}
}

func flipped(c string) string {
	b, _ := hex.DecodeString(c)
	for i := range b {
		b[i] = ^b[i]
	}
	return hex.EncodeToString(b)
}

// TestMasquerade: every flow reaches the server from another address, never
// the client's own, and answers find their way back.
func TestMasquerade(t *testing.T) {
	const port, flows = 9000, 20
	l, p := onePath(t, lab.Path{Rules: []lab.Rule{{On: lab.Forward, Do: lab.Masquerade}}})
	for _, a := range addrs(p) {
		accept := listen(t, l, a.Is6(), port)
		seen := map[netip.Addr]bool{}
		done := make(chan bool)
		go func() {
			for range flows {
				seen[accept().peer] = true
			}
			close(done)
		}()
		labtest.InClient(t, l, func() error {
			c, err := newClient()
			if err != nil {
				return err
			}
			defer c.close()
			for range flows {
				if got := c.connect(netip.AddrPortFrom(a, port), false, request); got != "plain answer" {
					t.Errorf("%s: %s", a, got)
				}
			}
			return nil
		})
		<-done
		if len(seen) != flows {
			t.Errorf("%s: %d flows came from %d addresses: %v", a, flows, len(seen), seen)
		}
		pool := netip.MustParsePrefix("198.19.129.0/24")
		if a.Is6() {
			pool = netip.MustParsePrefix("fd54:464f:3::/64")
		}
		for from := range seen {
			if !pool.Contains(from) {
				t.Errorf("%s: a flow came from %s", a, from)
			}
		}
	}
}

// TestSpread: in turn, four servers with four keys are met one after the other;
// by hash, a flow stays where it is and all servers are met in the end.
func TestSpread(t *testing.T) {
	servers := []lab.Server{web, off}
	l, p := onePath(t, lab.Path{Servers: servers, Rules: []lab.Rule{{On: lab.Forward, Do: lab.Spread}}})
	for _, got := range dial(t, l, addrs(p), []bool{true, true, true, true, true}, request) {
		// Server 0 grants a cookie, server 1 knows nothing of it, and so on.
		want := []outcome{"request 8 answer", "syn 0 fail 2 answer", "syn ok answer", "syn 0 fail 2 answer", "syn ok answer"}
		if !slices.Equal(got, want) {
			t.Errorf("in turn: %q", got)
		}
	}
	l, p = onePath(t, lab.Path{Servers: servers, Rules: []lab.Rule{{On: lab.Forward, Do: lab.SpreadByHash}}})
	for _, got := range dial(t, l, addrs(p), slices.Repeat([]bool{true}, 60), request) {
		count := map[outcome]int{}
		for _, o := range got {
			count[o]++
		}
		if ok, no := count["syn ok answer"], count["syn 0 fail 2 answer"]; ok < 10 || no < 10 {
			t.Errorf("by hash: %v", count)
		}
	}
}

// TestLoss: the share of frames lost is about the share asked for.
func TestLoss(t *testing.T) {
	const p, flows = 0.1, 300
	l, target := onePath(t, lab.Path{Hosts: flows, Rules: []lab.Rule{{On: lab.Return, If: lab.Not(lab.SYNACK).And(lab.Chance(p)), Do: lab.Drop}}})
	labtest.InClient(t, l, func() error {
		for _, a := range target.Addrs4(flows) {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 80, Addr: a.As4()}); err != nil {
				return err
			}
			_, _ = unix.Write(fd, request)
			unix.Close(fd)
		}
		return nil
	})
	c := l.Counters("path")
	returned := float64(c.Frames-c.SYNACK) / 2 // about as many there as back
	if got := float64(c.Dropped) / returned; got < p/3 || got > p*3 {
		t.Errorf("lost %d of about %.0f frames, want a share of %g", c.Dropped, returned, p)
	}
}

// TestDelay: a handshake takes the delay of both directions and no shorter.
func TestDelay(t *testing.T) {
	const there, back = 30 * time.Millisecond, 20 * time.Millisecond
	l, p := onePath(t, lab.Path{Rules: []lab.Rule{{On: lab.Forward, Do: lab.Delay(there, 0)}, {On: lab.Return, Do: lab.Delay(back, 0)}}})
	labtest.InClient(t, l, func() error {
		for _, a := range addrs(p) {
			domain, addr := sockaddr(netip.AddrPortFrom(a, 80))
			fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Connect(fd, addr); err != nil {
				return err
			}
			info, _ := tcpInfo(fd)
			if rtt := time.Duration(info.Rtt) * time.Microsecond; rtt < there+back || rtt > there+back+500*time.Millisecond {
				t.Errorf("%s: round trip of %s, want %s", a, rtt, there+back)
			}
		}
		return nil
	})
}

// TestBulk sends megabytes both ways through loss, delay, NAT and port
// translation and compares what arrives: no frame is damaged or mixed up.
func TestBulk(t *testing.T) {
	t.Parallel()
	const size, port = 3 << 20, 9000
	l, p := onePath(t, lab.Path{Rules: []lab.Rule{
		{On: lab.Forward, Do: lab.Masquerade},
		{On: lab.Both, If: lab.Chance(0.001), Do: lab.Drop},
		{On: lab.Both, Do: lab.Delay(time.Millisecond, time.Millisecond)},
	}})
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	for _, a := range addrs(p) {
		var ln net.Listener
		labtest.InServers(t, l, func() (err error) {
			lc := net.ListenConfig{}
			lc.SetMultipathTCP(false)
			network := "tcp4"
			if a.Is6() {
				network = "tcp6"
			}
			ln, err = lc.Listen(t.Context(), network, ":9000")
			return err
		})
		go func() {
			if c, err := ln.Accept(); err == nil {
				_, _ = io.Copy(c, c)
				c.Close()
			}
		}()
		var c net.Conn
		labtest.InClient(t, l, func() (err error) {
			c, err = net.Dial("tcp", netip.AddrPortFrom(a, port).String())
			return err
		})
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		go func() {
			_, _ = c.Write(data)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		h := sha256.New()
		if n, err := io.Copy(h, c); err != nil || n != size {
			t.Errorf("%s: %d bytes came back: %v", a, n, err)
		} else if want := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), want[:]) {
			t.Errorf("%s: what came back is not what was sent", a)
		}
		c.Close()
		ln.Close()
	}
	if c := l.Counters("path"); c.Dropped == 0 || c.Delayed == 0 {
		t.Errorf("nothing struck: %+v", c)
	}
}

// TestPortsUsedAgain: a new connection on the 5-tuple of an old one is a new
// flow, without the old one's marks.
func TestPortsUsedAgain(t *testing.T) {
	l, p := onePath(t, lab.Path{Rules: []lab.Rule{
		// The answer to the first flow is lost, not that to the second.
		{On: lab.Forward, If: lab.SYN.And(lab.Alternate(lab.Mark1)), Do: lab.SetMark(lab.Mark2)},
		{On: lab.Return, If: lab.Marked(lab.Mark2).And(lab.Data), Do: lab.Drop},
	}})
	labtest.InClient(t, l, func() error {
		for _, want := range []string{"silent", "answer"} {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			// Reset at close: no TIME_WAIT, the port is free at once.
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 45678}); err != nil {
				return err
			}
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 80, Addr: p.V4.As4()}); err != nil {
				return err
			}
			if _, err := unix.Write(fd, request); err != nil {
				return err
			}
			if got := readAnswer(fd, time.Now().Add(300*time.Millisecond)); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			unix.Close(fd)
		}
		return nil
	})
}

// TestUnroutedAndDirect: addresses of no path lead nowhere and are counted;
// the direct link does not touch the box.
func TestUnroutedAndDirect(t *testing.T) {
	t.Parallel()
	l, _ := onePath(t, lab.Path{Hosts: 10})
	before := l.Stats()
	got := dial(t, l, []netip.Addr{netip.MustParseAddr("198.18.77.1"), netip.MustParseAddr("fd54:464f::b")}, []bool{false}, request)
	if got[0][0] != "plain timeout" || got[1][0] != "plain timeout" {
		t.Errorf("an address of no path: %q", got)
	}
	if n := l.Stats().Unrouted - before.Unrouted; n < 2 { // a SYN each, and retransmissions
		t.Errorf("%d frames unrouted", n)
	}
	before = l.Stats()
	for _, got := range dial(t, l, []netip.Addr{lab.DirectAddr4(1), lab.DirectAddr4(lab.DirectHosts), lab.DirectAddr6(1), lab.DirectAddr6(lab.DirectHosts)}, []bool{false, true, true}, request) {
		if want := []outcome{"plain answer", "request 8 answer", "syn ok answer"}; !slices.Equal(got, want) {
			t.Errorf("direct: %q", got)
		}
	}
	if n := l.Stats().Frames - before.Frames; n != 0 {
		t.Errorf("the box saw %d frames of the direct link", n)
	}
	for s, want := range map[lab.Server]uint16{web: 80, off: 8080} {
		if got, ok := l.ServerPort(s); !ok || got != want {
			t.Errorf("%+v listens on %d", s, got)
		}
	}
}

// TestBadCatalogue: what cannot be placed is refused with the path's name.
func TestBadCatalogue(t *testing.T) {
	labtest.Need(t)
	for name, paths := range map[string][]lab.Path{
		"empty":     {{Servers: []lab.Server{web}}},
		"taken":     {{Name: "a", Servers: []lab.Server{web}}, {Name: "a", Servers: []lab.Server{web}}},
		"no server": {{Name: "a"}},
		"addresses": {{Name: "a", Servers: []lab.Server{web}, Hosts: 60000}, {Name: "b", Servers: []lab.Server{web}, Hosts: 10000}},
		"has the port": {
			{Name: "a", At: "c", Port: 80, Servers: []lab.Server{web}},
			{Name: "b", At: "c", Port: 80, Servers: []lab.Server{off}},
		},
		"or a server of": {
			{Name: "a", At: "c", Port: 80, Servers: []lab.Server{web}},
			{Name: "b", At: "c", Port: 81, Family: lab.V6, Servers: []lab.Server{off, web}},
		},
		"where a has 250": {
			{Name: "a", Port: 80, Servers: []lab.Server{web}},
			{Name: "b", At: "a", Port: 81, Servers: []lab.Server{off}, Hosts: 251},
		},
	} {
		l, err := lab.New(t.Context(), lab.Config{Paths: paths})
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRuleText: a rule reads as what it does.
func TestRuleText(t *testing.T) {
	for want, r := range map[string]lab.Rule{
		"forward: if SYN and option 34/254 drop":              {On: lab.Forward, If: lab.SYN.And(lab.Option(lab.AnyKind)), Do: lab.Drop},
		"return: strip option 34":                             {On: lab.Return, Do: lab.Strip(lab.Kind34)},
		"both: if (data or not SYN) delay 1s":                 {On: lab.Both, If: lab.Data.Or(lab.Not(lab.SYN)), Do: lab.Delay(time.Second, 0)},
		"forward: if SYN and data over 40 answer too big":     {On: lab.Forward, If: lab.SYN.And(lab.DataOver(40)), Do: lab.Refuse(lab.TooBig)},
		"return: if SYN-ACK mirror the option of the SYN":     {On: lab.Return, If: lab.SYNACK, Do: lab.Mirror(false)},
		"forward: if client marked to server 1":               {On: lab.Forward, If: lab.ClientMarked, Do: lab.To(1)},
		"both: if chance 0.02 mark the client for 10m0s":      {On: lab.Both, If: lab.Chance(0.02), Do: lab.MarkClient(10 * time.Minute)},
		"forward: if cookie 254 resize the cookie to 6 bytes": {On: lab.Forward, If: lab.Cookie(lab.Kind254), Do: lab.ResizeCookie(6)},
	} {
		if got := r.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
