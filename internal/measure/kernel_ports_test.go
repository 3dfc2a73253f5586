package measure_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// TestPortsOfOneAddress measures three ports of each address at once: one with
// Fast Open, one without, one with another key. The kernel's cookie cache has
// no port (TestCookieHasNoPort of internal/lab): a measurement that met the
// cookie of another port would send data where it means to ask, and see it
// refused. None may.
func TestPortsOfOneAddress(t *testing.T) {
	t.Parallel()
	const addresses = 20
	var paths []lab.Path
	for _, p := range lab.Catalogue() {
		if slices.Contains(p.Taxonomy, "M25") {
			paths = append(paths, p)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l := labtest.New(t, lab.Config{Seed: seed, Paths: paths})
	type place struct {
		lab.Placed
		measure.Target
	}
	var places []place
	ports := map[netip.Addr]int{}
	for _, p := range l.Targets() {
		for _, a := range append(p.Addrs4(addresses), p.Addrs6(addresses)...) {
			places = append(places, place{p, measure.Target{Addr: a, Port: p.Port}})
			ports[a]++
		}
	}
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	var targets []measure.Target
	for _, p := range places {
		targets = append(targets, p.Target)
	}
	shared := 0
	for i, m := range survey(t, l, measure.Standard, targets) {
		p := places[i]
		if ports[m.Addr] == 3 {
			shared++
		}
		if !p.Is(m.Verdict) {
			t.Errorf("%s: want %v, got %s", p.Name, p.Truth, describe(m))
			continue
		}
		asked := m.Attempts[1]
		if asked.CookieCleared == tfo.No {
			continue // without the privilege to delete cookies the verdict is all that can be right
		}
		if asked.Kind != tfo.KindRequest || asked.CookieBefore.State != tfo.CookieNone || asked.SynBytes != 0 || m.Verdict != p.Truth[0] ||
			slices.Contains(m.Conditions, measure.CondCookieChanged) || slices.Contains(m.Conditions, measure.CondSynDataNotAcked) ||
			slices.Contains(m.Conditions, measure.CondCookieReceived) != (m.Verdict == measure.Supported) {
			t.Errorf("%s: another port's cookie was in the way: %s", p.Name, describe(m))
		}
	}
	if shared < 3*addresses {
		t.Errorf("%d targets on addresses with three ports", shared)
	}
}
