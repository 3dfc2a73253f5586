package tfo

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Firewall is what this machine's own packet filter may do to Fast Open. The
// rules are read, not tried: a sign is a reason to look, no proof.
type Firewall struct {
	Read Tri `json:"read"` // whether the rules could be listed; reading them takes CAP_NET_ADMIN

	OutputRules  int      `json:"output_rules"`  // in chains that see what this machine sends
	OutputDrops  bool     `json:"output_drops"`  // one of those chains drops what no rule lets pass
	OptionRules  int      `json:"option_rules"`  // that look at, change or strip a Fast Open option
	Diversions   []string `json:"diversions"`    // rules that send TCP elsewhere, by kind
	LegacyTables []string `json:"legacy_tables"` // tables of the older iptables; their rules are not read
}

// diverting are nf_tables expressions, and targets of the iptables that works
// through nf_tables, that put something between us and the other end.
var diverting = []string{"redir", "tproxy", "queue", "synproxy", "dnat", "REDIRECT", "TPROXY", "NFQUEUE", "SYNPROXY", "DNAT"}

// readFirewall must run in the namespace.
func readFirewall() Firewall {
	f := Firewall{Diversions: []string{}, LegacyTables: []string{}}
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + name)
		if err != nil {
			continue // not loaded, or not ours to read
		}
		for table := range strings.FieldsSeq(string(b)) {
			f.LegacyTables = append(f.LegacyTables, strings.TrimSuffix(name, "_tables_names")+" "+table)
		}
	}
	chains, rules, err := dumpRules()
	if err != nil {
		f.Read = No
		return f
	}
	f.Read = Yes
	f.count(chains, rules)
	return f
}

// nfChain is a base chain of nf_tables; the others have no hook.
type nfChain struct {
	family      uint8
	table, name string
	hook        uint32
	drops       bool // its policy
}

// nfRule is a rule of nf_tables.
type nfRule struct {
	family       uint8
	table, chain string
	kinds        []string // of its expressions, and the names of targets
	option       bool     // it touches a Fast Open option
}

func (f *Firewall) count(chains []nfChain, rules []nfRule) {
	outgoing := func(r nfRule) bool {
		return slices.ContainsFunc(chains, func(c nfChain) bool {
			return c.family == r.family && c.table == r.table && c.name == r.chain && sends(c.hook)
		})
	}
	for _, c := range chains {
		f.OutputDrops = f.OutputDrops || c.drops && sends(c.hook)
	}
	for _, r := range rules {
		if outgoing(r) {
			f.OutputRules++
		}
		if r.option {
			f.OptionRules++
		}
		for _, k := range r.kinds {
			if slices.Contains(diverting, k) && !slices.Contains(f.Diversions, k) {
				f.Diversions = append(f.Diversions, k)
			}
		}
	}
}

// sends tells the hooks that what this machine sends passes through.
func sends(hook uint32) bool {
	return hook == unix.NF_INET_LOCAL_OUT || hook == unix.NF_INET_POST_ROUTING
}

// dumpRules lists the chains and rules of the calling thread's namespace.
func dumpRules() (chains []nfChain, rules []nfRule, err error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	dump := func(command int) ([]netlink.Message, error) {
		return c.Execute(netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | command), Flags: netlink.Request | netlink.Dump},
			Data:   make([]byte, 4), // struct nfgenmsg: every family
		})
	}
	msgs, err := dump(unix.NFT_MSG_GETCHAIN)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range msgs {
		if ch, ok := parseChain(m.Data); ok {
			chains = append(chains, ch)
		}
	}
	if msgs, err = dump(unix.NFT_MSG_GETRULE); err != nil {
		return nil, nil, err
	}
	for _, m := range msgs {
		if r, ok := parseRule(m.Data); ok {
			rules = append(rules, r)
		}
	}
	return chains, rules, nil
}

// attributes starts on the attributes behind a struct nfgenmsg; its family is
// the first byte. ok is false for what cannot be a message about IP.
func attributes(b []byte) (family uint8, ad *netlink.AttributeDecoder, ok bool) {
	if len(b) < 4 {
		return 0, nil, false
	}
	switch b[0] {
	case unix.NFPROTO_INET, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6:
	default:
		return 0, nil, false
	}
	ad, err := netlink.NewAttributeDecoder(b[4:])
	if err != nil {
		return 0, nil, false
	}
	ad.ByteOrder = binary.BigEndian
	return b[0], ad, true
}

// parseChain reports false for chains without a hook.
func parseChain(b []byte) (c nfChain, ok bool) {
	family, ad, ok := attributes(b)
	if !ok {
		return c, false
	}
	c.family, ok = family, false
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_CHAIN_TABLE:
			c.table = ad.String()
		case unix.NFTA_CHAIN_NAME:
			c.name = ad.String()
		case unix.NFTA_CHAIN_POLICY:
			const drop = 0 // NF_DROP
			c.drops = ad.Uint32() == drop
		case unix.NFTA_CHAIN_HOOK:
			ad.Nested(func(hook *netlink.AttributeDecoder) error {
				for hook.Next() {
					if hook.Type() == unix.NFTA_HOOK_HOOKNUM {
						c.hook, ok = hook.Uint32(), true
					}
				}
				return nil
			})
		}
	}
	return c, ok && ad.Err() == nil
}

func parseRule(b []byte) (r nfRule, ok bool) {
	family, ad, ok := attributes(b)
	if !ok {
		return r, false
	}
	r.family = family
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_RULE_TABLE:
			r.table = ad.String()
		case unix.NFTA_RULE_CHAIN:
			r.chain = ad.String()
		case unix.NFTA_RULE_EXPRESSIONS:
			ad.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					if list.Type() == unix.NFTA_LIST_ELEM {
						list.Nested(r.expression)
					}
				}
				return nil
			})
		}
	}
	return r, ad.Err() == nil
}

// expression takes in one expression of a rule: its name, and for some what
// they do.
func (r *nfRule) expression(ad *netlink.AttributeDecoder) error {
	name := ""
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_EXPR_NAME:
			name = ad.String()
			r.kinds = append(r.kinds, name)
		case unix.NFTA_EXPR_DATA:
			switch name { // comes before the data
			case "exthdr":
				ad.Nested(r.header)
			case "nat":
				ad.Nested(r.nat)
			case "target":
				ad.Nested(r.target)
			}
		}
	}
	return nil
}

// header is an expression about an extension header or a TCP option.
func (r *nfRule) header(ad *netlink.AttributeDecoder) error {
	const tcpOption = 1 // NFT_EXTHDR_OP_TCPOPT
	var kind uint8
	var op uint32
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_EXTHDR_TYPE:
			kind = ad.Uint8()
		case unix.NFTA_EXTHDR_OP:
			op = ad.Uint32()
		}
	}
	if op == tcpOption && (kind == OptionKindTFO || kind == OptionKindExp) {
		r.option = true
	}
	return nil
}

func (r *nfRule) nat(ad *netlink.AttributeDecoder) error {
	const dnat = 1 // NFT_NAT_DNAT
	for ad.Next() {
		if ad.Type() == unix.NFTA_NAT_TYPE && ad.Uint32() == dnat {
			r.kinds = append(r.kinds, "dnat")
		}
	}
	return nil
}

func (r *nfRule) target(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		if ad.Type() == unix.NFTA_TARGET_NAME {
			name := ad.String()
			r.kinds = append(r.kinds, name)
			// Which options it strips is in a format of its own.
			r.option = r.option || name == "TCPOPTSTRIP"
		}
	}
	return nil
}
