package measure_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// farEnd is a path's other end: listeners of our own in the places of the
// lab's servers, and what they saw.
type farEnd struct {
	listeners []*tfo.Listener
	keys      []tfo.Key

	mu       sync.Mutex
	arrivals []*tfo.Arrival
	alarms   []tfo.Alarm
	changed  chan struct{} // has room for one
}

// ours puts a listener of our own in the place of every server of a path that
// has Fast Open, and of every server behind a proxy.
func ours(p lab.Path) lab.Path {
	p.Servers = slices.Clone(p.Servers)
	for i := range p.Servers {
		if p.Servers[i].TFO != lab.TFOOff || p.Proxy != nil {
			p.Servers[i].App = lab.Yours
		}
	}
	return p
}

// listenAt opens the listeners that the paths of a lab lack. Adjust changes
// their configuration; nil leaves it.
func listenAt(t *testing.T, l *lab.Lab, adjust func(*tfo.ListenConfig)) *farEnd {
	t.Helper()
	f := &farEnd{changed: make(chan struct{}, 1)}
	seen := map[lab.Server]bool{}
	for _, p := range l.Targets() {
		for _, s := range p.Servers {
			if s.App != lab.Yours || seen[s] {
				continue
			}
			seen[s] = true
			port, ok := l.ServerPort(s)
			if !ok {
				t.Fatalf("%s: no port for %+v", p.Name, s)
			}
			cfg := tfo.ListenConfig{
				Addr: netip.AddrPortFrom(netip.IPv6Unspecified(), port), NetNS: tfo.NetNS(l.ServersNetNS()),
				NoCookie: s.TFO == lab.TFONoCookie, Patience: 2 * time.Second,
				Arrived: func(a *tfo.Arrival) { f.note(func() { f.arrivals = append(f.arrivals, a) }) },
				Alarm:   func(a tfo.Alarm) { f.note(func() { f.alarms = append(f.alarms, a) }) },
			}
			if s.Key != (lab.Key{}) {
				cfg.Keys = []tfo.Key{tfo.Key(s.Key)}
				f.keys = append(f.keys, tfo.Key(s.Key))
			}
			if adjust != nil {
				adjust(&cfg)
			}
			ln, err := tfo.Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close() })
			f.listeners = append(f.listeners, ln)
		}
	}
	if len(f.listeners) == 0 {
		t.Fatal("no path lacks a listener")
	}
	return f
}

func (f *farEnd) note(what func()) {
	f.mu.Lock()
	what()
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// close ends the listeners; all they saw is in then.
func (f *farEnd) close() {
	for _, l := range f.listeners {
		l.Close()
	}
	slices.SortFunc(f.arrivals, func(a, b *tfo.Arrival) int { return a.Accepted.Compare(b.Accepted) })
}

// at lists what arrived at an address, in order.
func (f *farEnd) at(addr netip.Addr) (as []*tfo.Arrival) {
	for _, a := range f.arrivals {
		if a.Local.Addr() == addr {
			as = append(as, a)
		}
	}
	return as
}

// view tells what became of the Fast Open attempts of a measurement at the far
// end, each as "what was sent -> what arrived", without repetitions.
func (f *farEnd) view(p lab.Placed, m measure.Measurement) (lines []string) {
	left := f.at(m.Addr)
	all := slices.Clone(left)
	for i := range m.Attempts {
		ev := &m.Attempts[i]
		j := 0 // behind a proxy nothing but the order tells
		if p.Proxy == nil {
			j = slices.IndexFunc(left, func(a *tfo.Arrival) bool { return a.Peer.Port() == ev.Local.Port() })
		}
		line := "nothing"
		if j >= 0 && j < len(left) {
			line = f.line(ev, left[j], all)
			left = slices.Delete(left, j, j+1)
		}
		if ev.Kind == tfo.KindPlain {
			continue
		}
		what := "request"
		if ev.SynBytes > 0 {
			what = "data"
		}
		line = fmt.Sprintf("%d %s -> %s", ev.OptionKind, what, line)
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// line tells what arrived of one attempt. All are the arrivals at the address.
func (f *farEnd) line(ev *tfo.Evidence, a *tfo.Arrival, all []*tfo.Arrival) string {
	var parts []string
	add := func(when bool, format string, args ...any) {
		if when {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	kind, cookie := a.SYN.Options.FastOpenKind, a.SYN.Options.FastOpen().Cookie
	otherISN := ev.Wire != nil && a.SYN.Raw != nil && a.SYN.Seq != ev.Wire.Syn.Seq
	add(otherISN || a.Peer.Port() != ev.Local.Port(), "another connection")
	switch a.Claim {
	case tfo.ClaimUnseen:
		add(true, "no SYN kept")
	case tfo.ClaimNone:
		add(true, "no option")
	case tfo.ClaimStale:
		add(true, "%d %s", kind, f.whose(a, cookie, all))
	default:
		add(true, "%d %v", kind, a.Claim)
	}
	add(len(cookie) > 0 && !bytes.Equal(cookie, ev.CookieBefore.Bytes), "changed on the way")
	switch {
	case ev.SynBytes == 0 || a.Claim == tfo.ClaimUnseen:
	case a.SynBytes == ev.SynBytes:
		add(true, "all data")
	case a.SynBytes == 0:
		add(true, "no data")
	default:
		add(true, "%d bytes of data", a.SynBytes)
	}
	add(a.SynBytes > a.SynTaken, "not taken")
	add(a.SynBytes == 0 && a.Child == tfo.Yes, "child")
	add(a.HandshakeNS == tfo.NotKnown, "handshake never complete")
	add(a.End != tfo.ArrivalServed, "%v", a.End)
	return strings.Join(parts, ", ")
}

// whose says where a cookie comes from that the listener did not give to this
// client for this address.
func (f *farEnd) whose(a *tfo.Arrival, cookie []byte, all []*tfo.Arrival) string {
	for _, k := range f.keys {
		if c := k.Cookie(a.Peer.Addr(), a.Local.Addr()); bytes.Equal(c[:], cookie) {
			return "of another key"
		}
		for _, b := range all {
			if c := k.Cookie(b.Peer.Addr(), a.Local.Addr()); bytes.Equal(c[:], cookie) {
				return "of another client"
			}
		}
	}
	return "never issued"
}

// TestListenerTellsApart puts our own listener behind the faults of the lab.
// The paths of a group are one and the same to the client, what it sees on the
// wire included: the same verdict, the same conditions. What the listener saw
// tells them apart.
func TestListenerTellsApart(t *testing.T) {
	t.Parallel()
	type row struct {
		path string
		far  []string // see farEnd.view
	}
	asked34, asked254, valid := "34 request -> 34 request", "254 request -> 254 request", "34 data -> 34 valid, all data"
	groups := []struct {
		client measure.Verdict
		rows   []row
	}{
		{measure.Supported, []row{
			{"clean", []string{asked34, valid}},
			{"34-to-254", []string{"34 request -> 254 request", "34 data -> 254 valid, all data"}},
			{"proxy", []string{"34 request -> another connection, no option", "34 data -> another connection, no option, no data"}}, // M24
		}},
		{measure.Supported, []row{
			{"exp-only", []string{"34 request -> no option", asked254, "254 data -> 254 valid, all data"}}, // M21
		}},
		{measure.Unsupported, []row{
			{"option-stripped", []string{"34 request -> no option", "254 request -> no option"}},                                      // M2
			{"cookie-stripped", []string{asked34, asked254}},                                                                          // M3; M4: TestListenerWithholds
			{"cookieless", []string{asked34 + ", child", asked254 + ", child"}},                                                       // M22
			{"proxy-no-tfo", []string{"34 request -> another connection, no option", "254 request -> another connection, no option"}}, // M24
		}},
		{measure.CookieOnly, []row{
			{"data-stripped", []string{asked34, "34 data -> 34 valid, no data, child"}},              // M6
			{"data-option-stripped", []string{asked34, "34 data -> no option, all data, not taken"}}, // M7
			{"data-and-option-stripped", []string{asked34, "34 data -> no option, no data"}},         // M6 and M7
			{"data-ignored", []string{asked34, "34 data -> nothing"}},                                // M12: another server of the farm; the queue: TestListenerWithholds
		}},
		{measure.CookieOnly, []row{ // the wire shows a cookie in answer to the cookie
			{"cookie-flipped", []string{asked34, "34 data -> 34 never issued, all data, not taken"}},                           // M20
			{"cookie-flipped-there", []string{asked34, "34 data -> 34 never issued, changed on the way, all data, not taken"}}, // M20
			{"cookie-emptied", []string{asked34, "34 data -> 34 request, all data, not taken"}},                                // M7
		}},
		{measure.CookieOnly, []row{
			{"cookie-short", []string{asked34, "34 data -> 34 never issued, all data, not taken"}}, // M20
		}},
		{measure.CookieUnstable, []row{
			{"cgn", []string{asked34, "34 data -> 34 of another client, all data, not taken"}},      // M9
			{"farm", []string{asked34, "34 data -> 34 of another key, all data, not taken"}},        // M10
			{"cookie-random", []string{asked34, "34 data -> 34 never issued, all data, not taken"}}, // M20
		}},
		{measure.OptionDropped, []row{
			{"option-dropped", []string{"34 request -> no option"}}, // M1: the SYN that arrived is the bare one sent again
		}},
		{measure.DataDropped, []row{
			{"data-dropped", []string{asked34, "34 data -> no option, no data"}}, // M5: likewise
		}},
		{measure.DataTruncated, []row{
			{"data-truncated", []string{asked34, "34 data -> 34 valid, 20 bytes of data"}}, // M8
		}},
		{measure.Reset, []row{
			{"data-reset", []string{asked34, "34 data -> nothing"}}, // M13
		}},
		{measure.FlowBlackholed, []row{
			{"flow-dead", []string{asked34, "34 data -> nothing"}}, // M15
		}},
		{measure.BlackholedAfterHandshake, []row{
			{"answer-lost", []string{asked34, valid + ", unacked"}},                                    // M16
			{"dead-after-handshake", []string{asked34, valid + ", handshake never complete, unacked"}}, // M17
		}},
	}

	rows := map[string]row{}
	for _, g := range groups {
		for _, r := range g.rows {
			rows[r.path] = r
		}
	}
	var paths []lab.Path
	for _, p := range lab.Catalogue() {
		if _, ok := rows[p.Name]; ok {
			paths = append(paths, ours(p))
		}
	}
	l := labtest.New(t, lab.Config{Seed: 1, Paths: paths})
	far := listenAt(t, l, nil)
	var places []lab.Placed
	var targets []measure.Target
	for _, p := range l.Targets() {
		for _, a := range []netip.Addr{p.V4, p.V6} {
			if a.IsValid() {
				places = append(places, p)
				targets = append(targets, measure.Target{Addr: a, Port: p.Port})
			}
		}
	}
	ms := survey(t, l, measure.Standard, targets)
	far.close()
	if len(far.alarms) > 0 {
		t.Errorf("alarms: %+v", far.alarms)
	}

	of := map[string][]measure.Measurement{} // by path, a family each
	for i, m := range ms {
		p := places[i]
		of[p.Name] = append(of[p.Name], m)
		if got, want := far.view(p, m), rows[p.Name].far; !slices.Equal(got, want) {
			t.Errorf("%s, %v: the listener saw\n\t%s\nwant\n\t%s\nclient: %s", p.Name, m.Addr, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"), describe(m))
		}
	}
	for _, g := range groups {
		seen := map[string]string{}
		for _, r := range g.rows {
			view := strings.Join(r.far, "; ")
			if other, ok := seen[view]; ok {
				t.Errorf("%s and %s are one to the listener too", r.path, other)
			}
			seen[view] = r.path
			if len(of[r.path]) == 0 {
				t.Errorf("no path %s", r.path)
			}
			for i, m := range of[r.path] {
				if first := of[g.rows[0].path][i]; m.Verdict != g.client || !slices.Equal(ofTarget(m), ofTarget(first)) {
					t.Errorf("the client tells %s from %s, or from %v: %s\n%s", r.path, g.rows[0].path, g.client, describe(m), describe(first))
				}
			}
		}
	}
}

// ofTarget leaves out what a measurement says of the machine it was made on.
func ofTarget(m measure.Measurement) []measure.Condition {
	return slices.DeleteFunc(slices.Clone(m.Conditions), func(c measure.Condition) bool { return strings.HasPrefix(string(c), "tfo.vantage.") })
}
