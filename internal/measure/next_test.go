package measure

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tfofleet/internal/tfo"
)

// path is a model of a target behind a path: given the step asked for and the
// cache's state, it makes the evidence a kernel would show.
type path func(step Step, cookie []byte, attempts []tfo.Evidence) tfo.Evidence

// walk runs a plan against a path to its end.
func walk(t testing.TB, plan Plan, p path) ([]tfo.Evidence, Verdict, []Condition) {
	t.Helper()
	var attempts []tfo.Evidence
	var cookie []byte
	for {
		step, more := Next(plan, attempts)
		if !more {
			v, cs := Classify(plan, attempts)
			return attempts, v, cs
		}
		if len(attempts) >= maxAttempts {
			t.Fatalf("more than %d attempts", maxAttempts)
		}
		if step.ClearCookie {
			cookie = nil
		}
		ev := p(step, cookie, attempts)
		if ev.Kind != tfo.KindPlain && ev.End.Established() {
			cookie = ev.CookieAfter.Bytes
		}
		attempts = append(attempts, ev)
	}
}

func kinds(attempts []tfo.Evidence) string {
	var b strings.Builder
	for _, ev := range attempts {
		fmt.Fprintf(&b, "%.1s", ev.Kind)
	}
	return b.String()
}

// asks counts the requests made before, for the option kind of the next one.
func asks(attempts []tfo.Evidence) (n int) {
	for _, ev := range attempts {
		if ev.Kind == tfo.KindRequest && ev.SynRetransmits == 0 {
			n++
		}
	}
	return n
}

func healthy(step Step, cookie []byte, _ []tfo.Evidence) tfo.Evidence {
	switch {
	case step.Kind == tfo.KindPlain:
		return ok
	case step.Kind == tfo.KindCookieless:
		return with(refuses, func(ev *tfo.Evidence) { ev.Kind, ev.OptionKind = tfo.KindCookieless, 0 })
	case step.Kind == tfo.KindForged || step.Kind == tfo.KindUnknown:
		ev := tfo.Evidence{Kind: step.Kind, End: tfo.EndSynAck, Wire: &tfo.Wire{SynAcks: 1}, CookieBefore: held(cookie), CookieAfter: held(cookie)}
		if step.Kind == tfo.KindForged {
			ev.SynBytes, ev.OptionKind = 100, tfo.OptionKindTFO
		}
		return ev
	case cookie == nil:
		return got34
	case step.Kind == tfo.KindSized:
		return sized(allGood, step.Size)
	}
	return allGood
}

func sized(ev tfo.Evidence, n int) tfo.Evidence {
	ev.Kind, ev.Offered, ev.SynBytes = tfo.KindSized, n, min(n, 1420)
	if ev.SynAcked > 0 {
		ev.SynAcked = ev.SynBytes
	}
	return ev
}

// small is a path that drops SYNs with more than 512 bytes.
func small(step Step, cookie []byte, a []tfo.Evidence) tfo.Evidence {
	if step.Kind == tfo.KindSized && step.Size > 512 {
		return sized(lost, step.Size)
	}
	return healthy(step, cookie, a)
}

func noSupport(step Step, _ []byte, attempts []tfo.Evidence) tfo.Evidence {
	switch {
	case step.Kind == tfo.KindPlain || isTrial(step.Kind):
		return healthy(step, nil, attempts)
	case asks(attempts) == 1:
		return ask254
	}
	return ask34
}

// leftBehind ignores a cookie that another port gave.
func leftBehind(step Step, _ []byte, _ []tfo.Evidence) tfo.Evidence {
	switch step.Kind {
	case tfo.KindPlain:
		return ok
	case tfo.KindRequest:
		return left
	}
	return refuses
}

// always answers every Fast Open attempt after the request the same way.
func always(ev tfo.Evidence) path {
	return func(step Step, cookie []byte, a []tfo.Evidence) tfo.Evidence {
		if step.Kind == tfo.KindPlain || step.Kind == tfo.KindRequest {
			return healthy(step, cookie, a)
		}
		return ev
	}
}

func onRequest(ev tfo.Evidence) path {
	return func(step Step, cookie []byte, a []tfo.Evidence) tfo.Evidence {
		if step.Kind == tfo.KindPlain {
			return ok
		}
		return ev
	}
}

func nothing(step Step, _ []byte, _ []tfo.Evidence) tfo.Evidence {
	if step.Kind == tfo.KindPlain {
		return down
	}
	return with(ask34, ended(tfo.EndTimeout))
}

func closedPort(step Step, _ []byte, _ []tfo.Evidence) tfo.Evidence {
	if step.Kind == tfo.KindPlain {
		return plain(tfo.EndRefused)
	}
	return with(ask34, ended(tfo.EndRefused))
}

// blocked lets the first request through and nothing after it.
func blocked(step Step, cookie []byte, a []tfo.Evidence) tfo.Evidence {
	if asks(a) == 0 {
		return healthy(step, cookie, a)
	}
	if step.Kind == tfo.KindPlain {
		return down
	}
	return dead
}

// TestLadder holds each plan to the attempts it is documented to make.
func TestLadder(t *testing.T) {
	tests := []struct {
		name  string
		plan  Plan
		path  path
		kinds string // p plain, r request, d data, s sized, c cookieless, f forged, u unknown option
		want  Verdict
	}{
		{"healthy", Standard, healthy, "prddp", Supported},
		{"unsupported", Standard, noSupport, "prrrp", Unsupported},
		{"unsupported, cheaply", Quick, noSupport, "prrr", Unsupported},
		{"quick falls through to standard", Quick, healthy, "prddp", Supported},
		{"quick on a dead address", Quick, nothing, "pr", Offline},
		{"dead address", Standard, nothing, "pr", Offline},
		{"closed port", Standard, closedPort, "ppr", Offline},
		{"closed port, cheaply", Quick, closedPort, "ppr", Offline},
		{"thorough asks for more", Thorough, healthy, "prdddddssssc fu p", Supported},
		{"cookieless, refused", Cookieless, healthy, "pcccp", Unsupported},
		{"cookieless, accepted", Cookieless, always(with(allGood, func(ev *tfo.Evidence) {
			ev.Kind, ev.OptionKind, ev.CookieBefore, ev.CookieAfter = tfo.KindCookieless, 0, held(nil), held(nil)
		})), "pccp", Supported},
		{"thorough finds a size limit", Thorough, small, "prdddddsss" + "spspspsp" + "c fu p", DataDropped},
		{"thorough looks for a server without cookies", Thorough, noSupport, "prrrcfup", Unsupported},
		{"cookie only", Standard, always(refuses), "prdddp", CookieOnly},
		{"the cookie of another port in the way", Standard, leftBehind, "prddp", Inconclusive},
		{"truncated", Standard, always(data(60, cookieA)), "prdddp", DataTruncated},
		{"data dropped: a control after every loss", Standard, always(lost), "prdpdpdpdpdpdp", DataDropped},
		{"option dropped", Standard, onRequest(lostReq), "prprprprprprp", OptionDropped},
		{"reset", Standard, always(rst), "prdpdpdp", Reset},
		{"flow black-holed", Standard, always(dead), "prdpdpdp", FlowBlackholed},
		{"black-holed after the handshake", Standard, always(mute), "prdpdpdp", BlackholedAfterHandshake},
		{"blocked", Standard, blocked, "prdppppp", ClientBlocked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			attempts, v, cs := walk(t, tt.plan, tt.path)
			if got := kinds(attempts); got != strings.ReplaceAll(tt.kinds, " ", "") {
				t.Errorf("attempts %s, want %s", got, tt.kinds)
			}
			if v != tt.want {
				t.Errorf("verdict %v, want %v (%v)", v, tt.want, cs)
			}
		})
	}
}

// TestLossNamesNoFault measures healthy and unsupported targets through a model
// of random loss each way. At the loss of a real path no measurement may be
// given a fault, and nearly all must still get their true verdict; what is
// allowed at heavier loss is well above the expected count of a whole run.
func TestLossNamesNoFault(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const n = 50_000
	for _, tt := range []struct {
		name string
		path path
		want Verdict
	}{{"healthy", healthy, Supported}, {"unsupported", noSupport, Unsupported}} {
		for _, c := range []struct {
			loss   float64
			faults int
			right  float64
		}{{0.02, 0, 0.999}, {0.05, 3, 0.99}, {0.10, 12, 0.95}} {
			t.Run(fmt.Sprintf("%s/%.0f%%", tt.name, c.loss*100), func(t *testing.T) {
				lossy := losing(tt.path, c.loss, rng)
				right, faults := 0, 0
				for range n {
					attempts, v, cs := walk(t, Standard, lossy)
					if v.Fault() {
						faults++
						t.Logf("%v from %s %v", v, kinds(attempts), cs)
					}
					if v == tt.want {
						right++
					}
				}
				share := float64(right) / n
				t.Logf("%d faults, %.3f %% right", faults, 100*share)
				if faults > c.faults || share < c.right {
					t.Errorf("%d faults (at most %d), %.4f right (at least %.3f)", faults, c.faults, share, c.right)
				}
			})
		}
	}
}

// losing loses the SYN or the SYN-ACK of a path at random; the retransmission
// always comes through.
func losing(p path, loss float64, rng *rand.Rand) path {
	return func(step Step, cookie []byte, a []tfo.Evidence) tfo.Evidence {
		ev := p(step, cookie, a)
		synLost, ackLost := rng.Float64() < loss, rng.Float64() < loss
		if !synLost && !ackLost {
			return ev
		}
		timedOut(&ev)
		switch {
		case ev.SynBytes > 0 && synLost:
			ev.SynAcked, ev.TCPIOptions, ev.ClientFail = 0, 0, tfo.FailSynRetransmitted
		case ev.SynBytes == 0 && ev.Kind != tfo.KindPlain:
			ev.CookieAfter = ev.CookieBefore // a retransmitted SYN-ACK carries no cookie
		}
		return ev
	}
}

// FuzzClassify: any attempts whatever get a verdict, and Next always ends.
func FuzzClassify(f *testing.F) {
	f.Add([]byte{1, 0, 2, 9, 3, 7})
	f.Fuzz(func(t *testing.T, in []byte) {
		menu := []tfo.Evidence{ok, down, plain(tfo.EndRefused), plain(tfo.EndSilent), ask34, ask254, got34, got254, lostReq, allGood, refuses, left, lost, mute, rst, dead,
			data(60, cookieA), data(0, cookieB), data(100, cookieB), with(ask34, ended(tfo.EndLocal)), with(got34, ended(tfo.EndSilent)), {}}
		i := 0
		attempts, v, _ := walk(t, Plan(1+len(in)%3), func(Step, []byte, []tfo.Evidence) tfo.Evidence {
			i++
			if len(in) == 0 {
				return tfo.Evidence{}
			}
			return menu[int(in[i%len(in)])%len(menu)]
		})
		if v.String() == "unknown" {
			t.Fatalf("no verdict for %s", kinds(attempts))
		}
	})
}

// onceOnly serves the first connection of a client, and treats all later ones
// alike, with Fast Open and without.
func onceOnly(end tfo.End) path {
	return func(step Step, cookie []byte, a []tfo.Evidence) tfo.Evidence {
		if len(a) == 0 {
			return ok
		}
		return with(healthy(step, cookie, a), ended(end))
	}
}

// TestNoFaultWherePlainFailsToo: what a target does to every connection is no
// fault of Fast Open, and is not asked for again and again.
func TestNoFaultWherePlainFailsToo(t *testing.T) {
	for _, end := range []tfo.End{tfo.EndSilent, tfo.EndClosed, tfo.EndReset} {
		attempts, v, cs := walk(t, Standard, onceOnly(end))
		if v != Inconclusive || len(attempts) > 12 {
			t.Errorf("%v: %v after %d attempts, %v", end, v, len(attempts), cs)
		}
	}
}

// TestFlakyTargets: a target that fails now and then, whatever comes, is hardly
// ever given a fault.
func TestFlakyTargets(t *testing.T) {
	const each, share = 2000, 0.4
	for _, target := range []path{noSupport, healthy} {
		for _, end := range []tfo.End{tfo.EndRefused, tfo.EndTimeout, tfo.EndClosed, tfo.EndSilent} {
			seed, faults := rand.Uint64(), 0
			rng := rand.New(rand.NewPCG(seed, 6))
			for range each {
				_, v, _ := walk(t, Standard, func(step Step, cookie []byte, a []tfo.Evidence) tfo.Evidence {
					ev := target(step, cookie, a)
					if rng.Float64() < share {
						return with(ev, ended(end))
					}
					return ev
				})
				if v.Fault() {
					faults++
				}
			}
			if faults > each*6/100 {
				t.Errorf("seed %d, %v: %d of %d", seed, end, faults, each)
			}
		}
	}
}
