package tfo_test

import (
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tfofleet/internal/tfo"
)

func checkFamilies(t *testing.T, s tfo.SelfTest, place tfo.SelfTestPlace, families int) {
	t.Helper()
	if !s.Passed() || s.Place != place || len(s.Families) != families {
		t.Errorf("%+v, want %d families in %q", s, families, place)
	}
	for _, f := range s.Families {
		if f.SynBytes == 0 || f.SynAcked != f.SynBytes || f.SynTaken != f.SynBytes || len(f.Cookie) != 16 || !f.CookieValid || !f.Answered || f.RequestKind != tfo.OptionKindTFO {
			t.Errorf("%+v", f)
		}
	}
}

// The self-test in each of its places.
func TestSelfTest(t *testing.T) {
	ns := newNetNS(t)
	t.Run("private", func(t *testing.T) { checkFamilies(t, tfo.RunSelfTest("", nil), tfo.PlacePrivate, 2) })
	t.Run("loopback", func(t *testing.T) { checkFamilies(t, tfo.SelfTestLoopback(ns), tfo.PlaceLoopback, 1) })
	t.Run("user namespace", func(t *testing.T) {
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), selfTestChild+"=1")
		s, err := tfo.SelfTestIn(child)
		if err != nil {
			t.Fatal(err)
		}
		checkFamilies(t, s, tfo.PlaceUserNS, 2)
	})
	t.Run("a child that fails", func(t *testing.T) {
		_, err := tfo.SelfTestIn(exec.Command("/bin/sh", "-c", "echo no luck >&2; exit 1"))
		if err == nil || !strings.Contains(err.Error(), "no luck") {
			t.Error(err)
		}
		if _, err = tfo.SelfTestIn(exec.Command("/bin/sh", "-c", "echo nonsense")); err == nil {
			t.Error("nonsense passed")
		}
	})
}

// A self-test that could not fail would prove nothing: break what it proves,
// and it must say what is broken.
func TestSelfTestFails(t *testing.T) {
	ns := newNetNS(t)
	for i, tt := range []struct{ bits, want string }{
		{"3", ""},
		{"1", "a cookie was asked for and not granted"},
		{"2", "no connection: local EOPNOTSUPP"},
		{"7", "the SYN asked for no cookie"},
		{"0x203", "a cookie was asked for and not granted"},
	} {
		setSysctl(t, ns, "net/ipv4/tcp_fastopen", tt.bits)
		// An address of its own each time: without privileges the cookie of
		// the last one stays.
		if f := tfo.SelfTestOver(ns, netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)})); f.Failed != tt.want {
			t.Errorf("tcp_fastopen=%s: %q, want %q (%+v)", tt.bits, f.Failed, tt.want, f)
		}
	}
	setSysctl(t, ns, "net/ipv4/tcp_fastopen", "3")
	if s := tfo.SelfTestLoopback(ns); !s.Passed() {
		t.Errorf("bits are there: %+v", s)
	}
	setSysctl(t, ns, "net/ipv4/tcp_fastopen", "1")
	if s := tfo.SelfTestLoopback(ns); s.Passed() || s.Place != tfo.PlaceNone || len(s.Reasons) != 1 {
		t.Errorf("bits are missing: %+v", s)
	}
}

// The facts of a namespace that has them all otherwise.
func TestReadMachine(t *testing.T) {
	ns := newNetNS(t)
	for name, value := range map[string]string{
		"net/ipv4/tcp_fastopen": "0x403", "net/ipv4/tcp_fastopen_blackhole_timeout_sec": "77", "net/ipv4/tcp_timestamps": "2",
		"net/ipv4/tcp_no_metrics_save": "1", "net/ipv4/tcp_syncookies": "0", "net/core/somaxconn": "99", "net/mptcp/enabled": "0", "net/ipv4/ip_unprivileged_port_start": "80",
	} {
		setSysctl(t, ns, name, value)
	}
	m, err := tfo.ReadMachine(ns)
	if err != nil {
		t.Fatal(err)
	}
	if m.FastOpen != 0x403 || m.BlackholeTimeoutS != 77 || m.Timestamps != 2 || m.NoMetricsSave != 1 || m.Syncookies != 0 || m.Somaxconn != 99 || m.MPTCP != 0 || m.LowestPort != 80 {
		t.Errorf("sysctls: %+v", m)
	}
	if m.KeySet != tfo.No || m.WayOut.Interface != "" || m.Cache.Entries != 0 || m.BlackholePauses != 0 || m.Firewall.Read != tfo.Yes {
		t.Errorf("a namespace nobody has used: %+v", m)
	}
	if c, err := tfo.RunCheck(ns, nil); err != nil || c.Machine.KeySet != tfo.No {
		t.Errorf("looking has set a key: %v, %v", c.Machine.KeySet, err)
	}
	l := hear(t, tfo.ListenConfig{Addr: anyPort, NetNS: ns})
	for i := range byte(3) {
		attempt(t, ns, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1 + i}), l.Addr().Port()), tryRequest("hello"))
	}
	setSysctl(t, ns, "net/ipv4/tcp_fastopen", "1") // this one is given no cookie
	attempt(t, ns, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), l.Addr().Port()), tryRequest("hello"))
	setSysctl(t, ns, "net/ipv4/tcp_fastopen", "0x403")
	newRawPeer(t, ns)
	route(t, ns)
	if m, err = tfo.ReadMachine(ns); err != nil {
		t.Fatal(err)
	}
	if m.KeySet != tfo.Yes || m.Cache.Entries != 4 || m.Cache.Cookies != 3 {
		t.Errorf("after 4 requests and 3 cookies: key set %v, cache %+v", m.KeySet, m.Cache)
	}
	if want := (tfo.WayOut{Interface: hostLink, MTU: 1500}); m.WayOut != want {
		t.Errorf("way out %+v, want %+v", m.WayOut, want)
	}
	c, err := tfo.RunCheck(ns, nil)
	if err != nil || c.Fitness != tfo.FitWithLimits || c.Machine.FastOpen != 0x403 || !c.SelfTest.Passed() {
		t.Errorf("%v, %+v", err, c)
	}
	if _, err := tfo.RunCheck("/nowhere", nil); err == nil {
		t.Error("a namespace that is not there")
	}
}

// route makes the link of newRawPeer the default route.
func route(t *testing.T, ns tfo.NetNS) {
	t.Helper()
	err := ns.Do(func() error {
		c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		e := netlink.NewAttributeEncoder()
		e.Bytes(unix.RTA_GATEWAY, []byte{198, 51, 100, 2})
		attrs, err := e.Encode()
		if err != nil {
			return err
		}
		// struct rtmsg: family, two prefix lengths, tos, table, protocol, scope, type, flags.
		head := []byte{unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
		_, err = c.Execute(netlink.Message{
			Header: netlink.Header{Type: unix.RTM_NEWROUTE, Flags: netlink.Request | netlink.Acknowledge | netlink.Create},
			Data:   append(head, attrs...),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Rules of a real packet filter, read back.
func TestFirewallSigns(t *testing.T) {
	ns := newNetNS(t)
	expr := func(name string, data func(e *netlink.AttributeEncoder)) func(e *netlink.AttributeEncoder) error {
		return func(e *netlink.AttributeEncoder) error {
			e.String(unix.NFTA_EXPR_NAME, name)
			e.Nested(unix.NFTA_EXPR_DATA, func(e *netlink.AttributeEncoder) error {
				if data != nil {
					data(e)
				}
				return nil
			})
			return nil
		}
	}
	u32 := func(e *netlink.AttributeEncoder, kind uint16, v uint32) {
		e.Bytes(kind, binary.BigEndian.AppendUint32(nil, v))
	}
	counter := expr("counter", nil)
	strip := expr("exthdr", func(e *netlink.AttributeEncoder) {
		const tcpOption = 1
		e.Uint8(unix.NFTA_EXTHDR_TYPE, tfo.OptionKindTFO)
		u32(e, unix.NFTA_EXTHDR_OP, tcpOption)
	})
	redirect := expr("redir", nil)

	nf := func(kind int, flags netlink.HeaderFlags, build func(e *netlink.AttributeEncoder)) netlink.Message {
		e := netlink.NewAttributeEncoder()
		build(e)
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
			Data:   append([]byte{unix.NFPROTO_INET, 0, 0, 0}, b...),
		}
	}
	chain := func(name, kind string, hook, policy uint32) netlink.Message {
		return nf(unix.NFT_MSG_NEWCHAIN, netlink.Create, func(e *netlink.AttributeEncoder) {
			e.String(unix.NFTA_CHAIN_TABLE, "t")
			e.String(unix.NFTA_CHAIN_NAME, name)
			e.String(unix.NFTA_CHAIN_TYPE, kind)
			u32(e, unix.NFTA_CHAIN_POLICY, policy)
			e.Nested(unix.NFTA_CHAIN_HOOK, func(e *netlink.AttributeEncoder) error {
				u32(e, unix.NFTA_HOOK_HOOKNUM, hook)
				u32(e, unix.NFTA_HOOK_PRIORITY, 0)
				return nil
			})
		})
	}
	rule := func(chain string, x func(e *netlink.AttributeEncoder) error) netlink.Message {
		return nf(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, func(e *netlink.AttributeEncoder) {
			e.String(unix.NFTA_RULE_TABLE, "t")
			e.String(unix.NFTA_RULE_CHAIN, chain)
			e.Nested(unix.NFTA_RULE_EXPRESSIONS, func(e *netlink.AttributeEncoder) error {
				e.Nested(unix.NFTA_LIST_ELEM, x)
				return nil
			})
		})
	}
	apply := func(msgs ...netlink.Message) {
		t.Helper()
		batch := func(kind netlink.HeaderType) netlink.Message {
			return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request}, Data: []byte{0, 0, 0, unix.NFNL_SUBSYS_NFTABLES}}
		}
		err := ns.Do(func() error {
			c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
			if err != nil {
				return err
			}
			defer c.Close()
			last := len(msgs) - 1
			msgs[last].Header.Flags |= netlink.Acknowledge
			_, err = c.SendMessages(slices.Concat([]netlink.Message{batch(unix.NFNL_MSG_BATCH_BEGIN)}, msgs, []netlink.Message{batch(unix.NFNL_MSG_BATCH_END)}))
			if err != nil {
				return err
			}
			_, err = c.Receive()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	look := func(want tfo.Firewall) {
		t.Helper()
		m, err := tfo.ReadMachine(ns)
		if err != nil {
			t.Fatal(err)
		}
		got := m.Firewall
		if got.Read != tfo.Yes || got.OutputRules != want.OutputRules || got.OutputDrops != want.OutputDrops || got.OptionRules != want.OptionRules || !slices.Equal(got.Diversions, want.Diversions) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	const accept, drop = 1, 0
	look(tfo.Firewall{})
	apply(
		nf(unix.NFT_MSG_NEWTABLE, netlink.Create, func(e *netlink.AttributeEncoder) { e.String(unix.NFTA_TABLE_NAME, "t") }),
		chain("in", "filter", unix.NF_INET_LOCAL_IN, drop), chain("out", "filter", unix.NF_INET_LOCAL_OUT, accept),
		rule("in", counter), rule("out", counter), rule("out", counter),
	)
	look(tfo.Firewall{OutputRules: 2})
	apply(rule("in", strip))
	look(tfo.Firewall{OutputRules: 2, OptionRules: 1})
	apply(chain("nat", "nat", unix.NF_INET_LOCAL_OUT, accept), rule("nat", redirect))
	look(tfo.Firewall{OutputRules: 3, OptionRules: 1, Diversions: []string{"redir"}})
	apply(chain("post", "filter", unix.NF_INET_POST_ROUTING, drop))
	look(tfo.Firewall{OutputRules: 3, OptionRules: 1, Diversions: []string{"redir"}, OutputDrops: true})
}
