package measure_test

import (
	"fmt"
	"net/netip"
	"os"
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

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

// survey measures all targets at once on the real kernel and returns the
// measurements in the order of the targets.
func survey(t *testing.T, l *lab.Lab, plan measure.Plan, targets []measure.Target) []measure.Measurement {
	t.Helper()
	return surveyWithin(t, l, plan, 3*time.Second, targets)
}

// surveyWithin is survey with a timeout for each handshake and response.
func surveyWithin(t *testing.T, l *lab.Lab, plan measure.Plan, timeout time.Duration, targets []measure.Target) []measure.Measurement {
	t.Helper()
	r, err := measure.NewRunner(
		measure.Settings{Plan: plan, Payload: measure.PayloadAuto, Timeout: timeout},
		tfo.Config{Concurrency: len(targets), NetNS: tfo.NetNS(l.ClientNetNS())})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	out := make([]measure.Measurement, len(targets))
	var wg sync.WaitGroup
	for i, target := range targets {
		wg.Add(1)
		r.Submit(target, nil, func(m measure.Measurement) { out[i] = m; wg.Done() })
	}
	wg.Wait()
	return out
}

// describe tells a measurement attempt by attempt.
func describe(m measure.Measurement) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %v", m.Verdict, m.Conditions)
	for _, ev := range m.Attempts {
		fmt.Fprintf(&b, "\n\t%-8v kind %3d syn %d/%d acked %d  %v %s  connect %v rto %d fail %d options %#x  cookie %x -> %x  response %d",
			ev.Kind, ev.OptionKind, ev.SynBytes, ev.Offered, ev.SynAcked, ev.End, ev.Errno, time.Duration(ev.ConnectNS), ev.SynRetransmits,
			ev.ClientFail, ev.TCPIOptions, ev.CookieBefore.Bytes, ev.CookieAfter.Bytes, ev.ResponseBytes)
	}
	return b.String()
}

// TestEveryPath holds the whole way from SYN to verdict to the ground truth of
// every path of the lab, over IPv4 and IPv6.
func TestEveryPath(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Config{Seed: 1})
	var targets []measure.Target
	var paths []lab.Placed
	for _, p := range l.Targets() {
		for _, addr := range []netip.Addr{p.V4, p.V6} {
			if addr.IsValid() {
				targets = append(targets, measure.Target{Addr: addr, Port: p.Port})
				paths = append(paths, p)
			}
		}
	}
	for i, m := range survey(t, l, measure.Standard, targets) {
		family := "v4"
		if m.Addr.Is6() {
			family = "v6"
		}
		t.Run(paths[i].Name+"/"+family, func(t *testing.T) {
			if !paths[i].Is(m.Verdict) {
				t.Errorf("%s: want %v, got %s", paths[i].About, paths[i].Truth, describe(m))
			} else if testing.Verbose() {
				t.Log(describe(m))
			}
		})
	}
}

// TestLossBlamesNobody measures 1,000 healthy targets over a path that loses
// 2 % of all frames each way. Not one may be given a fault.
func TestLossBlamesNobody(t *testing.T) {
	l := labtest.New(t, lab.Config{Seed: 7})
	var targets []measure.Target
	for _, p := range l.Targets() {
		if p.Name == "clean-loss" {
			for _, a := range append(p.Addrs4(500), p.Addrs6(500)...) {
				targets = append(targets, measure.Target{Addr: a, Port: p.Port})
			}
		}
	}
	if len(targets) != 1000 {
		t.Fatalf("%d targets", len(targets))
	}
	counts := map[measure.Verdict]int{}
	for _, m := range survey(t, l, measure.Standard, targets) {
		counts[m.Verdict]++
		if m.Verdict.Fault() || m.Verdict == measure.Offline || m.Verdict == measure.Unsupported {
			t.Errorf("%v: %s", m.Addr, describe(m))
		}
	}
	t.Log(counts)
	if counts[measure.Supported] < 980 {
		t.Errorf("only %d of 1000 healthy targets are supported", counts[measure.Supported])
	}
}

// TestThoroughTrials asks the further questions of the thorough plan on paths
// whose answer is known.
func TestThoroughTrials(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Config{Seed: 1})
	tests := []struct {
		path string
		want measure.Verdict
		has  []measure.Condition
		not  []measure.Condition
	}{
		{"clean", measure.Supported, []measure.Condition{measure.CondCookielessRefused, measure.CondForgedRefused, measure.CondControlPassed}, []measure.Condition{measure.CondForgedAccepted}},
		{"cookieless", measure.Unsupported, []measure.Condition{measure.CondCookielessAccepted, measure.CondForgedAccepted, measure.CondControlPassed}, nil},
		{"no-tfo", measure.Unsupported, []measure.Condition{measure.CondCookielessRefused, measure.CondForgedRefused, measure.CondControlPassed}, nil},
		{"big-data-dropped", measure.DataDropped, []measure.Condition{measure.CondSynDataLostAbove + ".512", measure.CondSynDataAcked}, nil},
		{"exp-only", measure.Supported, []measure.Condition{measure.CondCookieExperimental, measure.CondForgedRefused}, nil},
	}
	var targets []measure.Target
	for _, tt := range tests {
		p, ok := l.Target(tt.path)
		if !ok {
			t.Fatalf("no path %s", tt.path)
		}
		targets = append(targets, measure.Target{Addr: p.V4, Port: p.Port}, measure.Target{Addr: p.V6, Port: p.Port})
	}
	for i, m := range survey(t, l, measure.Thorough, targets) {
		tt := tests[i/2]
		if m.Verdict != tt.want {
			t.Errorf("%s: want %v, got %s", tt.path, tt.want, describe(m))
		}
		for _, c := range tt.has {
			if !slices.Contains(m.Conditions, c) {
				t.Errorf("%s: condition %s is missing: %s", tt.path, c, describe(m))
			}
		}
		for _, c := range tt.not {
			if slices.Contains(m.Conditions, c) {
				t.Errorf("%s: condition %s should not be there: %s", tt.path, c, describe(m))
			}
		}
	}
}
