package measure_test

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// series is attempts known from the start.
type series struct {
	remote   netip.AddrPort
	attempts []tfo.Attempt
	evidence []tfo.Evidence
	over     chan struct{}
}

func (s *series) Remote() netip.AddrPort { return s.remote }
func (s *series) Over(bool)              { close(s.over) }

func (s *series) Next(last *tfo.Evidence) (tfo.Attempt, bool) {
	if last != nil {
		s.evidence = append(s.evidence, *last)
	}
	if n := len(s.evidence); n < len(s.attempts) {
		return s.attempts[n], true
	}
	return tfo.Attempt{}, false
}

// try makes one attempt of each kind, in order. A request begins with an empty
// cache.
func try(t *testing.T, l *lab.Lab, to netip.AddrPort, timeout time.Duration, kinds ...tfo.Kind) []tfo.Evidence {
	t.Helper()
	e, err := tfo.NewEngine(tfo.Config{Concurrency: 1, NetNS: tfo.NetNS(l.ClientNetNS())})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	payload := measure.PayloadFor(measure.PayloadHTTP, nil, measure.Target{Addr: to.Addr(), Port: to.Port()})
	s := &series{remote: to, over: make(chan struct{})}
	for _, k := range kinds {
		s.attempts = append(s.attempts, tfo.Attempt{Kind: k, Payload: payload.Bytes, Complete: payload.Complete, ClearCookie: k == tfo.KindRequest, Timeout: timeout})
	}
	e.Start(s)
	<-s.over
	return s.evidence
}

// halfOpen is a path on which the SYN-ACK to a SYN with data is lost: its
// connections stay pending at the listener.
var halfOpen = lab.Path{
	Name: "half-open", Port: 80, Servers: []lab.Server{{App: lab.Yours, TFO: lab.TFOOn, Key: lab.KeyA}},
	Rules: []lab.Rule{
		{On: lab.Forward, If: lab.SYN.And(lab.Data), Do: lab.SetMark(lab.Mark1)},
		{On: lab.Return, If: lab.Marked(lab.Mark1), Do: lab.Drop},
	},
}

const shortQueue = 2

// fill makes the queue of pending connections full.
func (f *farEnd) fill(t *testing.T, l *lab.Lab) {
	t.Helper()
	p, _ := l.Target(halfOpen.Name)
	kinds := append([]tfo.Kind{tfo.KindRequest}, slices.Repeat([]tfo.Kind{tfo.KindData}, shortQueue)...)
	try(t, l, netip.AddrPortFrom(p.V4, p.Port), 200*time.Millisecond, kinds...)
	deadline := time.After(20 * time.Second)
	for {
		f.mu.Lock()
		full := slices.ContainsFunc(f.alarms, func(a tfo.Alarm) bool { return a.Kind == tfo.AlarmQueueNear && a.InUse == shortQueue })
		f.mu.Unlock()
		if full {
			return
		}
		select {
		case <-f.changed:
		case <-deadline:
			t.Fatalf("the queue is not full: %+v", f.alarms)
		}
	}
}

// alarmed lists the kinds of the alarms, without repetitions.
func (f *farEnd) alarmed() (kinds []tfo.AlarmKind) {
	for _, a := range f.alarms {
		if !slices.Contains(kinds, a.Kind) {
			kinds = append(kinds, a.Kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// withheldLab has the paths of the tests below, with our own listener behind
// them.
func withheldLab(t *testing.T) *lab.Lab {
	paths := []lab.Path{halfOpen}
	for _, p := range lab.Catalogue() {
		if slices.Contains([]string{"clean", "cookie-stripped", "cookieless", "cgn"}, p.Name) {
			paths = append(paths, ours(p))
		}
	}
	return labtest.New(t, lab.Config{Seed: 1, Paths: paths})
}

// TestListenerWithholds: a listener that holds Fast Open back looks to its
// client like a path that takes it away. Its alarms, and the counters of a
// namespace in which nothing else happens, tell which it is.
func TestListenerWithholds(t *testing.T) {
	t.Parallel()
	asked := []string{"34 request -> 34 request", "254 request -> 254 request"}
	l := withheldLab(t)
	for i, tt := range []struct {
		name   string
		path   string
		sysctl [2]string // name and value
		full   bool      // the queue
		want   measure.Verdict
		far    []string // see farEnd.view
		moved  map[tfo.Counter]int64
		alarms []tfo.AlarmKind
	}{
		{name: "nothing is wrong", path: "clean", want: measure.Supported, far: []string{asked[0], "34 data -> 34 valid, all data"},
			moved: map[tfo.Counter]int64{tfo.CountCookieReqd: 1, tfo.CountPassive: 2}},
		{name: "M3: the cookie is lost on the way back", path: "cookie-stripped", want: measure.Unsupported, far: asked,
			moved: map[tfo.Counter]int64{tfo.CountCookieReqd: 3}},
		{name: "M4: Fast Open is off for listeners", path: "clean", sysctl: [2]string{"tcp_fastopen", "1"}, want: measure.Unsupported, far: asked,
			// Counted before the kernel looks whether it may answer (tcp_try_fastopen, net/ipv4/tcp_fastopen.c).
			moved: map[tfo.Counter]int64{tfo.CountCookieReqd: 3}, alarms: []tfo.AlarmKind{tfo.AlarmServerOff}},
		{name: "M12: SYN cookies are sent", path: "clean", sysctl: [2]string{"tcp_syncookies", "2"}, want: measure.Unsupported,
			far:   []string{"34 request -> no SYN kept", "254 request -> no SYN kept"},
			moved: map[tfo.Counter]int64{tfo.CountSyncookies: 5}, alarms: []tfo.AlarmKind{tfo.AlarmSyncookies}},
		{name: "M12: the queue is full", path: "clean", full: true, want: measure.Unsupported, far: asked,
			moved:  map[tfo.Counter]int64{tfo.CountCookieReqd: 3, tfo.CountListenOverflow: 3},
			alarms: []tfo.AlarmKind{tfo.AlarmQueueNear, tfo.AlarmQueueOverflow}},
		{name: "M22: no cookie is needed", path: "cookieless", want: measure.Unsupported, far: []string{asked[0] + ", child", asked[1] + ", child"},
			moved: map[tfo.Counter]int64{tfo.CountCookieReqd: 3, tfo.CountPassive: 3}},
		{name: "M9: the client's address changes", path: "cgn", want: measure.CookieUnstable, far: []string{asked[0], "34 data -> 34 of another client, all data, not taken"},
			moved: map[tfo.Counter]int64{tfo.CountCookieReqd: 1, tfo.CountPassiveFail: 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, ok := l.Target(tt.path)
			if !ok {
				t.Fatalf("no path %s", tt.path)
			}
			setServerSysctl(t, l, tt.sysctl)
			far := listenAt(t, l, func(c *tfo.ListenConfig) {
				c.Patience = 20 * time.Second // nothing leaves the queue meanwhile
				if tt.full {
					c.Queue = shortQueue
				}
			})
			if tt.full {
				far.fill(t, l)
			}
			before := readMIB(t, l)
			m := survey(t, l, measure.Standard, []measure.Target{{Addr: p.Addrs4(i + 1)[i], Port: p.Port}})[0]
			moved := readMIB(t, l).Since(before)
			far.close()
			if m.Verdict != tt.want {
				t.Errorf("want %v, got %s", tt.want, describe(m))
			}
			if got := far.view(p, m); !slices.Equal(got, tt.far) {
				t.Errorf("the listener saw\n\t%s\nwant\n\t%s\nclient: %s", strings.Join(got, "\n\t"), strings.Join(tt.far, "\n\t"), describe(m))
			}
			for c := range tfo.Counter(tfo.Counters) {
				if moved[c] != tt.moved[c] && moved[c] != tfo.NotKnown {
					t.Errorf("%v moved by %d, want %d", c, moved[c], tt.moved[c])
				}
			}
			if got := far.alarmed(); !slices.Equal(got, tt.alarms) {
				t.Errorf("alarms %v, want %v", got, tt.alarms)
			}
		})
	}
}

// TestFullQueueIgnoresData is M12 for a client that has its cookie: the data is
// never acknowledged and the cookie stays good, as where a box takes the data
// or the option away (M6, M7). The listener saw a valid cookie and all the data,
// and counts what it could not take.
func TestFullQueueIgnoresData(t *testing.T) {
	t.Parallel()
	l := withheldLab(t)
	far := listenAt(t, l, func(c *tfo.ListenConfig) { c.Patience, c.Queue = 20*time.Second, shortQueue })
	p, _ := l.Target("clean")
	to := netip.AddrPortFrom(p.V4, p.Port)
	const timeout = 3 * time.Second
	m := measure.Measurement{Target: measure.Target{Addr: p.V4, Port: p.Port}}
	m.Attempts = try(t, l, to, timeout, tfo.KindPlain, tfo.KindRequest)
	far.fill(t, l)
	before := readMIB(t, l)
	m.Attempts = append(m.Attempts, try(t, l, to, timeout, tfo.KindData, tfo.KindData, tfo.KindData, tfo.KindPlain)...)
	moved := readMIB(t, l).Since(before)
	far.close()
	if m.Verdict, m.Conditions = measure.Classify(measure.Standard, m.Attempts); m.Verdict != measure.CookieOnly {
		t.Errorf("want %v, got %s", measure.CookieOnly, describe(m))
	}
	want := []string{"34 request -> 34 request", "34 data -> 34 valid, all data, not taken"}
	if got := far.view(p, m); !slices.Equal(got, want) {
		t.Errorf("the listener saw %q, want %q", got, want)
	}
	if moved[tfo.CountListenOverflow] != 3 || moved[tfo.CountPassive] != 0 || moved[tfo.CountPassiveFail] != 0 {
		t.Errorf("counters moved by %v", moved)
	}
	if got, want := far.alarmed(), []tfo.AlarmKind{tfo.AlarmQueueNear, tfo.AlarmQueueOverflow}; !slices.Equal(got, want) {
		t.Errorf("alarms %v, want %v", got, want)
	}
}

// setServerSysctl changes a sysctl below net.ipv4 of the servers' namespace for
// the length of a test.
func setServerSysctl(t *testing.T, l *lab.Lab, s [2]string) {
	t.Helper()
	if s[0] == "" {
		return
	}
	file := "/proc/sys/net/ipv4/" + s[0] // of the calling thread's namespace
	var before []byte
	labtest.InServers(t, l, func() (err error) {
		if before, err = os.ReadFile(file); err != nil {
			return err
		}
		return os.WriteFile(file, []byte(s[1]), 0)
	})
	t.Cleanup(func() {
		labtest.InServers(t, l, func() error { return os.WriteFile(file, before, 0) })
	})
}

// readMIB reads the counters of the servers' namespace.
func readMIB(t *testing.T, l *lab.Lab) tfo.MIB {
	t.Helper()
	m, err := tfo.ReadMIB(tfo.NetNS(l.ServersNetNS()))
	if err != nil {
		t.Fatal(err)
	}
	return m
}
