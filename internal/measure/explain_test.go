package measure

import (
	"strings"
	"testing"
)

// TestExplain: every attempt gets a line and every verdict a reason, whatever
// path it came from.
func TestExplain(t *testing.T) {
	paths := map[string]path{
		"healthy": healthy, "none": noSupport, "dead": nothing, "closed": closedPort, "blocked": blocked, "small": small,
		"cookie only": always(refuses), "truncated": always(data(60, cookieA)), "unstable": always(data(0, cookieB)), "lost": always(lost), "reset": always(rst),
		"flow": always(dead), "mute": always(mute), "option": onRequest(lostReq),
	}
	seen := map[Verdict]bool{}
	for name, p := range paths {
		attempts, v, _ := walk(t, Thorough, p)
		seen[v] = true
		shown, reasons := Explain(Thorough, attempts)
		if len(shown) != len(attempts) {
			t.Errorf("%s: %d lines for %d attempts", name, len(shown), len(attempts))
		}
		for i, s := range shown {
			if s == "" {
				t.Errorf("%s: attempt %d says nothing", name, i)
			}
		}
		if len(reasons) == 0 || strings.Contains(strings.Join(reasons, ""), "%!") {
			t.Errorf("%s: %v for %v", name, reasons, v)
		}
	}
	for _, v := range Verdicts() {
		if v != Inconclusive && !seen[v] {
			t.Errorf("no path leads to %v", v)
		}
	}
	if _, reasons := Explain(Standard, join(one(ok, got34, refuses, refuses), one(ok))); len(reasons) == 0 {
		t.Error("inconclusive without a reason")
	}
}
