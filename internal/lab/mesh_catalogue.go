package lab

import (
	"slices"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// MeshCatalogue returns every path of the mesh: for each verdict that both ends
// together can give, what does it; then what paths do to a SYN that is not
// about Fast Open.
func MeshCatalogue() []MeshPath {
	return slices.Concat(meshHealthy(), meshOption(), meshCookie(), meshData(), meshFlow(), meshRewriting())
}

// SpreadOver puts the paths onto the ways of the smallest mesh in which no two
// hosts have more than one between them: one way of each pair has its fault,
// the other is clean.
func SpreadOver(paths []MeshPath) (hosts int, ways map[Way]MeshPath) {
	for hosts = 2; hosts*(hosts-1)/2 < len(paths); {
		hosts++
	}
	ways = map[Way]MeshPath{}
	n := 0
	for a := range hosts {
		for b := range a {
			if n == len(paths) {
				return hosts, ways
			}
			w := Way{a, b}
			if n%2 == 1 {
				w = Way{b, a}
			}
			ways[w] = paths[n]
			n++
		}
	}
	return hosts, ways
}

func meshHealthy() []MeshPath {
	return []MeshPath{
		{
			Name: "loss", About: "2 % of all frames are lost each way", Truth: measure.JointSupported,
			Note:  "so many frames of one measurement may be lost that it stays inconclusive; a fault it must never become",
			Rules: []Rule{{On: Both, If: Chance(0.02), Do: Drop}},
		},
		{
			Name: "slow", About: "60 ms there and back", Truth: measure.JointSupported,
			Rules: []Rule{{On: Both, Do: Delay(30*time.Millisecond, 0)}},
		},
	}
}

func meshOption() []MeshPath {
	return []MeshPath{
		{
			Name: "option-stripped", About: "the option is taken out of SYNs", Taxonomy: []string{"M2"},
			Truth: measure.JointOptionStripped, Direction: measure.Forward, Differences: []measure.SynField{measure.FieldFastOpen},
			Rules: []Rule{{On: Forward, Do: Strip(AnyKind)}},
		},
		{
			Name: "data-option-stripped", About: "the option is taken out of SYNs with data", Taxonomy: []string{"M7"},
			Truth: measure.JointOptionStripped, Direction: measure.Forward, Differences: []measure.SynField{measure.FieldFastOpen},
			Rules: []Rule{{On: Forward, If: dataSYN, Do: Strip(AnyKind)}},
		},
		{
			Name: "option-dropped", About: "SYNs with the option are lost", Taxonomy: []string{"M1"},
			Truth: measure.JointOptionDropped, Direction: measure.Forward,
			Rules: []Rule{{On: Forward, If: tfoSYN, Do: Drop}},
		},
		{
			Name: "answer-dropped", About: "SYN-ACKs with the option are lost", Taxonomy: []string{"M1"},
			Truth: measure.JointOptionDropped, Direction: measure.Return,
			Rules: []Rule{{On: Return, If: SYNACK.And(Option(AnyKind)), Do: Drop}},
		},
		{
			Name: "option-mirrored", About: "SYN-ACKs bring the option of the SYN back, empty, in place of the listener's", Taxonomy: []string{"M19"},
			Truth: measure.JointOptionMirrored, Direction: measure.Return,
			Rules: []Rule{{On: Return, If: SYNACK, Do: Strip(AnyKind)}, {On: Return, If: SYNACK, Do: Mirror(true)}},
		},
	}
}

func meshCookie() []MeshPath {
	return []MeshPath{
		{
			Name: "cookie-stripped", About: "the option is taken out of SYN-ACKs", Taxonomy: []string{"M3"},
			Truth: measure.JointCookieStripped, Direction: measure.Return,
			Rules: []Rule{{On: Return, Do: Strip(AnyKind)}},
		},
		{
			Name: "cookie-taken", About: "the cookie is taken out of the option of SYNs", Taxonomy: []string{"M7"},
			Truth: measure.JointCookieStripped, Direction: measure.Forward, Differences: []measure.SynField{measure.FieldFastOpen},
			Rules: []Rule{{On: Forward, If: cookieSYN, Do: Empty(AnyKind)}},
		},
		{
			Name: "cookie-rewritten", About: "cookies are inverted in SYN-ACKs", Taxonomy: []string{"M20"},
			Truth: measure.JointCookieRewritten, Direction: measure.Return,
			Rules: []Rule{{On: Return, If: SYNACK, Do: FlipCookie}},
		},
		{
			Name: "cookie-rewritten-there", About: "cookies are inverted in SYNs", Taxonomy: []string{"M20"},
			Truth: measure.JointCookieRewritten, Direction: measure.Forward, Differences: []measure.SynField{measure.FieldFastOpen},
			Rules: []Rule{{On: Forward, If: SYN, Do: FlipCookie}},
		},
		{
			Name: "cookie-cut", About: "cookies are cut to 6 bytes in SYN-ACKs", Taxonomy: []string{"M20"},
			Truth: measure.JointCookieRewritten, Direction: measure.Return,
			Rules: []Rule{{On: Return, If: SYNACK, Do: ResizeCookie(6)}},
		},
		{
			Name: "cgn", About: "the client's address changes with every flow", Taxonomy: []string{"M9"},
			Truth: measure.JointCookieRefused, Direction: measure.Forward,
			NAT: measure.NAT{Address: tfo.Yes, Changing: tfo.Yes}, Differences: []measure.SynField{measure.FieldSourceAddress},
			Rules: []Rule{{On: Forward, Do: Masquerade}},
		},
	}
}

func meshData() []MeshPath {
	return []MeshPath{
		{
			Name: "data-stripped", About: "the data is taken out of SYNs", Taxonomy: []string{"M6"},
			Truth: measure.JointPayloadStripped, Direction: measure.Forward, Differences: []measure.SynField{measure.FieldPayloadLength},
			Rules: []Rule{{On: Forward, If: SYN, Do: StripData}},
		},
		{
			Name: "data-truncated", About: "the data of SYNs is cut to 20 bytes", Taxonomy: []string{"M8"},
			Truth: measure.JointPayloadTruncated, Direction: measure.Forward, Differences: []measure.SynField{measure.FieldPayloadLength},
			Rules: []Rule{{On: Forward, If: SYN, Do: Truncate(20)}},
		},
		{
			Name: "data-dropped", About: "SYNs with data are lost", Taxonomy: []string{"M5"},
			Truth: measure.JointDataDropped, Direction: measure.Forward,
			Rules: []Rule{{On: Forward, If: dataSYN, Do: Drop}},
		},
		{
			Name: "data-reset", About: "SYNs with data are answered by RST", Taxonomy: []string{"M13"},
			Truth: measure.JointReset, Direction: measure.Forward,
			Rules: []Rule{{On: Forward, If: dataSYN, Do: Refuse(RST)}},
		},
	}
}

func meshFlow() []MeshPath {
	const began, dead = Mark1, Mark2
	return []MeshPath{
		{
			Name: "dead-there", About: "after a SYN with data nothing more arrives", Taxonomy: []string{"M16"},
			Truth: measure.JointBlackholedAfterHandshake, Direction: measure.Forward,
			Note:  "the client is answered in the first round trip and content",
			Rules: []Rule{{On: Forward, If: dataSYN, Do: SetMark(began)}, {On: Forward, If: Marked(began).And(Not(SYN)), Do: Drop}},
		},
		{
			Name: "dead-back", About: "after a SYN with data nothing but the SYN-ACK comes back", Taxonomy: []string{"M16"},
			Truth: measure.JointBlackholedAfterHandshake, Direction: measure.Return,
			Rules: []Rule{{On: Forward, If: dataSYN, Do: SetMark(began)}, {On: Return, If: Marked(began).And(Not(SYNACK)), Do: Drop}},
		},
		{
			Name: "dead-both", About: "after a SYN with data and its SYN-ACK the flow is dead both ways", Taxonomy: []string{"M17"},
			Truth: measure.JointBlackholedAfterHandshake, Direction: measure.BothWays,
			Rules: []Rule{
				{On: Both, If: Marked(dead), Do: Drop},
				{On: Forward, If: dataSYN, Do: SetMark(began)},
				{On: Return, If: SYNACK.And(Marked(began)), Do: SetMark(dead)},
			},
		},
		{
			Name: "unheard-there", About: "a flow whose SYN has data is dead from there on", Taxonomy: []string{"M15"},
			Truth: measure.JointBlackholedBefore, Direction: measure.Forward,
			Rules: []Rule{{On: Forward, If: dataSYN, Do: SetMark(dead)}, {On: Both, If: Marked(dead), Do: Drop}},
		},
		{
			Name: "unheard-back", About: "SYNs with data arrive, and nothing comes back", Taxonomy: []string{"M15"},
			Truth: measure.JointBlackholedBefore, Direction: measure.Return,
			Rules: []Rule{{On: Forward, If: dataSYN, Do: SetMark(dead)}, {On: Return, If: Marked(dead), Do: Drop}},
		},
		{
			Name: "proxy", About: "a proxy with Fast Open answers for the listener", Taxonomy: []string{"M24"},
			Truth: measure.JointProxied, Proxy: &Proxy{TFO: TFOOn, Key: KeyC},
		},
		{
			Name: "proxy-no-tfo", About: "a proxy without Fast Open answers for the listener", Taxonomy: []string{"M24"},
			Truth: measure.JointProxied, Proxy: &Proxy{},
			Note: "without the client's wire like a stripped option",
		},
	}
}

func meshRewriting() []MeshPath {
	rewritten := func(name, about string, do Action, fields ...measure.SynField) MeshPath {
		return MeshPath{Name: name, About: about, Truth: measure.JointSupported, Differences: fields, Rules: []Rule{{On: Forward, Do: do}}}
	}
	isn := rewritten("isn-rewritten", "the client's sequence numbers are others", ShiftISN(0x01234567), measure.FieldISN)
	isn.Rules[0].On = Both
	nat := rewritten("nat", "the client has one other address", Translate(false), measure.FieldSourceAddress)
	nat.NAT = measure.NAT{Address: tfo.Yes}
	napt := rewritten("nat-ports", "the client has one other address, and each flow another port", Translate(true), measure.FieldSourceAddress, measure.FieldSourcePort)
	napt.NAT = measure.NAT{Address: tfo.Yes, Port: tfo.Yes}
	return []MeshPath{
		nat, napt, isn,
		rewritten("mss-clamped", "the MSS is clamped to 1380", ClampMSS(1380), measure.FieldMSS),
		rewritten("sack-stripped", "SACK is not permitted", StripOptions(optSACK), measure.FieldSACKPermitted),
		rewritten("timestamps-stripped", "timestamps are taken out", StripOptions(optTimestamps), measure.FieldTimestamps),
		rewritten("wscale-stripped", "the window scale is taken out", StripOptions(optWScale), measure.FieldWindowScale),
		rewritten("ecn-bleached", "the offer of ECN is taken out", BleachECN, measure.FieldECNFlags),
		rewritten("dscp-rewritten", "all traffic is of one class", SetDSCP(10), measure.FieldDSCP),
	}
}
