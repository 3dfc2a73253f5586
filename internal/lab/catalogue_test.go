package lab_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
)

// ladder is what the kernel of the client shows on a path when it connects
// plain, three times with TFO, and plain again.
type ladder [5]outcome

var (
	healthy = ladder{"plain answer", "request 8 answer", "syn ok answer", "syn ok answer", "plain answer"}
	expOnly = ladder{"plain answer", "request none answer", "request 8 answer", "syn ok answer", "plain answer"}
	noTFO   = ladder{"plain answer", "request none answer", "request none answer", "request none answer", "plain answer"}
	ignored = ladder{"plain answer", "request 8 answer", "syn 0 fail 2 answer", "syn 0 fail 2 answer", "plain answer"}
	renewed = ladder{"plain answer", "request 8 answer", "syn 0 fail 2 answer new cookie", "syn 0 fail 2 answer new cookie", "plain answer"}
	dropped = ladder{"plain answer", "request 8 answer", "syn 0 fail 3 rto 1 answer", "syn 0 fail 3 rto 1 answer", "plain answer"}
	asked   = func(o outcome) ladder {
		return ladder{"plain answer", "request " + o, "request " + o, "request " + o, "plain answer"}
	}
	sentTo = func(o outcome) ladder {
		return ladder{"plain answer", "request 8 answer", "syn " + o, "syn " + o, "plain answer"}
	}
	always = func(o outcome) ladder {
		return ladder{"plain " + o, "request " + o, "request " + o, "request " + o, "plain " + o}
	}
)

// ladders has a row for every path of the catalogue but those with loss.
var ladders = map[string]ladder{
	"clean":            healthy,
	"slow":             healthy,
	"jitter":           healthy,
	"tls":              healthy,
	"dns":              healthy,
	"silent":           {"plain silent", "request 8 silent", "syn ok silent", "syn ok silent", "plain silent"},
	"hangup":           {"plain closed", "request 8 closed", "syn ok closed", "syn ok closed", "plain closed"},
	"reissue":          {"plain answer", "request 8 answer", "syn ok answer new cookie", "syn ok answer new cookie", "plain answer"},
	"exp-only":         expOnly,
	"34-blanked":       expOnly,
	"34-to-254":        healthy,
	"big-data-dropped": healthy,

	"no-tfo":          noTFO,
	"no-tfo-tls":      noTFO,
	"cookieless":      noTFO,
	"option-stripped": noTFO,
	"cookie-stripped": noTFO,
	"mirrored":        noTFO,
	"mirrored-whole":  noTFO,
	"emptied-back":    noTFO,
	"cookie-odd":      noTFO,

	"option-dropped": asked("none rto 1 answer"),
	"34-dropped":     asked("none rto 1 answer"),
	"option-reset":   asked("ECONNREFUSED"),
	"option-icmp":    asked("EHOSTUNREACH"),

	"farm":                 renewed,
	"rotating-key":         renewed,
	"cgn":                  renewed,
	"cookie-random":        renewed,
	"cookie-flipped":       ignored,
	"cookie-flipped-there": ignored,
	"cookie-short":         {"plain answer", "request 6 answer", "syn 0 fail 2 answer", "syn 0 fail 2 answer", "plain answer"},
	"cookie-long":          {"plain answer", "request 16 answer", "syn 0 fail 2 answer", "syn 0 fail 2 answer", "plain answer"},
	"cookie-emptied":       ignored,

	"data-dropped":             dropped,
	"cookie-dropped":           dropped,
	"data-over-40-dropped":     dropped,
	"data-stripped":            ignored,
	"data-option-stripped":     ignored,
	"data-and-option-stripped": ignored,
	"data-ignored":             ignored,
	"exp-data-ignored":         {"plain answer", "request none answer", "request 8 answer", "syn 0 fail 2 answer", "plain answer"},
	"data-every-other":         {"plain answer", "request 8 answer", "syn 0 fail 2 answer", "syn ok answer", "plain answer"},
	"data-truncated":           sentTo("20 fail 2 answer"),
	"data-reset":               sentTo("ECONNREFUSED"),
	"data-icmp":                sentTo("EHOSTUNREACH"),
	// The first error lowers the path MTU and the kernel sends the bare SYN at
	// once; the next do not lower it further, and the SYN times out.
	"data-too-big": {"plain answer", "request 8 answer", "syn 0 fail 3 answer", "syn 0 fail 3 rto 1 answer", "plain answer"},

	"flow-dead":            sentTo("timeout"),
	"flow-dead-option":     asked("timeout"),
	"answer-lost":          sentTo("ok silent"),
	"dead-after-handshake": sentTo("ok silent"),
	"client-blocked":       {"plain answer", "request 8 silent", "syn timeout", "syn timeout", "plain timeout"},
	"client-blocked-data":  {"plain answer", "request 8 answer", "syn ok answer", "syn timeout", "plain timeout"},
	"over-ack":             sentTo("timeout"),

	"proxy":        healthy,
	"proxy-no-tfo": noTFO,

	"ports-80":   healthy,
	"ports-8080": noTFO,
	"ports-443":  healthy,
	"dual-v4":    healthy,
	"dual-v6":    noTFO,

	"refused":     always("ECONNREFUSED"),
	"unreachable": always("EHOSTUNREACH"),
	"dead":        always("timeout"),
}

// ladders6 are the rows that differ over IPv6.
var ladders6 = map[string]ladder{
	"data-icmp": sentTo("EACCES"), // ICMPv6 1/1, net/ipv6/icmp.c
}

// withLoss are the paths whose outcome chance decides.
var withLoss = []string{"clean-loss", "no-tfo-loss"}

// TestCatalogue walks every path over both families and compares what the
// kernel shows with what the path claims to do, and that its rules struck.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Config{})
	var all sync.WaitGroup
	// A client stands on a thread of its own; too many at once keep the box
	// from its turn. The paths that take longest come last in the catalogue
	// and go first here.
	turn := make(chan struct{}, 16)
	walks := map[string]int{} // by At: each path walks at addresses of its own, for the cookie cache has no port
	for _, p := range slices.Backward(l.Targets()) {
		if slices.Contains(withLoss, p.Name) {
			continue
		}
		first := 3 * walks[p.At]
		walks[p.At]++
		for i, as := range [][]netip.Addr{p.Addrs4(first + 3), p.Addrs6(first + 3)} {
			if len(as) == 0 {
				continue
			}
			as = as[first:]
			row, ok := ladders[p.Name]
			if !ok {
				t.Errorf("%s: no row in ladders", p.Name)
			}
			if other, ok := ladders6[p.Name]; ok && i == 1 {
				row = other
			}
			turn <- struct{}{}
			all.Go(func() {
				defer func() { <-turn }()
				// On a machine so busy that a second passes between two steps,
				// timers fire that no path has a part in. What a path does it
				// does every time, at every address.
				var got ladder
				for _, a := range as {
					if got = walk(t, l, p, a); got == row {
						return
					}
				}
				t.Errorf("%s, IPv%d:\n got %q\nwant %q", p.Name, 4+2*i, got, row)
			})
		}
	}
	all.Wait()
	for _, p := range l.Targets() {
		c := l.Counters(p.Name)
		for i, n := range c.Rules {
			if n == 0 && p.Name != "big-data-dropped" && !slices.Contains(withLoss, p.Name) {
				t.Errorf("%s: rule never struck: %s", p.Name, p.Rules[i])
			}
		}
		families := uint64(len(p.Addrs4(1)) + len(p.Addrs6(1)))
		if !slices.Contains(withLoss, p.Name) && (c.SYN < 5*families || c.SYNOption < 3*families || c.Frames < c.SYN+c.SYNACK) {
			t.Errorf("%s: counters do not show the ladders: %+v", p.Name, c)
		}
	}
}

// walk makes the ladder's connections to one address of a path.
func walk(t *testing.T, l *lab.Lab, p lab.Placed, a netip.Addr) (got ladder) {
	err := lab.In(l.ClientNetNS(), func() error {
		c, err := newClient()
		if err != nil {
			return err
		}
		defer c.close()
		for i := range got {
			got[i] = c.connect(netip.AddrPortFrom(a, p.Port), i > 0 && i < len(got)-1, payloadFor(p))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return got
}

func payloadFor(p lab.Placed) []byte {
	if p.Servers[0].App != lab.DNS {
		return request
	}
	q := query("clean.lab.", dnsmessage.TypeA)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)
}

// TestCatalogueIsComplete: a survey of the lab must be able to give every
// verdict, and meet every misbehaviour that one end can tell.
func TestCatalogueIsComplete(t *testing.T) {
	verdicts := map[measure.Verdict]bool{}
	rows := map[string]bool{}
	names := map[string]bool{}
	for _, p := range lab.Catalogue() {
		if len(p.Truth) == 1 {
			verdicts[p.Truth[0]] = true
		} else if p.Note == "" {
			t.Errorf("%s: more than one truth and no note", p.Name)
		}
		if len(p.Truth) == 0 || p.About == "" || p.Port == 0 {
			t.Errorf("%s: incomplete: %+v", p.Name, p)
		}
		if names[p.Name] || strings.Trim(p.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Errorf("%q is taken or no DNS label", p.Name)
		}
		names[p.Name] = true
		for _, m := range p.Taxonomy {
			rows[m] = true
		}
	}
	for _, v := range measure.Verdicts() {
		if !verdicts[v] {
			t.Errorf("no path has the truth %s", v)
		}
	}
	for _, m := range strings.Fields("M1 M2 M3 M4 M5 M6 M7 M8 M9 M10 M11 M12 M13 M14 M15 M16 M17 M18 M19 M20 M21 M22 M23 M24 M25") {
		if !rows[m] {
			t.Errorf("no path for %s", m)
		}
	}
}
