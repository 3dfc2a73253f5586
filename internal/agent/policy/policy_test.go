package policy

import (
	"errors"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// files are what a policy under test can name.
func files(m map[string]string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if data, ok := m[path]; ok {
			return []byte(data), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
}

func mustParse(t testing.TB, text string, m map[string]string) *Policy {
	t.Helper()
	p, err := parse([]byte(text), "/etc/tfo/policy.yaml", files(m))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const someList = `# people who asked
198.51.99.0/24   # a network
9.9.9.9
2620:fe::/48
example.org
*.Example.NET.  # with all below
bücher.example
under_score.example
`

func TestPermits(t *testing.T) {
	const open = "ports: {allow: [1-65535]}\n"
	list := map[string]string{"/etc/tfo/list": someList}
	for _, tt := range []struct {
		policy string
		target string
		want   Reason // empty: permitted
	}{
		{"", "8.8.8.8:443", ""},
		{"", "[2606:4700::1]:80", ""},
		{"", "8.8.8.8:22", Port},
		{"", "8.8.8.8:0", Port},
		{open, "8.8.8.8:22", ""},
		{open, "8.8.8.8:0", Port},
		{open, "8.8.8.8:65535", ""},
		{"ports: {allow: [22, 8000-8100], deny: [8050]}", "8.8.8.8:22", ""},
		{"ports: {allow: [22, 8000-8100], deny: [8050]}", "8.8.8.8:443", Port},
		{"ports: {allow: [22, 8000-8100], deny: [8050]}", "8.8.8.8:8049", ""},
		{"ports: {allow: [22, 8000-8100], deny: [8050]}", "8.8.8.8:8050", Port},
		{"ports: {deny: [443]}", "8.8.8.8:443", Port},
		{"ports: {deny: [443]}", "8.8.8.8:80", ""},

		{"", "169.254.169.254:80", SpecialPurpose},
		{"", "[::1]:80", SpecialPurpose},
		{"", "[::ffff:10.0.0.1]:80", SpecialPurpose},
		{"", "[64:ff9b::a00:1]:80", SpecialPurpose},
		{"", "[2002:a00:1::]:80", SpecialPurpose},
		{"", "[fe80::1%eth0]:80", SpecialPurpose},
		{"nets: {allow: [10.0.0.0/8]}", "10.0.0.1:80", ""},
		{"nets: {allow: [10.0.0.0/8]}", "[64:ff9b::a00:1]:80", ""},
		{"nets: {allow: [10.0.0.0/8]}", "192.168.0.1:80", SpecialPurpose},
		{"nets: {allow: [10.0.0.0/8], deny: [10.1.0.0/16]}", "10.1.0.1:80", Blocklist},
		{"nets: {deny: [8.8.8.8]}", "8.8.8.8:80", Blocklist},
		{"nets: {deny: [8.8.8.8]}", "[64:ff9b::808:808]:80", Blocklist},
		{"nets: {deny: [8.8.8.8]}", "[2002:808:808::1]:80", Blocklist},
		{"nets: {deny: [8.8.8.8]}", "[::ffff:8.8.8.8]:80", Blocklist},
		{"nets: {deny: [8.8.8.8]}", "8.8.8.9:80", ""},

		{"nets: {only: [8.8.8.0/24]}", "8.8.8.8:80", ""},
		{"nets: {only: [8.8.8.0/24]}", "[::ffff:8.8.8.8]:80", ""},
		{"nets: {only: [8.8.8.0/24]}", "8.8.9.8:80", NotAllowed},
		{"nets: {only: [8.8.8.0/24]}", "[64:ff9b::808:808]:80", NotAllowed},
		{"nets: {only: [64:ff9b::/96]}", "[64:ff9b::808:808]:80", NotAllowed}, // opens no IPv4 network
		{"nets: {only: [64:ff9b::/96, 8.8.8.0/24]}", "[64:ff9b::808:808]:80", ""},
		{"nets: {only: [10.0.0.0/8]}", "10.0.0.1:80", SpecialPurpose}, // only opens nothing

		{"do_not_probe: list", "198.51.99.7:80", DoNotProbe},
		{"do_not_probe: /etc/tfo/list", "9.9.9.9:80", DoNotProbe},
		{"do_not_probe: list", "[64:ff9b::909:909]:80", DoNotProbe},
		{"do_not_probe: list", "[2620:fe::9]:80", DoNotProbe},
		{"do_not_probe: list", "9.9.9.10:80", ""},
	} {
		target := netip.MustParseAddrPort(tt.target)
		got, ok := mustParse(t, tt.policy, list).Permits(target.Addr(), target.Port())
		if got != tt.want || ok != (tt.want == "") {
			t.Errorf("%q: %s: %q, want %q", tt.policy, tt.target, got, tt.want)
		}
	}
	if got, ok := Default().Permits(netip.Addr{}, 80); ok || got != NotAnAddress {
		t.Error(got)
	}
	if got := NotAllowed.Condition(); got != "tfo.vantage.refused_not_allowed" {
		t.Error(got)
	}
}

func TestPermitsName(t *testing.T) {
	p := mustParse(t, "do_not_probe: list", map[string]string{"/etc/tfo/list": someList})
	for name, want := range map[string]bool{
		"example.org": false, "EXAMPLE.org.": false, "www.example.org": false, "a.b.example.org": false, "notexample.org": true,
		"org": true, "example.net": false, "x.example.net": false, "xn--bcher-kva.example": false, "bucher.example": true,
		"under_score.example": false, "": true, "9.9.9.9": true, ".": true, "..": true,
	} {
		reason, ok := p.PermitsName(name)
		if ok != want || ok != (reason == "") {
			t.Errorf("%q: %q, %v", name, reason, ok)
		}
	}
	if _, ok := Default().PermitsName("example.org"); !ok {
		t.Error("without a list")
	}
}

func TestPermitsListen(t *testing.T) {
	const on = "listen: {enabled: true, ports: [4433, 50000-50100], max_duration: 5m, sources: [8.8.8.0/24, '2001:db8::/32']}"
	for _, tt := range []struct {
		policy string
		port   uint16
		d      time.Duration
		want   Reason
	}{
		{"", 4433, time.Minute, ListenOff},
		{"listen: {ports: [4433], sources: [0.0.0.0/0]}", 4433, time.Minute, ListenOff},
		{on, 4433, 5 * time.Minute, ""},
		{on, 50100, time.Second, ""},
		{on, 50101, time.Second, ListenPort},
		{on, 0, time.Second, ListenPort},
		{on, 4433, 5*time.Minute + 1, ListenDuration},
		{on, 4433, 0, ListenDuration},
		{on, 4433, -1, ListenDuration},
	} {
		p := mustParse(t, tt.policy, nil)
		if got, ok := p.PermitsListen(tt.port, tt.d); got != tt.want || ok != (tt.want == "") {
			t.Errorf("%q: port %d for %v: %q, want %q", tt.policy, tt.port, tt.d, got, tt.want)
		}
		if got, _ := p.Tighten(Limits{NoListen: true}).PermitsListen(tt.port, tt.d); got != ListenOff {
			t.Errorf("tightened: %q", got)
		}
	}
}

// Every mistake is told with its line, and no policy comes of it.
func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"rates: 5":                                `/etc/tfo/policy.yaml:1: unknown key "rates"; known are budget, concurrency,`,
		"# x\nnets:\n  alow: []":                  `:3: nets: unknown key "alow"; known are allow, deny, only`,
		"rate: 5\nrate: 6":                        `:2: the key rate is there twice`,
		"rate:":                                   `:1: rate: a single value is expected`,
		"rate: 0":                                 `:1: rate: "0" is not a number of connections`,
		"rate: -1":                                `"-1" is not a number`,
		"rate: .nan":                              `".nan" is not a number`,
		"rate: NaN":                               `"NaN" is not a number`,
		"rate: inf":                               `"inf" is not a number`,
		"rate: 1e9":                               `"1e9" is not a number`,
		"rate: [5]":                               `rate: a single value is expected`,
		"rate: {a: b}":                            `rate: a single value is expected`,
		"concurrency: 0":                          `concurrency: "0" is not a number from 1 to 1000000`,
		"concurrency: 5.5":                        `"5.5" is not a number`,
		"nets: {allow: 10.0.0.0/8}":               `nets.allow: a list is expected`,
		"nets: {only: []}":                        `nets.only: an empty list would allow nothing`,
		"nets: {deny: [10.0.0.0/33]}":             `nets.deny: "10.0.0.0/33" is neither an address`,
		"nets: {deny: [example.org]}":             `"example.org" is neither an address`,
		"nets: {deny: ['fe80::1%1']}":             `is neither an address`,
		"nets: {deny: [[10.0.0.1]]}":              `nets.deny: a single value is expected`,
		"nets: {deny: [~]}":                       `nets.deny: a single value is expected`,
		"nets: [1]":                               `:1: nets: a mapping of settings is expected`,
		"ports: {allow: []}":                      `an empty list would allow nothing`,
		"ports: {allow: [0]}":                     `"0" is neither a port`,
		"ports: {allow: [65536]}":                 `"65536" is neither a port`,
		"ports: {allow: [80-]}":                   `"80-" is neither a port`,
		"ports: {allow: [90-80]}":                 `the range 90-80 is upside down`,
		"ports: {allow: [0x50]}":                  `"0x50" is neither a port`,
		"ports: {deny: [1-65535]}":                `every allowed port is denied`,
		"budget: {attempts: 0}":                   `budget.attempts: "0" is not a number from 1 to 10000`,
		"budget: {window: 10}":                    `budget.window: "10" is not a time such as`,
		"budget: {window: 25h}":                   `"25h" is not a time`,
		"rate: 10000":                             `budget.window: 10000 connections per second can reach 6000000 addresses in 10m0s, and the probe can keep count of 2097152; a window of 3m29s is possible`,
		"do_not_probe: nowhere":                   `do_not_probe: open /etc/tfo/nowhere: file does not exist`,
		"do_not_probe: bad":                       `/etc/tfo/bad:2: neither a prefix, an address nor a name: "example.com:443"`,
		"do_not_probe: ugly":                      `/etc/tfo/ugly:3: character '!' can not be in a host name`,
		"do_not_probe: ''":                        `do_not_probe: a path is expected`,
		"contact_log: {sync: 1s}":                 `contact_log: the path is missing`,
		"contact_log: {path: x, sync: sometimes}": `contact_log.sync: "sometimes" is not a time such as 90s or 10m, from 10ms to 1h0m0s, nor always, nor never`,
		"listen: {enabled: true}":                 `listen: ports and sources have to be said`,
		"listen: {enabled: 1}":                    `listen.enabled: "1" is neither true nor false`,
		"a: b: c":                                 `/etc/tfo/policy.yaml: yaml:`,
		"\t":                                      `/etc/tfo/policy.yaml: yaml:`,
		"rate: 5\n---\nrate: 6":                   `there is more than one document`,
		"- rate":                                  `:1: a mapping of settings is expected`,
		"? [rate]\n: 5":                           `:1: unknown key`,
		"<<: {rate: 5}":                           `unknown key "<<"`,
		"nets: &a {allow: *a}":                    `nets.allow: a list is expected`,
		strings.Repeat(" ", maxFile+1):            `larger than 1048576 bytes`,
	} {
		p, err := parse([]byte(text), "/etc/tfo/policy.yaml", files(map[string]string{
			"/etc/tfo/bad": "example.org\nexample.com:443\n", "/etc/tfo/ugly": "8.8.8.8\nexample.org\na!b\n",
		}))
		if p != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", shown(text), err, want)
		}
	}
	_, err := parse([]byte("rate: x\nnets:\n  bad: 1\n"), "p", nil)
	if err == nil || !strings.Contains(err.Error(), "p:1:") || !strings.Contains(err.Error(), "p:3:") {
		t.Errorf("all mistakes at once: %v", err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// The example says what an empty file says, and what it has commented out is
// right, too.
func TestExample(t *testing.T) {
	p, err := Parse(Example, "policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Defaults(), p.Settings(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Transformer("nil", func(l []netip.Prefix) int { return len(l) })); d != "" {
		t.Error("the example differs from the defaults:", d)
	}
	if looser := p.Looser(); len(looser) != 0 {
		t.Error(looser)
	}
	for _, text := range []string{"", "# nothing\n", "nets:\nports:\n", "{}", "---\n"} {
		if got := mustParse(t, text, nil); got.Digest() != Default().Digest() {
			t.Errorf("%q is not the default", text)
		}
	}
	all := regexp.MustCompile(`(?m)^( *)#((  )?[a-z_]+:)`).ReplaceAllString(string(Example), "$1$2")
	all = strings.Replace(all, "enabled: false", "enabled: true", 1)
	q := mustParse(t, all, map[string]string{"/etc/tfo/do-not-probe.txt": ""})
	s := q.Settings()
	for name, missing := range map[string]bool{
		"nets.only": s.OnlyNets == nil, "do_not_probe": s.DoNotProbe == "", "kill_switch": s.KillSwitch == "", "contact_log": s.ContactLog == "",
		"listen": len(s.Listen.Ports) != 2 || len(s.Listen.Sources) != 2,
	} {
		if missing {
			t.Errorf("%s is not in the example", name)
		}
	}
	// Every key is in it.
	for _, key := range []string{
		"nets", "allow", "only", "deny", "ports", "rate", "concurrency", "budget", "attempts", "window", "do_not_probe", "kill_switch",
		"contact_log", "path", "sync", "listen", "enabled", "max_duration", "sources",
	} {
		if !regexp.MustCompile(`(?m)^[ #]*` + key + `:`).Match(Example) {
			t.Errorf("the example does not mention %s", key)
		}
	}
}

func TestLooser(t *testing.T) {
	for text, want := range map[string]string{
		"nets: {allow: [10.0.0.0/8]}": "special-purpose addresses are measured: 10.0.0.0/8",
		"ports: {allow: [80, 22-23]}": "more ports are measured: 22-23",
		"rate: 101":                   "101 connections per second, the default is 100",
		"concurrency: 501":            "501 targets at the same time, the default is 500",
		"budget: {attempts: 61}":      "61 attempts per address in 10m0s, the default is 60 in 10m0s",
		"budget: {window: 9m}":        "60 attempts per address in 9m0s, the default is 60 in 10m0s",
		"listen: {enabled: true, ports: [80], sources: [0.0.0.0/0]}": "the probe listens, on ports 80, for at most 10m0s",
	} {
		if got := mustParse(t, text, nil).Looser(); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// What a digest is for: it changes with what is permitted, and with nothing
// else.
func TestDigest(t *testing.T) {
	list := map[string]string{"/etc/tfo/a": "8.8.8.8\n", "/etc/tfo/b": "8.8.8.9\n"}
	same := []string{
		"nets: {deny: [10.0.0.0/8, 8.8.8.8]}\nrate: 50",
		"# comment\nrate: 50.0\nnets:\n  deny: [8.8.8.8/32, 10.0.0.1/8, 8.8.8.8]\n",
	}
	if a, b := mustParse(t, same[0], nil).Digest(), mustParse(t, same[1], nil).Digest(); a != b || len(a) != 64 {
		t.Errorf("%s and %s", a, b)
	}
	seen := map[string]string{}
	for _, text := range []string{
		"", "rate: 50", "concurrency: 50", "budget: {attempts: 5}", "budget: {window: 5m}", "ports: {deny: [80]}", "nets: {deny: [8.8.8.8]}",
		"nets: {allow: [8.8.8.8]}", "nets: {only: [8.8.8.8]}", "do_not_probe: a", "do_not_probe: b", "kill_switch: x", "contact_log: {path: x}",
		"contact_log: {path: x, sync: always}", "listen: {ports: [80]}", "listen: {sources: [8.8.8.8]}", "listen: {max_duration: 1m}",
		"listen: {enabled: true, ports: [80], sources: [8.8.8.8]}",
	} {
		d := mustParse(t, text, list).Digest()
		if before, ok := seen[d]; ok {
			t.Errorf("%q and %q have one digest", before, text)
		}
		seen[d] = text
	}
}

func genNets(t *rapid.T, name string) []netip.Prefix {
	if rapid.Bool().Draw(t, name+" nil") {
		return nil
	}
	pool := []string{"0.0.0.0/0", "8.0.0.0/8", "8.8.8.8/32", "10.0.0.0/8", "10.1.0.0/16", "::/0", "2000::/3", "64:ff9b::/96", "2002::/16", "2606:4700::/32"}
	all := []netip.Prefix{}
	for _, s := range rapid.SliceOfN(rapid.SampledFrom(pool), 0, 3).Draw(t, name) {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func genPorts(t *rapid.T, name string) []PortRange {
	if rapid.Bool().Draw(t, name+" nil") {
		return nil
	}
	pool := []PortRange{{1, 65535}, {80, 80}, {443, 443}, {22, 443}, {53, 80}}
	return append([]PortRange{}, rapid.SliceOfN(rapid.SampledFrom(pool), 0, 3).Draw(t, name)...)
}

func genLimits(t *rapid.T) Limits {
	number := rapid.SampledFrom([]float64{0, 0, 1, 50, 99.5, 1e9, -1, math.NaN(), math.Inf(1), math.Inf(-1)})
	count := rapid.SampledFrom([]int{0, 0, 1, 30, 1000, -5, math.MaxInt, math.MinInt})
	return Limits{
		DenyNets: genNets(t, "deny"), OnlyNets: genNets(t, "only"), DenyPorts: genPorts(t, "deny ports"), OnlyPorts: genPorts(t, "only ports"),
		Rate: number.Draw(t, "rate"), Concurrency: count.Draw(t, "concurrency"), NoListen: rapid.Bool().Draw(t, "no listen"),
		Budget: Attempts{count.Draw(t, "attempts"), time.Duration(rapid.Int64().Draw(t, "window"))},
	}
}

var (
	someAddrs = []netip.Addr{
		{}, netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("8.9.9.9"), netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.1.0.1"),
		netip.MustParseAddr("::ffff:8.8.8.8"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("64:ff9b::808:808"), netip.MustParseAddr("64:ff9b::a00:1"), netip.MustParseAddr("2002:808:808::"),
		netip.MustParseAddr("2606:4700::1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("1.1.1.1"),
	}
	somePorts = []uint16{0, 1, 22, 53, 79, 80, 81, 443, 853, 8080, 65535}
)

// TestTighten: whatever a controller demands, the result permits nothing that
// the file does not permit, nor anything that the demand excludes.
func TestTighten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Defaults()
		s.AllowNets, s.OnlyNets, s.DenyNets = genNets(t, "file allow"), genNets(t, "file only"), genNets(t, "file deny")
		if ports := genPorts(t, "file ports"); ports != nil {
			s.Ports = ports
		}
		s.Rate = rapid.Float64Range(0.1, 1e6).Draw(t, "file rate")
		s.Concurrency = rapid.IntRange(1, 10000).Draw(t, "file concurrency")
		s.Budget = Attempts{rapid.IntRange(1, 10000).Draw(t, "file attempts"), time.Duration(rapid.Int64Range(1e9, 1e14).Draw(t, "file window"))}
		s.Listen = Listen{rapid.Bool().Draw(t, "file listens"), []PortRange{{80, 90}}, time.Minute, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
		file := compile(s, doNotProbe{})
		digest := file.Digest()
		p := file
		for range rapid.IntRange(1, 3).Draw(t, "times") {
			l := genLimits(t)
			before := p
			p = p.Tighten(l)
			only := compile(Settings{Ports: []PortRange{{1, 65535}}, AllowNets: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, DenyNets: l.DenyNets, OnlyNets: l.OnlyNets}, doNotProbe{})
			for _, a := range someAddrs {
				for _, port := range somePorts {
					_, now := p.Permits(a, port)
					_, was := before.Permits(a, port)
					_, demanded := only.Permits(a, port)
					demanded = demanded && (l.OnlyPorts == nil || newPortSet(l.OnlyPorts...).has(port)) && !newPortSet(l.DenyPorts...).has(port)
					if now != (was && demanded) {
						t.Fatalf("%v:%d: permitted %v, was %v, demanded %v", a, port, now, was, demanded)
					}
				}
			}
			was, now := before.Settings(), p.Settings()
			if now.Rate > was.Rate || l.Rate > 0 && now.Rate > l.Rate || now.Rate <= 0 {
				t.Fatalf("rate %v, was %v, demanded %v", now.Rate, was.Rate, l.Rate)
			}
			if now.Concurrency > was.Concurrency || l.Concurrency > 0 && now.Concurrency > l.Concurrency || now.Concurrency <= 0 {
				t.Fatalf("concurrency %v, was %v, demanded %v", now.Concurrency, was.Concurrency, l.Concurrency)
			}
			if now.Budget.Number > was.Budget.Number || now.Budget.Window < was.Budget.Window || now.Budget.Number <= 0 {
				t.Fatalf("budget %v, was %v", now.Budget, was.Budget)
			}
			if l.Budget.Number > 0 && (now.Budget.Number > l.Budget.Number || now.Budget.Window < l.Budget.Window) {
				t.Fatalf("budget %v, demanded %v", now.Budget, l.Budget)
			}
			_, listens := p.PermitsListen(80, time.Second)
			if _, before := before.PermitsListen(80, time.Second); listens != (before && !l.NoListen) {
				t.Fatalf("listens %v, did %v, not to %v", listens, before, l.NoListen)
			}
			for _, asked := range []float64{0, -1, 5, 1e9, math.NaN()} {
				if r := p.RateFor(asked); r > now.Rate || asked > 0 && r > asked || r <= 0 {
					t.Fatalf("rate %v for %v", r, asked)
				}
				if c := p.ConcurrencyFor(int(min(asked, 1e9))); c > now.Concurrency || c <= 0 {
					t.Fatalf("concurrency %v for %v", c, asked)
				}
			}
		}
		if file.Digest() != digest {
			t.Fatal("the file's own policy was changed")
		}
		if p.Tighten(Limits{}).Digest() != p.Digest() {
			t.Fatal("no demand changes something")
		}
	})
}

// FuzzParse: no bytes make it panic, and no policy comes out that is looser than
// the default without saying so.
func FuzzParse(f *testing.F) {
	f.Add(Example, "")
	for _, text := range []string{
		"", "nets: {allow: [0.0.0.0/0, '::/0']}", "nets: {allow: [10.0.0.0/8], only: [10.0.0.0/9], deny: [8.8.8.8]}", "ports: {allow: [1-65535], deny: [25]}",
		"rate: 1e3\nconcurrency: 10000\nbudget: {attempts: 100, window: 1s}", "do_not_probe: list", "&a nets: *a", "a: &a [*a]", "rate: !!int 5",
		"listen: {enabled: yes, ports: [1], sources: [0.0.0.0/0]}", "{", "\xff", "? a\n: b", "rate: |\n  5\n", "%YAML 1.1\n---\nrate: 5", "nets: !!set {allow}",
		"contact_log: {path: x, sync: 0s}", "ports:\n- 80", "rate: 5 # x\n\n...\n", "!!binary aGk=: 5", "x: &x {<<: *x}",
	} {
		f.Add([]byte(text), someList)
	}
	f.Add([]byte("do_not_probe: list"), "\xef\xbb\xbfexample.org\n::1/0\n")
	f.Add([]byte("do_not_probe: list"), "1,example.org\nhttp://x/\n*.\n*.*.a\n#")
	zero := Default()
	f.Fuzz(func(t *testing.T, data []byte, list string) {
		p, err := parse(data, "/etc/policy.yaml", func(string) ([]byte, error) { return []byte(list), nil })
		if err != nil {
			if p != nil {
				t.Fatal("a policy with an error")
			}
			return
		}
		s, d := p.Settings(), Defaults()
		loose := s.Rate > d.Rate || s.Concurrency > d.Concurrency || s.Budget.Number > d.Budget.Number || s.Budget.Window < d.Budget.Window || s.Listen.Enabled
		for _, a := range someAddrs {
			for _, port := range somePorts {
				_, ok := p.Permits(a, port)
				_, byDefault := zero.Permits(a, port)
				loose = loose || ok && !byDefault
			}
		}
		if loose && len(p.Looser()) == 0 {
			t.Fatalf("%+v is looser than the default and does not say so", s)
		}
		if s.Rate <= 0 || s.Concurrency <= 0 || s.Budget.Number <= 0 || s.Budget.Window <= 0 || len(s.Ports) == 0 || slices.Contains(s.Ports, PortRange{}) {
			t.Fatalf("%+v", s)
		}
		p.Digest()
		p.PermitsName(list)
	})
}

func TestFileIsRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(filepath.Join(dir, "list"), []byte(someList), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("do_not_probe: list\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if reason, _ := p.Permits(netip.MustParseAddr("9.9.9.9"), 80); reason != DoNotProbe {
		t.Error(reason)
	}
}
