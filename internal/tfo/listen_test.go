package tfo_test

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/tfo"
)

// newNetNS makes a namespace that lives as long as the test.
func newNetNS(t testing.TB) tfo.NetNS {
	t.Helper()
	labtest.Need(t)
	ns, closer, err := tfo.NewNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closer.Close() })
	return ns
}

// sequence is a sequence of attempts known from the start.
type sequence struct {
	remote   netip.AddrPort
	attempts []tfo.Attempt
	evidence []*tfo.Evidence
	over     chan struct{}
}

func (s *sequence) Remote() netip.AddrPort { return s.remote }
func (s *sequence) Over(bool)              { close(s.over) }

func (s *sequence) Next(last *tfo.Evidence) (tfo.Attempt, bool) {
	if last != nil {
		s.evidence = append(s.evidence, last)
	}
	if n := len(s.evidence); n < len(s.attempts) {
		return s.attempts[n], true
	}
	return tfo.Attempt{}, false
}

// attempt makes the attempts, one after the other.
func attempt(t testing.TB, ns tfo.NetNS, remote netip.AddrPort, attempts ...tfo.Attempt) []*tfo.Evidence {
	t.Helper()
	e, err := tfo.NewEngine(tfo.Config{Concurrency: 1, NetNS: ns})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	s := &sequence{remote: remote, attempts: attempts, over: make(chan struct{})}
	e.Start(s)
	<-s.over
	return s.evidence
}

func tryRequest(payload string) tfo.Attempt {
	return tfo.Attempt{Kind: tfo.KindRequest, Payload: []byte(payload), ClearCookie: true, Timeout: 5 * time.Second}
}

func tryData(payload string) tfo.Attempt {
	return tfo.Attempt{Kind: tfo.KindData, Payload: []byte(payload), Timeout: 5 * time.Second}
}

func tryPlain(payload string) tfo.Attempt {
	return tfo.Attempt{Kind: tfo.KindPlain, Payload: []byte(payload), Timeout: 5 * time.Second}
}

// listener collects what a Listener reports.
type listener struct {
	*tfo.Listener
	mu       sync.Mutex
	arrivals []*tfo.Arrival
	alarms   []tfo.Alarm
	changed  chan struct{} // has room for one
}

func hear(t testing.TB, cfg tfo.ListenConfig) *listener {
	t.Helper()
	l := &listener{changed: make(chan struct{}, 1)}
	changed := func() {
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
	cfg.Arrived = func(a *tfo.Arrival) {
		l.mu.Lock()
		l.arrivals = append(l.arrivals, a)
		l.mu.Unlock()
		changed()
	}
	cfg.Alarm = func(a tfo.Alarm) {
		l.mu.Lock()
		l.alarms = append(l.alarms, a)
		l.mu.Unlock()
		changed()
	}
	var err error
	if l.Listener, err = tfo.Listen(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

const patience = 20 * time.Second

// wait returns when ok, called under the lock after every report, says so.
func (l *listener) wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		yes := ok()
		l.mu.Unlock()
		if yes {
			return
		}
		select {
		case <-l.changed:
		case <-deadline:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// arrived returns the first n arrivals.
func (l *listener) arrived(t testing.TB, n int) []*tfo.Arrival {
	t.Helper()
	var got []*tfo.Arrival
	l.wait(t, "arrivals", func() bool {
		got = l.arrivals[:min(n, len(l.arrivals))]
		return len(got) == n
	})
	return got
}

// anyPort listens on all addresses of both families.
var anyPort = netip.MustParseAddrPort("[::]:0")

func hosts(l *listener) map[string]netip.AddrPort {
	return map[string]netip.AddrPort{
		"IPv4": netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.Addr().Port()),
		"IPv6": netip.AddrPortFrom(netip.MustParseAddr("::1"), l.Addr().Port()),
	}
}

// What each kind of attempt looks like from the listening end, beside what it
// looked like from the connecting one.
func TestListenSeesWhatWasSent(t *testing.T) {
	ns := newNetNS(t)
	l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns, Keys: []tfo.Key{testKey}})
	head := "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
	n := 0
	for family, to := range hosts(l) {
		before := readMIB(t, ns)
		evs := attempt(t, ns, to, tryPlain("hello"), tryRequest(head), tryData(head), tryData("GET / HTTP/1.0\r\n\r\n"))
		moved := readMIB(t, ns).Since(before)
		as := l.arrived(t, n+4)[n:]
		n += 4
		cookie := testKey.Cookie(to.Addr(), to.Addr())
		for i, want := range []struct {
			option   uint8
			cookie   string
			claim    tfo.CookieClaim
			child    tfo.Tri
			syn      int
			request  tfo.RequestKind
			response int
		}{
			{0, "", tfo.ClaimNone, tfo.No, 0, tfo.RequestOther, 18},
			{tfo.OptionKindTFO, "", tfo.ClaimRequest, tfo.No, 0, tfo.RequestHTTP, 102},
			{tfo.OptionKindTFO, string(cookie[:]), tfo.ClaimValid, tfo.Yes, len(head), tfo.RequestHTTP, 102},
			{tfo.OptionKindTFO, string(cookie[:]), tfo.ClaimValid, tfo.Yes, 18, tfo.RequestHTTP, 120},
		} {
			a, ev := as[i], evs[i]
			opt := a.SYN.Options.FastOpen()
			if a.SYN.Options.FastOpenKind != want.option || string(opt.Cookie) != want.cookie || a.Claim != want.claim || a.Child != want.child {
				t.Errorf("%s %v: option %d %x, claim %v, child %v, want %+v", family, ev.Kind, a.SYN.Options.FastOpenKind, opt.Cookie, a.Claim, a.Child, want)
			}
			if string(a.Gives) != string(cookie[:]) {
				t.Errorf("%s %v: gives %x, want %x", family, ev.Kind, a.Gives, cookie)
			}
			if a.SynBytes != want.syn || a.SynTaken != want.syn || ev.SynBytes != want.syn || ev.SynAcked != want.syn {
				t.Errorf("%s %v: %d bytes in the SYN, %d arrived, %d taken, %d acknowledged, want %d", family, ev.Kind, ev.SynBytes, a.SynBytes, a.SynTaken, ev.SynAcked, want.syn)
			}
			if got := a.Options()&tfo.OptSynData != 0; got != (want.syn > 0) {
				t.Errorf("%s %v: SYN_DATA %v", family, ev.Kind, got)
			}
			if a.RequestKind != want.request || a.ResponseBytes != want.response || a.ResponseAcked != want.response || ev.ResponseBytes != want.response || a.End != tfo.ArrivalServed {
				t.Errorf("%s %v: request %v, response %d, %d acknowledged, %d received, end %v", family, ev.Kind, a.RequestKind, a.ResponseBytes, a.ResponseAcked, ev.ResponseBytes, a.End)
			}
			if a.Peer != ev.Local || a.Local != to || a.SYN.Src != a.Peer || a.SYN.Dst != a.Local {
				t.Errorf("%s %v: %v to %v, the SYN says %v to %v, want %v to %v", family, ev.Kind, a.Peer, a.Local, a.SYN.Src, a.SYN.Dst, ev.Local, to)
			}
			if a.SYN.Options.MSS == 0 || !a.SYN.Options.Timestamps || !a.SYN.Options.SACKPermitted || a.SYN.Options.WindowScale < 0 || a.SYN.TTL != 64 || a.SYN.Flags != 2 ||
				a.SYN.DontFragment != to.Addr().Is4() || tfo.DecodeTCPOptions(a.SYN.OptionBytes).MSS != a.SYN.Options.MSS {
				t.Errorf("%s %v: SYN %+v", family, ev.Kind, a.SYN)
			}
		}
		want := tfo.MIB{tfo.CountActive: 2, tfo.CountPassive: 2, tfo.CountCookieReqd: 1}
		if moved != want {
			t.Errorf("%s: counters moved by %v, want %v", family, moved, want)
		}
	}
	l.Close()
	if len(l.alarms) != 0 {
		t.Errorf("alarms %+v", l.alarms)
	}
}

// A listener's keys decide what a cookie is worth, and whether the kernel's
// cookies are what Key.Cookie computes.
func TestListenKeys(t *testing.T) {
	ns := newNetNS(t)
	addr := netip.MustParseAddrPort("[::]:7413")
	old, now := tfo.Key{1, 2, 3}, tfo.Key{4, 5, 6}
	rounds := []struct {
		name    string
		keys    []tfo.Key
		attempt tfo.Attempt
		claim   tfo.CookieClaim
		child   tfo.Tri
		after   tfo.Key // makes the cookie that the client then holds
		moved   tfo.Counter
	}{
		{"request", []tfo.Key{old}, tryRequest("hello"), tfo.ClaimRequest, tfo.No, old, tfo.CountCookieReqd},
		{"the listener comes back with its key", []tfo.Key{old}, tryData("hello"), tfo.ClaimValid, tfo.Yes, old, tfo.CountPassive},
		{"the key is the backup key now", []tfo.Key{now, old}, tryData("hello"), tfo.ClaimBackup, tfo.Yes, now, tfo.CountPassiveAltKey},
		{"the key is gone", []tfo.Key{old}, tryData("hello"), tfo.ClaimStale, tfo.No, old, tfo.CountPassiveFail},
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(host), addr.Port())
		for _, r := range rounds {
			l := hear(t, tfo.ListenConfig{Addr: addr, NetNS: ns, Keys: r.keys})
			before := readMIB(t, ns)
			ev := attempt(t, ns, to, r.attempt)[0]
			if n := readMIB(t, ns).Since(before)[r.moved]; n != 1 {
				t.Errorf("%s, %s: %v moved by %d", host, r.name, r.moved, n)
			}
			if a := l.arrived(t, 1)[0]; a.Claim != r.claim || a.Child != r.child {
				t.Errorf("%s, %s: claim %v, child %v", host, r.name, a.Claim, a.Child)
			}
			if want := r.after.Cookie(to.Addr(), to.Addr()); string(ev.CookieAfter.Bytes) != string(want[:]) {
				t.Errorf("%s, %s: the client holds %x, want %x", host, r.name, ev.CookieAfter.Bytes, want)
			}
			l.Close()
		}
	}
}

// Without keys of its own a listener goes by the namespace's, which may change
// while it listens.
func TestListenFollowsTheKeyOfItsNamespace(t *testing.T) {
	ns := newNetNS(t)
	l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns})
	to := hosts(l)["IPv4"]
	next, last := tfo.Key{7, 8, 9}, tfo.Key{10, 11, 12}
	attempt(t, ns, to, tryRequest("hello"), tryData("hello"))
	setSysctl(t, ns, "net/ipv4/tcp_fastopen_key", next.String())
	ev := attempt(t, ns, to, tryData("hello"), tryData("hello"))
	// This time the first cookie to come is one of the new key.
	setSysctl(t, ns, "net/ipv4/tcp_fastopen_key", last.String()+","+next.String())
	attempt(t, ns, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), to.Port()), tryRequest("hello"), tryData("hello"))
	attempt(t, ns, to, tryData("hello"))
	var got []tfo.CookieClaim
	for _, a := range l.arrived(t, 7) {
		got = append(got, a.Claim)
	}
	want := []tfo.CookieClaim{tfo.ClaimRequest, tfo.ClaimValid, tfo.ClaimStale, tfo.ClaimValid, tfo.ClaimRequest, tfo.ClaimValid, tfo.ClaimBackup}
	if !slices.Equal(got, want) {
		t.Errorf("claims %v, want %v", got, want)
	}
	if want := next.Cookie(to.Addr(), to.Addr()); string(ev[0].CookieAfter.Bytes) != string(want[:]) {
		t.Errorf("a key written as %v made the cookie %x, want %x", next, ev[0].CookieAfter.Bytes, want)
	}
}

func setSysctl(t testing.TB, ns tfo.NetNS, name, value string) {
	t.Helper()
	if err := ns.Do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) }); err != nil {
		t.Fatal(err)
	}
}

// Without cookies every SYN makes a child, even one that asks for a cookie.
func TestListenNoCookie(t *testing.T) {
	ns := newNetNS(t)
	l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns, NoCookie: true})
	ev := attempt(t, ns, hosts(l)["IPv4"], tryRequest("hello"), tfo.Attempt{Kind: tfo.KindCookieless, Payload: []byte("hello"), Timeout: patience})
	as := l.arrived(t, 2)
	if ev[0].CookieAfter.State != tfo.CookieNone || as[0].Claim != tfo.ClaimRequest || as[0].Child != tfo.Yes {
		t.Errorf("request: cookie %v, claim %v, child %v", ev[0].CookieAfter, as[0].Claim, as[0].Child)
	}
	if ev[1].SynAcked != 5 || as[1].Claim != tfo.ClaimNone || as[1].Child != tfo.Yes || as[1].SynTaken != 5 {
		t.Errorf("data: %d acknowledged, claim %v, child %v, %d taken", ev[1].SynAcked, as[1].Claim, as[1].Child, as[1].SynTaken)
	}
}

// What only a peer that is not Linux would send.
func TestListenOddSYNs(t *testing.T) {
	ns := newNetNS(t)
	peer := newRawPeer(t, ns)
	l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns, Keys: []tfo.Key{testKey}})
	cookie := testKey.Cookie(peer.addr, peer.host)
	wrong := tfo.Key{}.Cookie(peer.addr, peer.host)
	for i, tt := range []struct {
		name    string
		options []layers.TCPOption
		payload string
		kind    uint8
		claim   tfo.CookieClaim
		child   tfo.Tri
		cookies bool // the SYN-ACK carries one of kind 34
	}{
		{"experimental request", []layers.TCPOption{expOption(nil)}, "", tfo.OptionKindExp, tfo.ClaimRequest, tfo.No, false},
		{"experimental cookie", []layers.TCPOption{expOption(cookie[:])}, "hello", tfo.OptionKindExp, tfo.ClaimValid, tfo.Yes, false},
		{"request with data", []layers.TCPOption{cookieOption(nil)}, "hello", tfo.OptionKindTFO, tfo.ClaimRequest, tfo.No, true},
		{"cookie without data", []layers.TCPOption{cookieOption(cookie[:])}, "", tfo.OptionKindTFO, tfo.ClaimValid, tfo.Yes, false},
		{"forged cookie", []layers.TCPOption{cookieOption(wrong[:])}, "hello", tfo.OptionKindTFO, tfo.ClaimStale, tfo.No, true},
		{"cookie of 6 bytes", []layers.TCPOption{cookieOption(cookie[:6])}, "hello", tfo.OptionKindTFO, tfo.ClaimStale, tfo.No, true},
		{"cookie of 7 bytes", []layers.TCPOption{cookieOption(cookie[:7])}, "hello", tfo.OptionKindTFO, tfo.ClaimMalformed, tfo.No, false},
		{"cookie of 2 bytes", []layers.TCPOption{cookieOption(cookie[:2])}, "hello", tfo.OptionKindTFO, tfo.ClaimMalformed, tfo.No, false},
		{"cookie of 18 bytes", []layers.TCPOption{cookieOption(make([]byte, 18))}, "hello", tfo.OptionKindTFO, tfo.ClaimMalformed, tfo.No, false},
		{"data without an option", nil, "hello", 0, tfo.ClaimNone, tfo.No, false},
	} {
		p := uint16(3000 + i)
		s := segment{port: p, flags: "S", seq: 77, options: append(usual(), tt.options...), payload: tt.payload}
		peer.send(l.Addr().Port(), s)
		sa := peer.expect(p, "SYN-ACK", synAck)
		acked := sa.ack - s.seq - 1
		if want := tt.child == tfo.Yes; (acked > 0) != (want && tt.payload != "") {
			t.Errorf("%s: %d bytes acknowledged", tt.name, acked)
		}
		if (len(sa.cookie) == 8) != tt.cookies {
			t.Errorf("%s: cookie %x in the SYN-ACK", tt.name, sa.cookie)
		}
		end := sa.ack
		if acked == 0 {
			peer.send(l.Addr().Port(), segment{port: p, flags: "AP", seq: end, ack: sa.seq + 1, payload: "late"})
			end += 4
		}
		peer.expect(p, "response", func(s segment) bool { return s.payload != "" })
		peer.send(l.Addr().Port(), segment{port: p, flags: "R", seq: end})
		a := l.arrived(t, i+1)[i]
		if a.SYN.Options.FastOpenKind != tt.kind || a.Claim != tt.claim || a.Child != tt.child {
			t.Errorf("%s: kind %d, claim %v, child %v", tt.name, a.SYN.Options.FastOpenKind, a.Claim, a.Child)
		}
		if a.End != tfo.ArrivalBroken {
			t.Errorf("%s: end %v", tt.name, a.End)
		}
		if a.SynBytes != len(s.payload) || a.SynTaken != int(acked) {
			t.Errorf("%s: %d bytes in the SYN, %d taken, want %d, %d", tt.name, a.SynBytes, a.SynTaken, len(s.payload), acked)
		}
		if a.SYN.TTL != 61 || a.SYN.TOS != 0x28 || a.SYN.Seq != 77 || a.SYN.Window != 65000 || a.SYN.Options.MSS != 1400 {
			t.Errorf("%s: SYN %+v", tt.name, a.SYN)
		}
	}
}

// Every way a connection can end.
func TestListenEnds(t *testing.T) {
	ns := newNetNS(t)
	peer := newRawPeer(t, ns)
	run := func(name string, cfg tfo.ListenConfig, want tfo.ArrivalEnd, errno string, play func(l *listener, port uint16)) {
		t.Run(name, func(t *testing.T) {
			cfg.Addr, cfg.NetNS, cfg.Keys = anyPort, ns, []tfo.Key{testKey}
			l := hear(t, cfg)
			play(l, l.Addr().Port())
			a := l.arrived(t, 1)[0]
			if a.End != want || a.Errno != errno {
				t.Errorf("end %v (%s), want %v (%s)", a.End, a.Errno, want, errno)
			}
			if a.TotalNS <= 0 || len(a.InfoAccept) == 0 || len(a.InfoFinal) == 0 || time.Since(a.Accepted) > time.Minute {
				t.Errorf("took %d ns from %v, tcp_info of %d and %d bytes", a.TotalNS, a.Accepted, len(a.InfoAccept), len(a.InfoFinal))
			}
		})
	}
	next := uint16(4000)
	// established completes a handshake and returns the peer's next segment.
	established := func(port uint16) segment {
		next++
		peer.send(port, segment{port: next, flags: "S", seq: 1, options: usual()})
		sa := peer.expect(next, "SYN-ACK", synAck)
		s := segment{port: next, flags: "A", seq: 2, ack: sa.seq + 1}
		peer.send(port, s)
		return s
	}
	say := func(port uint16, s segment, flags, payload string) segment {
		s.flags, s.payload = flags, payload
		peer.send(port, s)
		s.seq += uint32(len(payload))
		return s
	}
	brief := 30 * time.Millisecond
	run("silent", tfo.ListenConfig{Patience: brief}, tfo.ArrivalSilent, "", func(l *listener, port uint16) { established(port) })
	run("half a request", tfo.ListenConfig{Patience: brief}, tfo.ArrivalSilent, "", func(l *listener, port uint16) {
		say(port, established(port), "AP", "HEAD / HTTP/1.1\r\n")
		if a := l.arrived(t, 1)[0]; string(a.Request) != "HEAD / HTTP/1.1\r\n" || a.RequestKind != tfo.RequestNone || a.RequestNS != tfo.NotKnown {
			t.Errorf("request %q, kind %v", a.Request, a.RequestKind)
		}
	})
	run("closed", tfo.ListenConfig{}, tfo.ArrivalClosed, "", func(l *listener, port uint16) { say(port, established(port), "AF", "") })
	run("reset", tfo.ListenConfig{}, tfo.ArrivalBroken, "ECONNRESET", func(l *listener, port uint16) { say(port, established(port), "AR", "") })
	run("answer lost", tfo.ListenConfig{Patience: brief}, tfo.ArrivalUnacked, "", func(l *listener, port uint16) { say(port, established(port), "AP", "hello") })
	run("handshake never complete", tfo.ListenConfig{Patience: brief}, tfo.ArrivalUnacked, "", func(l *listener, port uint16) {
		peer.send(port, peer.dataSYN(next+1000, testKey, "hello"))
		if a := l.arrived(t, 1)[0]; a.HandshakeNS != tfo.NotKnown || a.AnsweredEarly != tfo.Yes || a.ResponseAcked != 0 {
			t.Errorf("handshake %d, answered early %v, %d acknowledged", a.HandshakeNS, a.AnsweredEarly, a.ResponseAcked)
		}
	})
	run("served in two parts", tfo.ListenConfig{}, tfo.ArrivalServed, "", func(l *listener, port uint16) {
		s := established(port)
		s = say(port, s, "AP", "GET / HT")
		s = say(port, s, "AP", "TP/1.0\r\n\r\n")
		fin := peer.expect(s.port, "FIN", func(s segment) bool { return s.flags == "AF" })
		s.ack = fin.seq + uint32(len(fin.payload)) + 1
		say(port, s, "A", "")
	})
	run("served, then reset", tfo.ListenConfig{}, tfo.ArrivalServed, "ECONNRESET", func(l *listener, port uint16) {
		s := say(port, established(port), "AP", "hello")
		s.ack = peer.expect(s.port, "response", func(s segment) bool { return s.payload != "" }).seq + 18
		say(port, s, "A", "")
		say(port, s, "AR", "")
	})
	run("source not allowed", tfo.ListenConfig{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, tfo.ArrivalRefused, "", func(l *listener, port uint16) {
		s := established(port)
		peer.expect(s.port, "RST", func(s segment) bool { return strings.Contains(s.flags, "R") })
		if a := l.arrived(t, 1)[0]; a.SYN.Raw == nil || a.ResponseBytes != 0 {
			t.Error("no SYN kept, or an answer given")
		}
		if ev := attempt(t, ns, loopback(l), tryPlain("hello"))[0]; ev.End != tfo.EndResponse {
			t.Errorf("an allowed source: %v", ev.End)
		}
	})
	run("cut by the end of the listener", tfo.ListenConfig{}, tfo.ArrivalCut, "", func(l *listener, port uint16) {
		s := established(port)
		say(port, s, "AP", "HEAD ")
		begun := time.Now()
		l.Close()
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("Close took %v", d)
		}
	})
	run("silent while the listener ends", tfo.ListenConfig{Patience: time.Second, Drain: time.Minute}, tfo.ArrivalSilent, "", func(l *listener, port uint16) {
		say(port, established(port), "AP", "HEAD ")
		l.Close()
	})
}

// Close serves what has been accepted, returns when it is over, may be called
// again, and leaves no goroutine and no descriptor behind.
func TestListenClose(t *testing.T) {
	ns := newNetNS(t)
	peer := newRawPeer(t, ns)
	descriptors := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	goroutines, before := goleak.IgnoreCurrent(), descriptors()
	l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns, Keys: []tfo.Key{testKey}})
	port := l.Addr().Port()
	peer.send(port, peer.dataSYN(2000, testKey, "HEAD / HTTP/1.0\r\n"))
	sa := peer.expect(2000, "SYN-ACK", synAck)
	closed := make(chan struct{})
	go func() { l.Close(); close(closed) }()
	// The listening socket is gone when a SYN is answered by a reset; the
	// connection under way is not.
	for p := uint16(5000); ; p++ {
		peer.send(port, segment{port: p, flags: "S", seq: 1, options: usual()})
		if s := peer.expect(p, "SYN-ACK or RST", func(segment) bool { return true }); strings.Contains(s.flags, "R") {
			break
		}
	}
	seq := sa.ack
	peer.send(port, segment{port: 2000, flags: "AP", seq: seq, ack: sa.seq + 1, payload: "\r\n"})
	fin := peer.expect(2000, "FIN", func(s segment) bool { return s.flags == "AF" })
	peer.send(port, segment{port: 2000, flags: "A", seq: seq + 2, ack: fin.seq + uint32(len(fin.payload)) + 1})
	<-closed
	l.Close()
	if a := l.arrivals[0]; a.End != tfo.ArrivalServed {
		t.Errorf("the connection under way: %v", a.End)
	}
	goleak.VerifyNone(t, goroutines)
	if n := descriptors(); n != before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
}

// What withholds Fast Open from everybody is said, from the start or when it
// comes to be.
func TestListenAlarms(t *testing.T) {
	alarm := func(l *listener, k tfo.AlarmKind) tfo.Alarm {
		t.Helper()
		var got tfo.Alarm
		l.wait(t, k.String(), func() bool {
			i := slices.IndexFunc(l.alarms, func(a tfo.Alarm) bool { return a.Kind == k })
			if i >= 0 {
				got = l.alarms[i]
			}
			return i >= 0
		})
		return got
	}
	t.Run("server bit", func(t *testing.T) {
		ns := newNetNS(t)
		l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns})
		attempt(t, ns, loopback(l), tryRequest("hello"), tryData("hello"))
		setSysctl(t, ns, "net/ipv4/tcp_fastopen", "1")
		alarm(l, tfo.AlarmServerOff)
		ev := attempt(t, ns, loopback(l), tryData("hello"))[0]
		if a := l.arrived(t, 3)[2]; ev.SynAcked != 0 || a.Claim != tfo.ClaimValid || a.Child != tfo.No {
			t.Errorf("%d acknowledged, claim %v, child %v", ev.SynAcked, a.Claim, a.Child)
		}
		l = hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns})
		alarm(l, tfo.AlarmServerOff)
	})
	t.Run("somaxconn", func(t *testing.T) {
		ns := newNetNS(t)
		setSysctl(t, ns, "net/core/somaxconn", "17")
		l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns, Queue: 18})
		if a := alarm(l, tfo.AlarmQueueCapped); a.Queue != 17 || a.Count != 18 || l.Queue() != 17 {
			t.Errorf("%+v, queue %d", a, l.Queue())
		}
		l = hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns})
		l.Close()
		if l.Queue() != 17 || len(l.alarms) != 0 {
			t.Errorf("queue %d, alarms %+v", l.Queue(), l.alarms)
		}
	})
	t.Run("syncookies", func(t *testing.T) {
		ns := newNetNS(t)
		setSysctl(t, ns, "net/ipv4/tcp_syncookies", "2")
		l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns})
		if a := alarm(l, tfo.AlarmSyncookies); a.Count != 0 {
			t.Errorf("%+v", a)
		}
		ev := attempt(t, ns, loopback(l), tryRequest("hello"))[0]
		a := l.arrived(t, 1)[0]
		if ev.CookieAfter.State != tfo.CookieNone || a.Claim != tfo.ClaimUnseen || a.SYN.Raw != nil || a.SynBytes != tfo.NotKnown || a.Local != loopback(l) {
			t.Errorf("cookie %v, claim %v, %d bytes in the SYN, local %v", ev.CookieAfter, a.Claim, a.SynBytes, a.Local)
		}
		l.wait(t, "count of SYN cookies", func() bool {
			return slices.ContainsFunc(l.alarms, func(a tfo.Alarm) bool { return a.Kind == tfo.AlarmSyncookies && a.Count == 1 })
		})
	})
}

// Where there is no room for a connection the oldest gives way, and where no
// descriptor is left an alarm says so: the listener must not stand still.
func TestListenShortage(t *testing.T) {
	ns := newNetNS(t)
	peer := newRawPeer(t, ns)
	connect := func(port, p uint16) {
		peer.send(port, segment{port: p, flags: "S", seq: 1, options: usual()})
		sa := peer.expect(p, "SYN-ACK", synAck)
		peer.send(port, segment{port: p, flags: "A", seq: 2, ack: sa.seq + 1})
	}
	reset := func(port, from, to uint16) { // Close waits for connections under way
		for p := from; p < to; p++ {
			peer.send(port, segment{port: p, flags: "R", seq: 2})
		}
	}
	t.Run("room", func(t *testing.T) {
		restore := tfo.SetMaxInbound(2)
		l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns})
		for p := uint16(7000); p < 7005; p++ {
			connect(l.Addr().Port(), p)
		}
		for i, a := range l.arrived(t, 3) {
			if a.End != tfo.ArrivalCut || a.Peer.Port() != uint16(7000+i) {
				t.Errorf("end %v of port %d", a.End, a.Peer.Port())
			}
		}
		reset(l.Addr().Port(), 7000, 7005)
		l.Close()
		restore()
	})
	t.Run("descriptors", func(t *testing.T) {
		l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns})
		next, err := unix.Dup(0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(next)
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		// Descriptors from here on are not to be had, but for one or two.
		few := limit
		few.Cur = uint64(next + 2)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				t.Error(err)
			}
		}()
		for p := uint16(7100); p < 7103; p++ {
			connect(l.Addr().Port(), p)
		}
		if a := l.arrived(t, 1)[0]; a.End != tfo.ArrivalCut || a.Errno != "EMFILE" || a.Peer.Port() != 7100 {
			t.Errorf("end %v (%s) of port %d", a.End, a.Errno, a.Peer.Port())
		}
		l.wait(t, "alarm", func() bool { return len(l.alarms) > 0 })
		reset(l.Addr().Port(), 7100, 7103)
		l.Close()
		if a := l.alarms[0]; a.Kind != tfo.AlarmShortage || a.Errno != "EMFILE" {
			t.Errorf("alarm %+v", a)
		}
	})
}

func TestListenErrors(t *testing.T) {
	ns := newNetNS(t)
	arrived := func(*tfo.Arrival) {}
	if _, err := tfo.Listen(tfo.ListenConfig{Addr: anyPort, NetNS: ns}); err == nil {
		t.Error("nobody takes the arrivals, and no error")
	}
	l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns})
	if _, err := tfo.Listen(tfo.ListenConfig{Addr: l.Addr(), NetNS: ns, Arrived: arrived}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a port in use: %v", err)
	}
	if _, err := tfo.Listen(tfo.ListenConfig{Addr: anyPort, NetNS: "/nowhere", Arrived: arrived}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a namespace that is not there: %v", err)
	}
	if _, err := tfo.Listen(tfo.ListenConfig{Addr: anyPort, NetNS: ns, Keys: make([]tfo.Key, 3), Arrived: arrived}); err == nil {
		t.Error("three keys, and no error")
	}
}
