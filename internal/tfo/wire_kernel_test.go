package tfo_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/tfo"
)

// script is a sequence of attempts known beforehand.
type script struct {
	remote   netip.AddrPort
	attempts []tfo.Attempt
	evidence []tfo.Evidence
	over     func()
}

func (s *script) Remote() netip.AddrPort { return s.remote }
func (s *script) Over(bool)              { s.over() }
func (s *script) Next(last *tfo.Evidence) (tfo.Attempt, bool) {
	if last != nil {
		s.evidence = append(s.evidence, *last)
	}
	if len(s.evidence) == len(s.attempts) {
		return tfo.Attempt{}, false
	}
	return s.attempts[len(s.evidence)], true
}

// try runs attempts of these kinds against each remote, all remotes at once.
func try(t *testing.T, e *tfo.Engine, timeout time.Duration, remotes []netip.AddrPort, kinds ...tfo.Kind) [][]tfo.Evidence {
	t.Helper()
	var wg sync.WaitGroup
	var scripts []*script
	for _, r := range remotes {
		s := &script{remote: r, over: wg.Done}
		for _, k := range kinds {
			s.attempts = append(s.attempts, tfo.Attempt{Kind: k, Payload: request, Timeout: timeout})
		}
		wg.Add(1)
		scripts = append(scripts, s)
		e.Start(s)
	}
	wg.Wait()
	var all [][]tfo.Evidence
	for _, s := range scripts {
		all = append(all, s.evidence)
	}
	return all
}

var request = []byte("HEAD / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")

func newEngine(t *testing.T, ns string) *tfo.Engine {
	t.Helper()
	e, err := tfo.NewEngine(tfo.Config{Concurrency: 256, NetNS: tfo.NetNS(ns)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	if st := e.Capture(); st.Absent != "" {
		t.Fatalf("no capture: %s", st.Absent)
	}
	return e
}

const plain, ask, data = tfo.KindPlain, tfo.KindRequest, tfo.KindData

// TestWireOnThePaths checks what the wire shows against what each path of the
// lab is known to do, over both families.
func TestWireOnThePaths(t *testing.T) {
	labtest.Need(t)
	t.Parallel()
	n := len(request)
	tests := []struct {
		path  string
		kinds []tfo.Kind
		check func(t *testing.T, ev []tfo.Evidence)
	}{
		{"clean", []tfo.Kind{plain, ask, data, data}, func(t *testing.T, ev []tfo.Evidence) {
			for i, want := range []uint8{0, 34, 34, 34} {
				w := ev[i].Wire
				if w.Syn.OptionKind != want || w.Syns != 1 || w.SynAcks != 1 || w.AfterSyns != 1 || w.RetransmitsBare != tfo.NotTried || len(w.Packets) != 2 {
					t.Errorf("attempt %d: %+v", i, w)
				}
				if w.Syn.MSS == 0 || w.Syn.WindowScale == tfo.NotKnown || !w.Syn.SACKPermitted || !w.Syn.Timestamps || w.SynAck.TSEcr != w.Syn.TSVal {
					t.Errorf("attempt %d: SYN %+v, SYN-ACK %+v", i, w.Syn, w.SynAck)
				}
			}
			cookie := ev[1].CookieAfter.Bytes
			if got := ev[1].Wire.SynAck; got.OptionKind != 34 || len(cookie) != 8 || !bytes.Equal(got.Cookie, cookie) || ev[1].Wire.Syn.Cookie != nil {
				t.Errorf("request: %+v, cached %x", got, cookie)
			}
			for _, e := range ev[2:] {
				if w := e.Wire; !bytes.Equal(w.Syn.Cookie, cookie) || w.Syn.Payload != n || w.Acked != n || w.SynAck.OptionKind != 0 {
					t.Errorf("data: %+v", w)
				}
			}
			readBack(t, ev)
		}},
		{"no-tfo", []tfo.Kind{ask, ask, ask}, func(t *testing.T, ev []tfo.Evidence) {
			for i, want := range []uint8{34, 254, 34} {
				if w := ev[i].Wire; w.Syn.OptionKind != want || ev[i].OptionKind != want || w.SynAck.OptionKind != 0 {
					t.Errorf("request %d: %+v", i, w)
				}
			}
		}},
		{"exp-only", []tfo.Kind{ask, ask, data}, func(t *testing.T, ev []tfo.Evidence) {
			if w := ev[1].Wire; w.Syn.OptionKind != 254 || w.SynAck.OptionKind != 254 || !bytes.Equal(w.SynAck.Cookie, ev[1].CookieAfter.Bytes) {
				t.Errorf("second request: %+v", w)
			}
			if w := ev[2].Wire; w.Syn.OptionKind != 254 || w.Acked != n || len(w.Syn.Cookie) != 8 {
				t.Errorf("data: %+v", w)
			}
		}},
		{"mirrored", []tfo.Kind{ask, ask}, func(t *testing.T, ev []tfo.Evidence) {
			for i, e := range ev {
				// The kernel takes the empty option for an answer and never
				// tries kind 254.
				if w := e.Wire; !w.SynAck.Mirrored() || e.OptionKind != 34 || e.CookieAfter.State != tfo.CookieNone {
					t.Errorf("request %d: kind %d, %+v", i, e.OptionKind, w)
				}
			}
		}},
		{"cookie-odd", []tfo.Kind{ask}, func(t *testing.T, ev []tfo.Evidence) {
			if w := ev[0].Wire; len(w.SynAck.Cookie) != 7 || w.SynAck.CookieUsable() || ev[0].CookieAfter.State != tfo.CookieNone {
				t.Errorf("%+v", w)
			}
		}},
		{"cookie-long", []tfo.Kind{ask, data}, func(t *testing.T, ev []tfo.Evidence) {
			if w := ev[0].Wire; len(w.SynAck.Cookie) != 16 || !w.SynAck.CookieUsable() {
				t.Errorf("request: %+v", w)
			}
			if w := ev[1].Wire; len(w.Syn.Cookie) != 16 || w.Acked != 0 || len(w.SynAck.Cookie) != 16 {
				t.Errorf("data: %+v", w)
			}
		}},
		{"data-truncated", []tfo.Kind{ask, data}, func(t *testing.T, ev []tfo.Evidence) {
			if w := ev[1].Wire; w.Acked != 20 || w.Syn.Payload != n || w.OverAcked {
				t.Errorf("%+v", w)
			}
		}},
		{"data-dropped", []tfo.Kind{ask, data}, func(t *testing.T, ev []tfo.Evidence) {
			if w := ev[1].Wire; w.Syns != 2 || w.RetransmitsBare != tfo.Yes || w.Syn.Payload != n || w.AfterSyns != 2 || w.Acked != 0 || w.SynAcks != 1 {
				t.Errorf("%+v", w)
			}
		}},
		{"data-reset", []tfo.Kind{ask, data}, func(t *testing.T, ev []tfo.Evidence) {
			if w := ev[1].Wire; w.Resets != 1 || w.ResetHandshake || w.ResetTTL == 0 || w.SynAcks != 0 || w.Acked != tfo.NotKnown {
				t.Errorf("%+v", w)
			}
		}},
		{"data-icmp", []tfo.Kind{ask, data}, func(t *testing.T, ev []tfo.Evidence) {
			typ, code := uint8(3), uint8(13)
			if ev[1].Remote.Addr().Is6() {
				typ, code = 1, 1
			}
			if w := ev[1].Wire; w.ICMPErrors != 1 || w.ICMPType != typ || w.ICMPCode != code || !w.ICMPFrom.IsValid() || w.Resets != 0 {
				t.Errorf("%+v", w)
			}
		}},
		{"refused", []tfo.Kind{plain, ask}, func(t *testing.T, ev []tfo.Evidence) {
			for _, e := range ev {
				if w := e.Wire; w.Resets != 1 || w.SynAcks != 0 {
					t.Errorf("%v: %+v", e.Kind, w)
				}
			}
		}},
		{"over-ack", []tfo.Kind{ask, data}, func(t *testing.T, ev []tfo.Evidence) {
			if w := ev[1].Wire; !w.OverAcked || w.Acked != n+100 || w.SynAcks == 0 || ev[1].End != tfo.EndTimeout {
				t.Errorf("%v, %+v", ev[1].End, w)
			}
		}},
		{"peer-late-cookie", []tfo.Kind{ask}, func(t *testing.T, ev []tfo.Evidence) {
			if w := ev[0].Wire; w.Syns != 2 || w.AfterSyns != 2 || w.RetransmitsBare != tfo.Yes || !w.SynAck.CookieUsable() || !bytes.Equal(w.SynAck.Cookie, ev[0].CookieAfter.Bytes) {
				t.Errorf("%+v", w)
			}
		}},
		{"peer-both-kinds", []tfo.Kind{ask}, func(t *testing.T, ev []tfo.Evidence) {
			// The kernel takes the last.
			if w := ev[0].Wire; !w.SynAck.BothKinds || w.SynAck.OptionKind != 254 || !bytes.Equal(w.SynAck.Cookie, ev[0].CookieAfter.Bytes) {
				t.Errorf("%+v", w)
			}
		}},
		{"peer-unsolicited", []tfo.Kind{plain}, func(t *testing.T, ev []tfo.Evidence) {
			if w := ev[0].Wire; w.Syn.OptionKind != 0 || w.SynAck.OptionKind == 0 || ev[0].CookieAfter.State != tfo.CookieNone {
				t.Errorf("%+v", w)
			}
		}},
		{"peer-synack-data", []tfo.Kind{ask, data}, func(t *testing.T, ev []tfo.Evidence) {
			if w := ev[1].Wire; w.SynAck.Payload == 0 || w.Acked != n || ev[1].End != tfo.EndResponse {
				t.Errorf("%+v", w)
			}
		}},
		{"peer-over-ack", []tfo.Kind{ask, data}, func(t *testing.T, ev []tfo.Evidence) {
			// The first SYN-ACK acknowledges too much, the one to the bare SYN
			// does not and is the one that counts.
			if w := ev[1].Wire; !w.OverAcked || w.Acked > n || w.SynAcks < 2 || w.AfterSyns < 2 || !ev[1].End.Established() {
				t.Errorf("%v, %+v", ev[1].End, w)
			}
		}},
		{"dead", []tfo.Kind{plain}, func(t *testing.T, ev []tfo.Evidence) {
			if w := ev[0].Wire; w.Syns < 1 || w.SynAcks+w.Resets+w.ICMPErrors != 0 {
				t.Errorf("%+v", w)
			}
		}},
	}
	var paths []lab.Path
	for _, p := range lab.Catalogue() {
		if slices.ContainsFunc(tests, func(tt struct {
			path  string
			kinds []tfo.Kind
			check func(t *testing.T, ev []tfo.Evidence)
		}) bool {
			return tt.path == p.Name
		}) {
			paths = append(paths, p)
		}
	}
	l := labtest.New(t, lab.Config{Paths: paths})
	e := newEngine(t, l.ClientNetNS())
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			t.Parallel()
			p, ok := l.Target(tt.path)
			if !ok {
				t.Fatal("no such path")
			}
			var remotes []netip.AddrPort
			for _, a := range append(p.Addrs4(1), p.Addrs6(1)...) {
				remotes = append(remotes, netip.AddrPortFrom(a, p.Port))
			}
			for i, ev := range try(t, e, 1500*time.Millisecond, remotes, tt.kinds...) {
				for j := range ev {
					if ev[j].Wire == nil {
						t.Fatalf("%v attempt %d: nothing seen: %s", remotes[i], j, ev[j].WireAbsent)
					}
					agree(t, &ev[j])
				}
				if !t.Failed() {
					tt.check(t, ev)
				}
			}
		})
	}
}

// readBack writes the packets of attempts to a file as Wireshark takes it, and
// reads their number back.
func readBack(t *testing.T, attempts []tfo.Evidence) {
	t.Helper()
	var buf bytes.Buffer
	if err := tfo.WritePCAPNG(&buf, "a path of the lab", attempts, nil); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&buf, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	packets := -1
	for ; err == nil; packets++ {
		_, _, err = r.ReadPacketData()
	}
	if want := 2 * len(attempts); packets != want || err != io.EOF {
		t.Errorf("%d packets read back, want %d: %v", packets, want, err)
	}
}

// agree checks the wire against what the kernel told of the same attempt.
func agree(t *testing.T, ev *tfo.Evidence) {
	t.Helper()
	w := ev.Wire
	if ev.WireAbsent != "" || w.Incomplete {
		t.Errorf("%q, incomplete %v", ev.WireAbsent, w.Incomplete)
	}
	if ev.OptionKind != w.Syn.OptionKind || ev.SynBytes != w.Syn.Payload {
		t.Errorf("kind %d with %d bytes in the kernel's words, %d with %d on the wire", ev.OptionKind, ev.SynBytes, w.Syn.OptionKind, w.Syn.Payload)
	}
	if ev.End.Established() && (ev.SynAcked != w.Acked || w.SynAcks == 0 || ev.SynRetransmits != w.Syns-1) {
		t.Errorf("%d acked and %d retransmissions in the kernel's words, on the wire %+v", ev.SynAcked, ev.SynRetransmits, w)
	}
	for i, p := range w.Packets {
		if len(p.Data) == 0 || len(p.Data) > 160 || p.Length < len(p.Data) || p.Time.Before(ev.Start.Add(-time.Second)) || p.Time.After(ev.Start.Add(time.Minute)) {
			t.Errorf("packet %d: %d of %d bytes at %v", i, len(p.Data), p.Length, p.Time)
		}
	}
}

// TestWireOnLoopback: there each packet passes the tap twice.
func TestWireOnLoopback(t *testing.T) {
	labtest.Need(t)
	t.Parallel()
	l := labtest.New(t, lab.Config{Paths: []lab.Path{}})
	remotes := map[string]netip.AddrPort{}
	labtest.InClient(t, l, func() error {
		for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
			ln := listen(t, addr)
			remotes["open "+addr] = ln.Addr().(*net.TCPAddr).AddrPort()
			shut := listen(t, addr)
			remotes["closed "+addr] = shut.Addr().(*net.TCPAddr).AddrPort()
			shut.Close()
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					c.Close()
				}
			}()
		}
		return nil
	})
	e := newEngine(t, l.ClientNetNS())
	for name, r := range remotes {
		for _, ev := range try(t, e, time.Second, []netip.AddrPort{r}, plain, ask)[0] {
			w := ev.Wire
			if w == nil {
				t.Errorf("%s: %s", name, ev.WireAbsent)
				continue
			}
			agree(t, &ev)
			if want := map[bool][2]int{true: {1, 0}, false: {0, 1}}[name[0] == 'o']; w.Syns != 1 || w.SynAcks != want[0] || w.Resets < want[1] {
				t.Errorf("%s: %+v", name, w)
			}
		}
	}
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// TestWireRingOverflow: the evidence of an attempt that was under way when the
// ring was full says so, one that comes later does not.
func TestWireRingOverflow(t *testing.T) {
	labtest.Need(t)
	t.Parallel()
	var silent []lab.Path
	for _, p := range lab.Catalogue() {
		if p.Name == "silent" {
			silent = append(silent, p)
		}
	}
	l := labtest.New(t, lab.Config{Paths: silent})
	e := newEngine(t, l.ClientNetNS())
	p, _ := l.Target("silent")
	remote := netip.AddrPortFrom(p.V4, p.Port)

	var evs [][]tfo.Evidence
	running := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		close(running)
		evs = try(t, e, 2*time.Second, []netip.AddrPort{remote}, plain)
	}()
	<-running
	for begin := time.Now(); e.Capture().Packets < 2; runtime.Gosched() {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the attempt never came by")
		}
	}
	resume := e.StallCapture()
	labtest.InClient(t, l, func() error {
		sa := &unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}}
		for range tfo.RingFrames/2 + 100 { // a SYN and a RST each
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err := unix.Connect(fd, sa); err != unix.ECONNREFUSED {
				t.Errorf("connect to a closed port: %v", err)
			}
			unix.Close(fd)
		}
		return nil
	})
	resume()
	<-done
	if st := e.Capture(); st.Drops == 0 {
		t.Fatalf("nothing was dropped: %+v", st)
	}
	ev := evs[0][0]
	if ev.End != tfo.EndSilent || ev.Wire == nil || !ev.Wire.Incomplete || ev.Wire.SynAcks != 1 {
		t.Errorf("under way: %v, %+v, %q", ev.End, ev.Wire, ev.WireAbsent)
	}
	ev = try(t, e, 100*time.Millisecond, []netip.AddrPort{remote}, plain)[0][0]
	if ev.Wire == nil || ev.Wire.Incomplete || ev.Wire.SynAcks != 1 {
		t.Errorf("after: %+v, %q", ev.Wire, ev.WireAbsent)
	}
}

// TestWireWithoutTheRight: without CAP_NET_RAW attempts are made all the same.
func TestWireWithoutTheRight(t *testing.T) {
	labtest.Need(t)
	var e *tfo.Engine
	done := make(chan error)
	go func() {
		// The thread ends with the goroutine, its lost capability with it.
		runtime.LockOSThread()
		done <- func() (err error) {
			hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var caps [2]unix.CapUserData
			if err := unix.Capget(&hdr, &caps[0]); err != nil {
				return err
			}
			caps[0].Effective &^= 1 << unix.CAP_NET_RAW
			if err := unix.Capset(&hdr, &caps[0]); err != nil {
				return err
			}
			e, err = tfo.NewEngine(tfo.Config{Concurrency: 1})
			return err
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	if st := e.Capture(); st.Absent != tfo.WireNoRight {
		t.Errorf("stats %+v", st)
	}
	ln := listen(t, "127.0.0.1:0")
	remote := ln.Addr().(*net.TCPAddr).AddrPort()
	ln.Close()
	ev := try(t, e, time.Second, []netip.AddrPort{remote}, plain)[0][0]
	if ev.Wire != nil || ev.WireAbsent != tfo.WireNoRight || ev.End != tfo.EndRefused {
		t.Errorf("%v, %+v, %q", ev.End, ev.Wire, ev.WireAbsent)
	}
}

// TestWireOff: the switch works, and what is not sent is not seen.
func TestWireOff(t *testing.T) {
	labtest.Need(t)
	t.Parallel()
	l := labtest.New(t, lab.Config{Paths: []lab.Path{}})
	e, err := tfo.NewEngine(tfo.Config{Concurrency: 1, NetNS: tfo.NetNS(l.ClientNetNS()), Capture: tfo.CaptureOff})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	nowhere := netip.MustParseAddrPort("192.0.2.1:80") // no route in the lab
	if ev := try(t, e, time.Second, []netip.AddrPort{nowhere}, plain)[0][0]; ev.WireAbsent != tfo.WireOff {
		t.Errorf("%+v", ev)
	}
	on := newEngine(t, l.ClientNetNS())
	if ev := try(t, on, time.Second, []netip.AddrPort{nowhere}, plain)[0][0]; ev.WireAbsent != tfo.WireNothing || ev.End != tfo.EndLocal {
		t.Errorf("%+v", ev)
	}
}
