package tfo

import (
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// fitMachine is a machine that nothing can be said against.
func fitMachine() Machine {
	yes := map[string]Tri{}
	for _, o := range []string{"TCP_SAVE_SYN", "TCP_FASTOPEN", "TCP_FASTOPEN_NO_COOKIE", "TCP_FASTOPEN_KEY", "TCP_FASTOPEN_KEY backup"} {
		yes[o] = Yes
	}
	return Machine{
		Kernel: "6.18.1", Arch: "amd64", FastOpen: 3, KeySet: Yes, BlackholeTimeoutS: 0, MPTCP: 1, Timestamps: 1, Syncookies: 1, LinearSYNs: 4,
		Somaxconn: 4096, LowestPort: 1024, Missing: []string{}, CanClear: Yes, CanCapture: Yes, Cache: CookieCache{Slots: 16384, SlotsFrom: "memory size", Entries: 10, Cookies: 3},
		Firewall: Firewall{Read: Yes}, WayOut: WayOut{Interface: "eth0", MTU: 1500}, Clock: Clock{Synchronised: Yes, MaxErrorUS: 20_000}, Options: yes, InfoLen: 280,
	}
}

func passedTest() SelfTest {
	return SelfTest{Place: PlacePrivate, Families: []FamilyTest{{
		Family: "IPv4", RequestSeen: true, RequestKind: OptionKindTFO, Cookie: "0102030405060708", CookieJudged: true, CookieValid: true,
		SynBytes: 18, SynAcked: 18, SynTaken: 18, Answered: true, ClientFail: 1, ChildBit: true, InfoBytes: 280,
	}}}
}

// What both ends of a self-test showed, one thing wrong at a time.
func TestReadFamilyTest(t *testing.T) {
	local := netip.MustParseAddrPort("127.0.0.1:1000")
	cookie := Cookie{State: CookiePresent, Bytes: []byte("12345678")}
	for _, tt := range []struct {
		change func(request, data *Evidence, asked, given *Arrival)
		want   string
	}{
		{func(_, _ *Evidence, _, _ *Arrival) {}, ""},
		{func(r, _ *Evidence, _, _ *Arrival) { r.End, r.Errno = EndTimeout, "ETIMEDOUT" }, "no connection: timeout ETIMEDOUT"},
		{func(r, _ *Evidence, _, _ *Arrival) { r.CookieAfter = Cookie{} }, "the cookie cache cannot be read"},
		{func(r, _ *Evidence, _, _ *Arrival) { r.CookieAfter.State = CookieNone }, "a cookie was asked for and not granted"},
		{func(r, _ *Evidence, a, _ *Arrival) { r.CookieAfter.State, a.Claim = CookieNone, ClaimNone }, "the SYN asked for no cookie"},
		{func(_, d *Evidence, _, _ *Arrival) { d.SynBytes, d.SynAcked = 0, 0 }, "the SYN carried no data although a cookie was cached"},
		{func(_, d *Evidence, _, _ *Arrival) { d.SynAcked = 7 }, "7 of 18 bytes of SYN data were acknowledged"},
		{func(_, d *Evidence, _, _ *Arrival) { d.SynAcked = NotKnown }, "0 of 18 bytes of SYN data were acknowledged"},
		{func(_, _ *Evidence, _, a *Arrival) { a.SynTaken = 7 }, "the listener was given 7 of 18 bytes of SYN data"},
		{func(_, _ *Evidence, _, a *Arrival) { a.Claim = ClaimStale }, "the kernel's cookie is not the one computed from its key"},
		{func(_, _ *Evidence, _, a *Arrival) { a.Claim = ClaimUnjudged }, ""},
		{func(_, d *Evidence, _, _ *Arrival) { d.End = EndSilent }, "no answer: silent "},
		{func(_, d *Evidence, _, _ *Arrival) { d.Local = netip.AddrPort{} }, "the listener was given 0 of 18 bytes of SYN data"},
	} {
		request := &Evidence{End: EndResponse, Local: local, CookieAfter: cookie}
		data := &Evidence{End: EndResponse, Local: netip.AddrPortFrom(local.Addr(), 1001), SynBytes: 18, SynAcked: 18}
		asked, given := &Arrival{Peer: local, Claim: ClaimRequest}, &Arrival{Peer: data.Local, Claim: ClaimValid, SynTaken: 18}
		tt.change(request, data, asked, given)
		arrivals := make(chan *Arrival, 2)
		arrivals <- asked
		arrivals <- given
		close(arrivals)
		got := ""
		if err := new(FamilyTest).read([]*Evidence{request, data}, arrivals); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// Each fact by itself: what it weighs, what is said, and what to do about it.
func TestAssess(t *testing.T) {
	if c := assess(fitMachine(), passedTest()); c.Fitness != Fit || slices.ContainsFunc(c.Items, func(i CheckItem) bool { return i.Weight != WeightOK }) {
		t.Fatalf("a machine without fault: %v, %+v", c.Fitness, c.Items)
	}
	for _, tt := range []struct {
		name    string
		change  func(m *Machine, s *SelfTest)
		id      string
		weight  Weight
		value   string
		hint    string
		fitness Fitness
	}{
		{"no Fast Open", func(m *Machine, _ *SelfTest) { m.FastOpen = NotKnown }, "kernel", WeightUnfit, "6.18.1", "Linux kernel of", Unfit},
		{"client off", func(m *Machine, _ *SelfTest) { m.FastOpen = 2 }, "tcp_fastopen", WeightUnfit, "0x2: client off, listeners on", "sysctl -w net.ipv4.tcp_fastopen=0x3", Unfit},
		{"all off", func(m *Machine, _ *SelfTest) { m.FastOpen = 0 }, "tcp_fastopen", WeightUnfit, "0x0: client off, listeners off", "sysctl -w net.ipv4.tcp_fastopen=0x1", Unfit},
		{"client without cookies", func(m *Machine, _ *SelfTest) { m.FastOpen = 7 }, "tcp_fastopen", WeightUnfit, "client sends data without cookies", "tcp_fastopen=0x3", Unfit},
		{"listeners off", func(m *Machine, _ *SelfTest) { m.FastOpen = 1 }, "tcp_fastopen", WeightNote, "0x1: client on, listeners off", "tcp_fastopen=0x3", Fit},
		{"listeners without cookies", func(m *Machine, _ *SelfTest) { m.FastOpen = 0x203 }, "tcp_fastopen", WeightNote, "listeners take data without cookies", "tcp_fastopen=0x3", Fit},
		{"every listener", func(m *Machine, _ *SelfTest) { m.FastOpen = 0x403 }, "tcp_fastopen", WeightOK, "every listener has it", "", Fit},
		{"no self-test", func(_ *Machine, s *SelfTest) { *s = SelfTest{Reasons: []string{"no way"}} }, "self_test", WeightLimit, "could not be made", "run as root", FitWithLimits},
		{"self-test failed", func(_ *Machine, s *SelfTest) { s.Families[0].Failed = "no cookie" }, "self_test", WeightUnfit, "IPv4: no cookie", "", Unfit},
		{"self-test of one family failed", func(_ *Machine, s *SelfTest) {
			s.Families = append(s.Families, FamilyTest{Family: "IPv6", Failed: "none"})
		}, "self_test", WeightLimit, "passed over IPv4, failed over IPv6: none", "", FitWithLimits},
		{"blackhole pause", func(m *Machine, _ *SelfTest) { m.BlackholeTimeoutS, m.BlackholePauses = 3600, 2 }, "blackhole", WeightLimit, "3600 s, used 2 times", "tcp_fastopen_blackhole_timeout_sec=0", FitWithLimits},
		{"no blackhole pause", func(m *Machine, _ *SelfTest) { m.BlackholeTimeoutS = NotKnown }, "blackhole", WeightNote, "this kernel has none", "", Fit},
		{"no key", func(m *Machine, _ *SelfTest) { m.KeySet = No }, "key", WeightNote, "not set", "--key-file", Fit},
		{"key not readable", func(m *Machine, _ *SelfTest) { m.KeySet = NotTried }, "key", WeightNote, "not known", "", Fit},
		{"no CAP_NET_RAW", func(m *Machine, _ *SelfTest) { m.Missing = []string{"CAP_NET_RAW"} }, "capability.cap_net_raw", WeightNote, "CAP_NET_RAW missing", "setcap", Fit},
		{"no CAP_NET_ADMIN", func(m *Machine, _ *SelfTest) { m.Missing = []string{"CAP_NET_ADMIN"} }, "capability.cap_net_admin", WeightNote, "CAP_NET_ADMIN missing", "setcap", Fit},
		{"no CAP_SYS_ADMIN", func(m *Machine, _ *SelfTest) { m.Missing = []string{"CAP_SYS_ADMIN"} }, "capability.cap_sys_admin", WeightNote, "CAP_SYS_ADMIN missing", "", Fit},
		{"no low ports", func(m *Machine, _ *SelfTest) { m.Missing = []string{"CAP_NET_BIND_SERVICE"} }, "capability.cap_net_bind_service", WeightNote, "missing", "", Fit},
		{"all ports are free", func(m *Machine, _ *SelfTest) { m.Missing, m.LowestPort = []string{"CAP_NET_BIND_SERVICE"}, 0 }, "capabilities", WeightOK, "all that are needed", "", Fit},
		{"capabilities not known", func(m *Machine, _ *SelfTest) { m.Missing = nil }, "capabilities", WeightNote, "not known", "", Fit},
		{"a user namespace", func(m *Machine, _ *SelfTest) { m.UserNamespace = true }, "user_namespace", WeightNote, "not the initial one", "", Fit},
		{"no capture", func(m *Machine, _ *SelfTest) { m.CanCapture = No }, "capture", WeightLimit, "no", "setcap", FitWithLimits},
		{"cookies stay", func(m *Machine, _ *SelfTest) { m.CanClear = No }, "delete_cookies", WeightLimit, "no", "CAP_NET_ADMIN", FitWithLimits},
		{"cache does not answer", func(m *Machine, _ *SelfTest) { m.CanClear = NotTried }, "delete_cookies", WeightLimit, "not known", "", FitWithLimits},
		{"cache not readable", func(m *Machine, _ *SelfTest) { m.Cache.Entries = NotKnown }, "cookie_cache", WeightUnfit, "cannot be read", "", Unfit},
		{"cache full", func(m *Machine, _ *SelfTest) { m.Cache.Entries = 90_000 }, "cookie_cache", WeightNote, "90000 entries here, 3 with a cookie; an estimated 16384 slots (by memory size), so 98304 entries at most", "", Fit},
		{"metrics not saved", func(m *Machine, _ *SelfTest) { m.NoMetricsSave = 1 }, "no_metrics_save", WeightOK, "cookies are cached all the same", "", Fit},
		{"no timestamps", func(m *Machine, _ *SelfTest) { m.Timestamps = 0 }, "timestamps", WeightNote, "0: off", "tcp_timestamps=1", Fit},
		{"no MPTCP", func(m *Machine, _ *SelfTest) { m.MPTCP = NotKnown }, "mptcp", WeightOK, "not in this kernel", "", Fit},
		{"SYN cookies always", func(m *Machine, _ *SelfTest) { m.Syncookies = 2 }, "syncookies", WeightNote, "2: always", "tcp_syncookies=1", Fit},
		{"short queue", func(m *Machine, _ *SelfTest) { m.Somaxconn = 128 }, "somaxconn", WeightNote, "128 pending", "somaxconn=4096", Fit},
		{"firewall not readable", func(m *Machine, _ *SelfTest) { m.Firewall.Read = No }, "firewall", WeightNote, "cannot be read", "", Fit},
		{"older iptables", func(m *Machine, _ *SelfTest) { m.Firewall.LegacyTables = []string{"ip filter"} }, "firewall", WeightNote, "ip filter", "", Fit},
		{"firewall drops", func(m *Machine, _ *SelfTest) { m.Firewall.OutputDrops = true }, "firewall", WeightNote, "is dropped", "", Fit},
		{"firewall and the option", func(m *Machine, _ *SelfTest) { m.Firewall.OptionRules = 1 }, "firewall", WeightLimit, "1 about Fast Open options", "nft list ruleset", FitWithLimits},
		{"diverted", func(m *Machine, _ *SelfTest) { m.Firewall.Diversions = []string{"tproxy"} }, "firewall", WeightLimit, "tproxy", "nft list ruleset", FitWithLimits},
		{"proxy", func(m *Machine, _ *SelfTest) { m.Proxies = []string{"HTTPS_PROXY"} }, "proxy", WeightNote, "HTTPS_PROXY", "", Fit},
		{"no way out", func(m *Machine, _ *SelfTest) { m.WayOut = WayOut{} }, "way_out", WeightLimit, "no default route", "", FitWithLimits},
		{"tunnel", func(m *Machine, _ *SelfTest) { m.WayOut.Tunnel = true }, "way_out", WeightNote, "a tunnel, MTU 1500", "", Fit},
		{"clock", func(m *Machine, _ *SelfTest) { m.Clock.Synchronised = No }, "clock", WeightLimit, "not synchronised", "chrony", FitWithLimits},
		{"clock not known", func(m *Machine, _ *SelfTest) { m.Clock.Synchronised = NotTried }, "clock", WeightNote, "not known", "", Fit},
	} {
		m, s := fitMachine(), passedTest()
		tt.change(&m, &s)
		c := assess(m, s)
		i := slices.IndexFunc(c.Items, func(i CheckItem) bool { return i.ID == tt.id })
		if i < 0 {
			t.Errorf("%s: no item %s", tt.name, tt.id)
			continue
		}
		item := c.Items[i]
		if item.Weight != tt.weight || !strings.Contains(item.Value, tt.value) || !strings.Contains(item.Hint, tt.hint) || tt.hint == "" && item.Hint != "" || c.Fitness != tt.fitness {
			t.Errorf("%s: %v, %+v", tt.name, c.Fitness, item)
		}
		if item.Weight != WeightOK && item.Cost == "" && !strings.Contains(item.Value, "not known") && tt.id != "firewall" && tt.id != "tcp_fastopen" {
			t.Errorf("%s: does not say what it costs", tt.name)
		}
	}
}

// IDs are part of the JSON: two of a kind would be one too many.
func TestCheckIDs(t *testing.T) {
	m := fitMachine()
	m.UserNamespace, m.CanCapture = true, No
	m.Missing = []string{"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_NET_BIND_SERVICE"}
	c := assess(m, passedTest())
	seen := map[string]bool{}
	for _, i := range c.Items {
		if i.ID == "" || i.Name == "" || i.Value == "" || seen[i.ID] {
			t.Errorf("%+v", i)
		}
		seen[i.ID] = true
	}
	for _, f := range c.Features {
		if f.ID == "" || f.Name == "" || f.Since == "" || len(f.Commit) != 12 || seen[f.ID] {
			t.Errorf("%+v", f)
		}
		seen[f.ID] = true
	}
	b, err := json.Marshal(c)
	if err != nil || !strings.Contains(string(b), `"fitness":"limits"`) || !strings.Contains(string(b), `"tcp_fastopen_key_set":"yes"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// An answer is measured where it can be, taken from the version where it
// cannot, and else not known.
func TestAssessFeatures(t *testing.T) {
	answers := func(m Machine, s SelfTest) map[string]string {
		out := map[string]string{}
		for _, f := range assessFeatures(m, s) {
			out[f.ID] = f.Answer.String() + " " + f.How
			if (f.Answer == Yes) != (f.Cost == "") {
				t.Errorf("%s: %v, and it costs %q", f.ID, f.Answer, f.Cost)
			}
		}
		return out
	}
	for id, got := range answers(fitMachine(), passedTest()) {
		if got != "yes tried" && got != "yes self-test" {
			t.Errorf("a new kernel, %s: %s", id, got)
		}
	}

	old := Machine{Kernel: "4.14.1", FastOpen: 1, BlackholeTimeoutS: 3600, LinearSYNs: NotKnown, InfoLen: 192,
		Cache:   CookieCache{Entries: 1},
		Options: map[string]Tri{"TCP_SAVE_SYN": Yes, "TCP_FASTOPEN": Yes, "TCP_FASTOPEN_NO_COOKIE": No, "TCP_FASTOPEN_KEY": No, "TCP_FASTOPEN_KEY backup": No}}
	want := map[string]string{
		"client": "yes version", "tcp_metrics": "yes tried", "listener": "yes tried", "kind_34": "yes version", "save_syn": "yes tried",
		"blackhole_sysctl": "yes tried", "listener_key": "no tried", "no_cookie": "no tried", "bytes_retrans": "no tried", "siphash_cookies": "not_tried ",
		"backup_key": "no tried", "client_fail": "not_tried ", "syn_linear_timeouts": "no tried", "total_rto": "no tried", "tfo_child": "not_tried ",
	}
	if diff := cmp.Diff(want, answers(old, SelfTest{})); diff != "" {
		t.Errorf("an old kernel without a self-test:\n%s", diff)
	}
	s := passedTest()
	s.Families[0].CookieJudged, s.Families[0].CookieValid, s.Families[0].ClientFail, s.Families[0].ChildBit = false, false, 0, false
	got := answers(old, s)
	if got["client"] != "yes self-test" || got["client_fail"] != "no self-test" || got["tfo_child"] != "no self-test" || got["kind_34"] != "yes self-test" {
		t.Errorf("an old kernel with a self-test: %v", got)
	}
	// A version that cannot be read claims nothing.
	unread := fitMachine()
	unread.Kernel = "next"
	if got := answers(unread, SelfTest{}); got["kind_34"] != "not_tried " {
		t.Errorf("a kernel without a version: %v", got)
	}
}

// The model of facts measured: of so many entries in 16,384 slots, so many per
// cent are lost.
func TestCookieCacheModel(t *testing.T) {
	for n, want := range map[int]float64{20_000: 0.000, 50_000: 0.018, 65_000: 0.049, 98_304: 0.16, 200_000: 0.51, 1_000_000: 0.90} {
		if got := lost(float64(n) / 16384); math.Abs(got-want) > 0.006 {
			t.Errorf("%d entries: %.3f lost, want %.3f", n, got, want)
		}
	}
	c := CookieCache{Slots: 16384}
	if n := c.Comfortable(); n < 40_000 || n > 50_000 || c.Most() != 98_304 {
		t.Errorf("comfortable up to %d, at most %d", n, c.Most())
	}
	for _, tt := range []struct {
		cmdline string
		memory  uint64
		slots   int
		from    string
	}{
		{"quiet", 4 << 30, 16384, "memory size"},
		{"quiet", 256 << 20, 8192, "memory size"},
		{"tcpmhash_entries=100000 quiet", 4 << 30, 131072, "boot parameter"},
		{"tcpmhash_entries=0x1000\n", 4 << 30, 4096, "boot parameter"},
		{"tcpmhash_entries=x", 4 << 30, 16384, "memory size"},
		{"tcpmhash_entries=0", 4 << 30, 16384, "memory size"},
	} {
		if slots, from := cacheSlots(tt.cmdline, tt.memory); slots != tt.slots || from != tt.from {
			t.Errorf("%q, %d MB: %d slots by %s", tt.cmdline, tt.memory>>20, slots, from)
		}
	}
}

func TestParseRelease(t *testing.T) {
	for s, want := range map[string]kernelVersion{
		"6.18.44-fc": {6, 18}, "5.15.0-1-amd64": {5, 15}, "6.16-rc1": {6, 16}, "4.9": {4, 9}, "": {}, "6": {}, "x.y": {},
	} {
		if got := parseRelease(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
	if v := (kernelVersion{5, 5}); !v.atLeast(5, 5) || !v.atLeast(4, 20) || v.atLeast(5, 6) || v.atLeast(6, 0) {
		t.Error("5.5 is not between 4.20 and 5.6")
	}
}

func TestAnswerOf(t *testing.T) {
	for e, want := range map[unix.Errno]Tri{0: Yes, unix.ENOPROTOOPT: No, unix.EINVAL: No, unix.EPERM: NotTried, unix.ENOMEM: NotTried} {
		if got := answerOf(e); got != want {
			t.Errorf("%v: %v", e, got)
		}
	}
}

func TestIsTunnel(t *testing.T) {
	for hardware, want := range map[uint16]bool{unix.ARPHRD_ETHER: false, unix.ARPHRD_LOOPBACK: false, unix.ARPHRD_NONE: true, unix.ARPHRD_PPP: true, unix.ARPHRD_IPGRE: true} {
		if isTunnel(hardware) != want {
			t.Errorf("hardware type %d: %v", hardware, !want)
		}
	}
}

// nfBody encodes a message of nf_tables, as the kernel sends it.
func nfBody(t testing.TB, family uint8, build func(*netlink.AttributeEncoder)) []byte {
	e := netlink.NewAttributeEncoder()
	build(e)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{family, 0, 0, 0}, b...)
}

func FuzzParseRule(f *testing.F) {
	f.Add(nfBody(f, unix.NFPROTO_INET, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_RULE_TABLE, "t")
		e.String(unix.NFTA_RULE_CHAIN, "c")
		e.Nested(unix.NFTA_RULE_EXPRESSIONS, func(e *netlink.AttributeEncoder) error {
			e.Nested(unix.NFTA_LIST_ELEM, func(e *netlink.AttributeEncoder) error {
				e.String(unix.NFTA_EXPR_NAME, "target")
				e.Nested(unix.NFTA_EXPR_DATA, func(e *netlink.AttributeEncoder) error {
					e.String(unix.NFTA_TARGET_NAME, "TCPOPTSTRIP")
					return nil
				})
				return nil
			})
			return nil
		})
	}))
	f.Add(nfBody(f, unix.NFPROTO_IPV4, func(e *netlink.AttributeEncoder) {
		e.String(unix.NFTA_CHAIN_TABLE, "t")
		e.String(unix.NFTA_CHAIN_NAME, "c")
		e.Nested(unix.NFTA_CHAIN_HOOK, func(e *netlink.AttributeEncoder) error {
			e.Bytes(unix.NFTA_HOOK_HOOKNUM, []byte{0, 0, 0, 3})
			return nil
		})
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _ := parseRule(b)
		c, _ := parseChain(b)
		var fw Firewall
		fw.count([]nfChain{c}, []nfRule{r})
		if fw.OutputRules > 1 || fw.OptionRules > 1 {
			t.Fatalf("%+v", fw)
		}
	})
}
