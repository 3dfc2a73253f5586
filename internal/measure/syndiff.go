package measure

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tfofleet/internal/tfo"
)

// SynField is a part of a SYN that a path may change. The values are
// append-only, the names are stored in datasets.
type SynField uint8

const (
	FieldSourceAddress      SynField = 1
	FieldSourcePort         SynField = 2
	FieldDestinationAddress SynField = 3
	FieldDestinationPort    SynField = 4
	FieldDSCP               SynField = 5
	FieldECN                SynField = 6  // of the IP header (RFC 3168, section 5)
	FieldTTL                SynField = 7  // or hop limit
	FieldIPID               SynField = 8  // IPv4
	FieldDontFragment       SynField = 9  // IPv4
	FieldFlowLabel          SynField = 10 // IPv6
	FieldISN                SynField = 11
	FieldFlags              SynField = 12 // of the TCP header but for the next
	FieldECNFlags           SynField = 13 // ECE and CWR: the client offers ECN
	FieldWindow             SynField = 14
	FieldPayloadLength      SynField = 15
	FieldPayload            SynField = 16 // its bytes
	FieldMSS                SynField = 17
	FieldWindowScale        SynField = 18
	FieldSACKPermitted      SynField = 19
	FieldTimestamps         SynField = 20
	FieldFastOpen           SynField = 21 // kind and cookie
	FieldOption             SynField = 22 // any other option; Difference.Option says which
	FieldOptionOrder        SynField = 23
)

var fieldNames = [...]string{
	"unknown", "source_address", "source_port", "destination_address", "destination_port", "dscp", "ecn", "ttl", "ip_id", "dont_fragment",
	"flow_label", "isn", "flags", "ecn_flags", "window", "payload_length", "payload", "mss", "window_scale", "sack_permitted", "timestamps",
	"fast_open", "option", "option_order",
}

func (f SynField) String() string {
	if int(f) < len(fieldNames) {
		return fieldNames[f]
	}
	return "unknown"
}

// Change is what became of a field. The values are append-only.
type Change uint8

const (
	Rewritten Change = 1 // another value
	Removed   Change = 2 // the option is gone
	Added     Change = 3 // an option that was not sent
)

var changeNames = [...]string{"unknown", "rewritten", "removed", "added"}

func (c Change) String() string {
	if int(c) < len(changeNames) {
		return changeNames[c]
	}
	return "unknown"
}

// Difference is one field in which the SYN that arrived is not the one that
// was sent. Before and After are the values in decimal, addresses and options
// as people write them; empty for an option that is not there.
type Difference struct {
	Field  SynField
	Change Change
	Option uint8 // its kind, of the fields that are options
	Before string
	After  string
}

// Rewrite reports whether somebody changed the SYN. Routers count the TTL down,
// as they must.
func (d Difference) Rewrite() bool { return d.Field != FieldTTL }

// String tells the difference in one line.
func (d Difference) String() string {
	name := strings.ReplaceAll(d.Field.String(), "_", " ")
	if d.Field == FieldOption {
		name = fmt.Sprintf("option %d", d.Option)
	}
	switch d.Change {
	case Removed:
		return fmt.Sprintf("%s removed (it was %s)", name, d.Before)
	case Added:
		return fmt.Sprintf("%s added: %s", name, d.After)
	}
	return fmt.Sprintf("%s from %s to %s", name, d.Before, d.After)
}

// SynComparison is the SYN of an attempt held against the one that arrived.
type SynComparison struct {
	Differences []Difference // by field
	// NotKnown are the fields that could not be compared, because the client's
	// wire or the arriving SYN was not seen, or because a repetition arrived.
	NotKnown []SynField
	// Unknown says whether an option that is in no common stack's SYN arrived;
	// NotTried when none was sent.
	Unknown tfo.Tri
}

// SynDiff compares the SYN of a pair field by field. Payload are the bytes that
// were offered; nil when they are not known.
func SynDiff(p *Pair, payload []byte) SynComparison {
	var c SynComparison
	ev, a := p.Attempt, p.Arrival
	if a == nil {
		for f := FieldSourceAddress; int(f) < len(fieldNames); f++ {
			c.skip(f)
		}
		return c
	}
	c.endpoints(ev, a)
	sent, got := p.syns()
	first := p.first()
	if sent == nil {
		for f := FieldDSCP; int(f) < len(fieldNames); f++ {
			switch f {
			case FieldPayloadLength, FieldPayload, FieldFastOpen:
			default:
				c.skip(f)
			}
		}
	} else {
		c.headers(sent, got, first)
		c.options(splitOptions(sent.OptionBytes), splitOptions(got.OptionBytes), first)
	}
	c.fastOpen(ev, a, first)
	c.payload(ev, a, first, payload)
	slices.SortStableFunc(c.Differences, func(a, b Difference) int { return int(a.Field) - int(b.Field) })
	slices.Sort(c.NotKnown)
	return c
}

func (c *SynComparison) skip(f SynField) { c.NotKnown = append(c.NotKnown, f) }

// hold compares one value.
func hold[T comparable](c *SynComparison, f SynField, before, after T) {
	if before != after {
		c.Differences = append(c.Differences, Difference{Field: f, Change: Rewritten, Before: fmt.Sprint(before), After: fmt.Sprint(after)})
	}
}

func (c *SynComparison) endpoints(ev *tfo.Evidence, a *tfo.Arrival) {
	for _, e := range []struct {
		addr, port    SynField
		before, after netip.AddrPort
	}{
		{FieldSourceAddress, FieldSourcePort, endpoint(ev.Local), endpoint(a.Peer)},
		{FieldDestinationAddress, FieldDestinationPort, endpoint(ev.Remote), endpoint(a.Local)},
	} {
		if !e.before.IsValid() || !e.after.IsValid() {
			c.skip(e.addr)
			c.skip(e.port)
			continue
		}
		hold(c, e.addr, e.before.Addr(), e.after.Addr())
		hold(c, e.port, e.before.Port(), e.after.Port())
	}
}

// headers compares the IP header and the fixed part of the TCP header. A
// repetition is another packet: it has an identification of its own, and may no
// longer offer ECN (RFC 3168, section 6.1.1.1).
func (c *SynComparison) headers(sent, got *tfo.SavedSYN, first bool) {
	const ece, cwr = 0x40, 0x80
	hold(c, FieldDSCP, sent.TOS>>2, got.TOS>>2)
	hold(c, FieldECN, sent.TOS&3, got.TOS&3)
	hold(c, FieldTTL, sent.TTL, got.TTL)
	hold(c, FieldISN, sent.Seq, got.Seq)
	hold(c, FieldFlags, sent.Flags&^(ece|cwr), got.Flags&^(ece|cwr))
	hold(c, FieldWindow, sent.Window, got.Window)
	v4, same := sent.Src.Addr().Is4(), sent.Src.Addr().Is4() == got.Src.Addr().Is4()
	if v4 && same {
		hold(c, FieldDontFragment, sent.DontFragment, got.DontFragment)
	} else {
		c.skip(FieldDontFragment)
	}
	if v4 && same && first {
		hold(c, FieldIPID, sent.ID, got.ID)
	} else {
		c.skip(FieldIPID)
	}
	if !v4 && same && first {
		hold(c, FieldFlowLabel, sent.FlowLabel, got.FlowLabel)
	} else {
		c.skip(FieldFlowLabel)
	}
	if first {
		hold(c, FieldECNFlags, sent.Flags&(ece|cwr), got.Flags&(ece|cwr))
	} else {
		c.skip(FieldECNFlags)
	}
}

// TCP option kinds (IANA registry "TCP Option Kind Numbers").
const (
	kindEnd        = 0
	kindNOP        = 1
	kindMSS        = 2
	kindWScale     = 3
	kindSACK       = 4
	kindTimestamps = 8
	kindMPTCP      = 30
)

// tcpOption is one option of a header.
type tcpOption struct {
	kind uint8
	body []byte
}

// isFastOpen tells the two kinds of the TFO option; 254 is shared with other
// experiments (RFC 7413, appendix A).
func (o tcpOption) isFastOpen() bool {
	return o.kind == tfo.OptionKindTFO || o.kind == tfo.OptionKindExp && len(o.body) >= 2 && o.body[0] == 0xf9 && o.body[1] == 0x89
}

// splitOptions lists the options without padding. It takes any bytes whatever
// and stops at the first option that cannot be.
func splitOptions(b []byte) (list []tcpOption) {
	for len(b) > 0 && b[0] != kindEnd {
		if b[0] == kindNOP {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return list
		}
		list = append(list, tcpOption{b[0], b[2:b[1]]})
		b = b[b[1]:]
	}
	return list
}

// field is where a difference in the option belongs, its value as people write
// it, and whether common stacks send it.
func (o tcpOption) field() (f SynField, value string, known bool) {
	switch {
	case o.isFastOpen():
		return FieldFastOpen, "", true
	case o.kind == kindMSS && len(o.body) == 2:
		return FieldMSS, fmt.Sprint(int(o.body[0])<<8 | int(o.body[1])), true
	case o.kind == kindWScale && len(o.body) == 1:
		return FieldWindowScale, fmt.Sprint(o.body[0]), true
	case o.kind == kindSACK && len(o.body) == 0:
		return FieldSACKPermitted, "yes", true
	case o.kind == kindTimestamps && len(o.body) == 8:
		return FieldTimestamps, fmt.Sprintf("%x", o.body), true
	}
	if len(o.body) == 0 {
		return FieldOption, "empty", false
	}
	return FieldOption, fmt.Sprintf("%x", o.body), o.kind == kindMPTCP
}

// options compares all options but those of Fast Open.
func (c *SynComparison) options(sent, got []tcpOption, first bool) {
	find := func(in []tcpOption, kind uint8) (tcpOption, bool) {
		i := slices.IndexFunc(in, func(o tcpOption) bool { return o.kind == kind && !o.isFastOpen() })
		if i < 0 {
			return tcpOption{}, false
		}
		return in[i], true
	}
	kinds := func(in, other []tcpOption) (both []uint8) {
		for _, o := range in {
			if _, there := find(other, o.kind); there && !o.isFastOpen() && !slices.Contains(both, o.kind) {
				both = append(both, o.kind)
			}
		}
		return both
	}
	done := map[uint8]bool{}
	for _, s := range sent {
		if s.isFastOpen() || done[s.kind] {
			continue
		}
		done[s.kind] = true
		field, before, known := s.field()
		g, there := find(got, s.kind)
		if !known {
			c.Unknown = max(c.Unknown, tfo.No)
			if there {
				c.Unknown = tfo.Yes
			}
		}
		_, after, _ := g.field()
		switch {
		case !there:
			c.Differences = append(c.Differences, Difference{Field: field, Change: Removed, Option: s.kind, Before: before})
		case bytes.Equal(s.body, g.body), field == FieldTimestamps && !first: // a repetition has the time of its own
		default:
			c.Differences = append(c.Differences, Difference{Field: field, Change: Rewritten, Option: s.kind, Before: before, After: after})
		}
	}
	for _, g := range got {
		if _, there := find(sent, g.kind); !there && !g.isFastOpen() && !done[g.kind] {
			done[g.kind] = true
			field, after, _ := g.field()
			c.Differences = append(c.Differences, Difference{Field: field, Change: Added, Option: g.kind, After: after})
		}
	}
	if before, after := kinds(sent, got), kinds(got, sent); !slices.Equal(before, after) {
		hold(c, FieldOptionOrder, orderText(before), orderText(after))
	}
}

func orderText(kinds []uint8) string { return strings.Trim(fmt.Sprint(kinds), "[]") }

// fastOpen compares the TFO option; the engine knows what it sent also without
// a look at the wire.
func (c *SynComparison) fastOpen(ev *tfo.Evidence, a *tfo.Arrival, first bool) {
	cookie, known := sentCookie(ev)
	if ev.Kind == tfo.KindPlain || ev.OptionKind == 0 {
		cookie, known = nil, true
	}
	if a.SYN.Raw == nil || !first || !known {
		c.skip(FieldFastOpen)
		return
	}
	sent, got := fastOpenText(ev.OptionKind, cookie), fastOpenText(a.SYN.Options.FastOpenKind, a.SYN.Options.FastOpen().Cookie)
	d := Difference{Field: FieldFastOpen, Change: Rewritten, Option: ev.OptionKind, Before: sent, After: got}
	switch {
	case sent == got:
		return
	case got == "":
		d.Change = Removed
	case sent == "":
		d.Change, d.Option = Added, a.SYN.Options.FastOpenKind
	}
	c.Differences = append(c.Differences, d)
}

func fastOpenText(kind uint8, cookie []byte) string {
	switch {
	case kind == 0:
		return ""
	case len(cookie) == 0:
		return fmt.Sprintf("%d request", kind)
	}
	return fmt.Sprintf("%d %x", kind, cookie)
}

func (c *SynComparison) payload(ev *tfo.Evidence, a *tfo.Arrival, first bool, payload []byte) {
	if !first || a.SynBytes == tfo.NotKnown {
		c.skip(FieldPayloadLength)
		c.skip(FieldPayload)
		return
	}
	hold(c, FieldPayloadLength, ev.SynBytes, a.SynBytes)
	// Only what was given to the application of the SYN's data can be read.
	n := min(ev.SynBytes, a.SynTaken, len(a.Request))
	if ev.SynBytes == 0 || n <= 0 || len(payload) < n {
		c.skip(FieldPayload)
		return
	}
	hold(c, FieldPayload, fmt.Sprintf("%x", payload[:n]), fmt.Sprintf("%x", a.Request[:n]))
}
