package lab_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

func init() {
	maps.Copy(ladders, scriptedLadders)
	withLoss = append(withLoss, resetRaces...)
}

// scriptedLadders are the rows of [ladders] for scripted peers; TestCatalogue
// walks them.
var scriptedLadders = map[string]ladder{
	"peer-partial-ack": sentTo("20 fail 2 answer"),
	"peer-last-byte":   sentTo(outcome(fmt.Sprintf("%d fail 2 answer", len(request)-1))),
	// An answer that cannot be makes the kernel send its SYN again at once
	// (tcp_rcv_synsent_state_process, net/ipv4/tcp_input.c).
	"peer-over-ack":      sentTo("0 fail 3 rto 1 answer"),
	"peer-syn-only":      ignored,
	"peer-synack-data":   healthy,
	"peer-synack-fin":    healthy,
	"peer-late-cookie":   {"plain answer", "request 8 rto 1 answer", "syn ok answer", "syn ok answer", "plain answer"},
	"peer-late-ack":      sentTo("ok rto 1 answer"),
	"peer-bare-again":    asked("none rto 1 answer"),
	"peer-late-partial":  sentTo("20 fail 3 rto 1 answer"),
	"peer-reset-after":   sentTo("ok ECONNRESET"),
	"peer-any-cookie":    healthy,
	"peer-cookieless":    noTFO,
	"peer-unsolicited":   noTFO,
	"peer-empty":         noTFO,
	"peer-mirror":        noTFO,
	"peer-both-kinds":    healthy,
	"peer-both-kinds-34": healthy,
	"peer-254-then-34":   {"plain answer", "request none answer", "request 8 answer", "syn ok answer new cookie", "plain answer"},
	"peer-cookie-2":      noTFO,
	"peer-cookie-4":      granted(4),
	"peer-cookie-5":      noTFO,
	"peer-cookie-6":      granted(6),
	"peer-cookie-10":     granted(10),
	"peer-cookie-12":     granted(12),
	"peer-cookie-14":     granted(14),
	"peer-cookie-15":     noTFO,
	"peer-cookie-16":     granted(16),
	"peer-cookie-18":     noTFO,
}

// resetRaces are the paths whose resets race with the client's own calls.
var resetRaces = []string{"peer-reset-request", "peer-reset-at-once", "peer-respond-reset"}

func granted(n int) ladder {
	return ladder{"plain answer", outcome(fmt.Sprintf("request %d answer", n)), "syn ok answer", "syn ok answer", "plain answer"}
}

// Lines of the scripts below.
var (
	peerGrants = lab.Rule{On: lab.Forward, If: lab.SYN.And(lab.Option(lab.Kind34)), Do: lab.AnswerSYN(lab.SynAck{Options: []lab.Opt{lab.Grant(lab.Kind34, 8)}})}
	peerPlain  = lab.Rule{On: lab.Forward, If: lab.SYN, Do: lab.AnswerSYN(lab.SynAck{})}
	toEcho     = lab.SYN.And(lab.Data).And(lab.Echo(lab.Kind34, 8))
)

func peerTakes(ack lab.Ack) lab.Rule {
	return lab.Rule{On: lab.Forward, If: toEcho, Do: lab.AnswerSYN(lab.SynAck{Ack: ack})}
}

// TestScriptCounts: the counters say how often each line was played, and that
// the peer, and nobody else, sent the SYN-ACKs.
func TestScriptCounts(t *testing.T) {
	t.Parallel()
	l, p := onePath(t, lab.Path{
		Servers: []lab.Server{{App: lab.Closed}},
		Rules:   lab.Script(peerTakes(lab.AckFirst(20)), peerGrants, peerPlain),
	})
	for _, as := range threeEach(p) {
		before := l.Counters("path")
		a := firstThatDoes(t, l, as, request, sentTo("20 fail 2 answer"), func() { before = l.Counters("path") })
		if !a.IsValid() {
			continue
		}
		c := l.Counters("path")
		var played []uint64
		for i := range c.Rules {
			played = append(played, c.Rules[i]-before.Rules[i])
		}
		if want := []uint64{2, 1, 2}; !slices.Equal(played[:3], want) || played[3] < 5 {
			t.Errorf("to %s: lines were played %d times, want %d and at least 5", a, played, want)
		}
		if c.SYN-before.SYN != 5 || c.SYNACK-before.SYNACK != 5 || c.SYNData-before.SYNData != 2 || c.Resets != 0 || c.Dropped != 0 {
			t.Errorf("to %s: counted %+v after %+v", a, c, before)
		}
	}
}

// TestScriptComposes: a scripted peer stands behind the path's rules like any
// server.
func TestScriptComposes(t *testing.T) {
	t.Parallel()
	script := func(with ...lab.Rule) []lab.Rule {
		return append(with, lab.Script(peerTakes(lab.AckAll), peerGrants, peerPlain)...)
	}
	checkScripts(t, request, map[string]scripted{
		"nothing":           {script(), healthy},
		"delay":             {script(lab.Rule{On: lab.Both, Do: lab.Delay(20*time.Millisecond, 0)}), healthy},
		"stripped-there":    {script(lab.Rule{On: lab.Forward, Do: lab.Strip(lab.AnyKind)}), noTFO},
		"stripped-back":     {script(lab.Rule{On: lab.Return, Do: lab.Strip(lab.AnyKind)}), noTFO},
		"cookie-grown-back": {script(lab.Rule{On: lab.Return, Do: lab.ResizeCookie(16)}), ladder{"plain answer", "request 16 answer", "syn 0 fail 2 answer", "syn 0 fail 2 answer", "plain answer"}},
		"data-truncated":    {script(lab.Rule{On: lab.Forward, If: lab.SYN, Do: lab.Truncate(30)}), sentTo("30 fail 2 answer")},
		"address-changed":   {script(lab.Rule{On: lab.Forward, Do: lab.Masquerade}), renewed},
		"every-other-flow": {
			script(lab.Rule{On: lab.Forward, If: toEcho.And(lab.Alternate(lab.Mark1)), Do: lab.AnswerSYN(lab.SynAck{})}),
			ladder{"plain answer", "request 8 answer", "syn 0 fail 2 answer", "syn ok answer", "plain answer"},
		},
		"plain-to-the-server": {lab.Script(peerTakes(lab.AckFirst(7)), peerGrants), sentTo("7 fail 2 answer")},
	})
}

// TestScriptLargeRequest: the most that fits into a SYN, and a rest behind it.
func TestScriptLargeRequest(t *testing.T) {
	t.Parallel()
	payload := append([]byte("HEAD / HTTP/1.1\r\nX: "), bytes.Repeat([]byte("x"), 1440)...)
	payload = append(payload[:1456], "\r\n\r\n"...)
	paths := map[string]scripted{}
	for name, c := range map[string]struct {
		ack  lab.Ack
		want outcome
	}{
		"all": {lab.AckAll, "ok answer"}, "first": {lab.AckFirst(1000), "1000 fail 2 answer"}, "none": {lab.AckSYN, "0 fail 2 answer"},
	} {
		paths[name] = scripted{lab.Script(peerTakes(c.ack), peerGrants, peerPlain), sentTo(c.want)}
	}
	checkScripts(t, payload, paths)
}

// scripted is a script and what a client must find.
type scripted struct {
	rules []lab.Rule
	want  ladder
}

// checkScripts walks scripts one after the other, over both families.
func checkScripts(t *testing.T, payload []byte, scripts map[string]scripted) {
	t.Helper()
	var paths []lab.Path
	for name, s := range scripts {
		paths = append(paths, lab.Path{Name: name, Port: 80, Servers: []lab.Server{web}, Rules: s.rules})
	}
	l := labtest.New(t, lab.Config{Paths: paths, Seed: 1})
	for _, p := range l.Targets() {
		for _, as := range threeEach(p) {
			firstThatDoes(t, l, as, payload, scripts[p.Name].want, func() {})
		}
	}
}

func threeEach(p lab.Placed) [][]netip.Addr { return [][]netip.Addr{p.Addrs4(3), p.Addrs6(3)} }

// firstThatDoes walks up to three addresses of a path, for on a machine so busy
// that a second passes between two steps timers fire that no path has a part
// in. It calls begin before each, and returns the first that is as wanted.
func firstThatDoes(t *testing.T, l *lab.Lab, as []netip.Addr, payload []byte, want ladder, begin func()) netip.Addr {
	t.Helper()
	var got ladder
	for _, a := range as {
		begin()
		if got = ladder(dial(t, l, []netip.Addr{a}, []bool{false, true, true, true, false}, payload)[0]); got == want {
			return a
		}
	}
	if len(as) > 0 {
		t.Errorf("to %s:\n got %q\nwant %q", as, got, want)
	}
	return netip.Addr{}
}

// TestScriptsByEngine gives the engine those scripts whose outcome is a race,
// and asks the thorough plan where the standard one cannot see the difference.
func TestScriptsByEngine(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Config{Seed: 1})
	for _, c := range []struct {
		plan  measure.Plan
		path  string
		truth measure.Verdict
		has   []measure.Condition
	}{
		{measure.Standard, "peer-reset-request", measure.Reset, []measure.Condition{measure.CondAfterReset}},
		{measure.Standard, "peer-reset-at-once", measure.Reset, []measure.Condition{measure.CondAfterReset}},
		{measure.Standard, "peer-respond-reset", measure.Supported, []measure.Condition{measure.CondSynDataAcked}},
		{measure.Thorough, "peer-cookieless", measure.Unsupported, []measure.Condition{measure.CondCookielessAccepted, measure.CondControlPassed}},
		{measure.Thorough, "peer-empty", measure.Unsupported, []measure.Condition{measure.CondCookielessRefused, measure.CondForgedRefused, measure.CondControlPassed}},
		{measure.Thorough, "peer-mirror", measure.Unsupported, []measure.Condition{measure.CondControlReturned}},
		{measure.Thorough, "peer-any-cookie", measure.Supported, []measure.Condition{measure.CondCookielessRefused, measure.CondForgedAccepted}},
		{measure.Thorough, "peer-syn-only", measure.CookieOnly, []measure.Condition{measure.CondForgedRefused, measure.CondControlPassed}},
		{measure.Thorough, "peer-cookie-16", measure.Supported, []measure.Condition{measure.CondCookieOddLength, measure.CondForgedRefused}},
		{measure.Thorough, "peer-synack-data", measure.Supported, []measure.Condition{measure.CondSynDataAcked, measure.CondForgedRefused}},
		{measure.Thorough, "peer-both-kinds", measure.Supported, []measure.Condition{measure.CondCookieExperimental}},
	} {
		p, ok := l.Target(c.path)
		if !ok {
			t.Fatalf("no path %s", c.path)
		}
		t.Run(c.path, func(t *testing.T) {
			for _, m := range survey(t, l, c.plan, p) {
				missing := slices.DeleteFunc(slices.Clone(c.has), func(has measure.Condition) bool { return slices.Contains(m.Conditions, has) })
				if m.Verdict != c.truth || len(missing) > 0 {
					t.Errorf("%s: %s %v, want %s with %s", m.Addr, m.Verdict, m.Conditions, c.truth, c.has)
					for _, ev := range m.Attempts {
						t.Logf("%+v", ev)
					}
				}
			}
			for i, n := range l.Counters(c.path).Rules {
				if n == 0 {
					t.Errorf("rule never struck: %s", p.Rules[i])
				}
			}
		})
	}
}

// survey measures the first address of each family.
func survey(t *testing.T, l *lab.Lab, plan measure.Plan, p lab.Placed) []measure.Measurement {
	t.Helper()
	r, err := measure.NewRunner(
		measure.Settings{Plan: plan, Payload: measure.PayloadAuto, Timeout: 3 * time.Second},
		tfo.Config{Concurrency: 2, NetNS: tfo.NetNS(l.ClientNetNS())})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	var mu sync.Mutex
	var out []measure.Measurement
	var wg sync.WaitGroup
	for _, a := range []netip.Addr{p.V4, p.V6} {
		if !a.IsValid() {
			continue
		}
		wg.Add(1)
		r.Submit(measure.Target{Addr: a, Port: p.Port}, nil, func(m measure.Measurement) {
			mu.Lock()
			defer mu.Unlock()
			out = append(out, m)
			wg.Done()
		})
	}
	wg.Wait()
	return out
}
