package measure_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
)

// setClient writes a sysctl of the client's namespace.
func setClient(t *testing.T, l *lab.Lab, name, value string) {
	t.Helper()
	labtest.InClient(t, l, func() error { return os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0) })
}

func target(t *testing.T, l *lab.Lab, path string, n int) measure.Target {
	t.Helper()
	p, ok := l.Target(path)
	if !ok {
		t.Fatalf("no path %s", path)
	}
	return measure.Target{Addr: p.Addrs4(n)[n-1], Port: p.Port}
}

func wantSpoilt(t *testing.T, m measure.Measurement, c measure.Condition) {
	t.Helper()
	if m.Verdict != measure.Inconclusive || !slices.Contains(m.Conditions, c) || slices.Contains(m.Conditions, measure.CondCookieNotReceived) {
		t.Errorf("want inconclusive with %s, got %s", c, describe(m))
	}
}

// TestFastOpenOff: a machine that does not speak Fast Open says so of itself,
// never of its targets.
func TestFastOpenOff(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Config{})
	setClient(t, l, "tcp_fastopen", "0")
	for _, plan := range []measure.Plan{measure.Quick, measure.Standard} {
		wantSpoilt(t, survey(t, l, plan, []measure.Target{target(t, l, "clean", 1)})[0], measure.CondVantageDisabled)
	}
}

// TestBlackholePause: with a pause time set, one black hole makes the kernel
// stop Fast Open for the whole machine. What is measured meanwhile is
// inconclusive, not unsupported.
func TestBlackholePause(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Config{})
	setClient(t, l, "tcp_fastopen_blackhole_timeout_sec", "600")
	if m := survey(t, l, measure.Standard, []measure.Target{target(t, l, "clean", 1)})[0]; m.Verdict != measure.Supported {
		t.Fatalf("before the pause: %s", describe(m))
	}
	// Three timeouts of one connection in a row start the pause: after 3 s.
	surveyWithin(t, l, measure.Standard, 4*time.Second, []measure.Target{target(t, l, "flow-dead", 1)})
	for _, plan := range []measure.Plan{measure.Quick, measure.Standard} {
		wantSpoilt(t, survey(t, l, plan, []measure.Target{target(t, l, "clean", 2)})[0], measure.CondVantagePaused)
	}
	setClient(t, l, "tcp_fastopen_blackhole_timeout_sec", "0")
	if m := survey(t, l, measure.Standard, []measure.Target{target(t, l, "clean", 3)})[0]; m.Verdict != measure.Supported {
		t.Errorf("after the pause: %s", describe(m))
	}
}
