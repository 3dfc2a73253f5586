package measure

import (
	"fmt"
	"net/netip"
	"slices"

	"tfofleet/internal/tfo"
)

// JointVerdict is one word for what both ends of a measurement show together.
// The values are append-only: they are stored in datasets.
type JointVerdict uint8

const (
	JointSupported                JointVerdict = 1  // cookie and data arrived as sent, the answers came back
	JointOptionStripped           JointVerdict = 2  // the SYN arrives without its option
	JointCookieStripped           JointVerdict = 3  // the option comes back, or arrives, without the cookie it had; or does not come back
	JointOptionMirrored           JointVerdict = 4  // the SYN-ACK brings an empty option in place of the cookie
	JointPayloadStripped          JointVerdict = 5  // the option arrives, the SYN's data does not
	JointPayloadTruncated         JointVerdict = 6  // part of the SYN's data arrives
	JointCookieRewritten          JointVerdict = 7  // another cookie arrives, or comes back
	JointDataDropped              JointVerdict = 8  // a SYN with data is lost, its bare repetition is not
	JointOptionDropped            JointVerdict = 9  // a segment with the option is lost, its bare repetition is not
	JointProxied                  JointVerdict = 10 // the listener saw another SYN than was sent, or none
	JointBlackholedAfterHandshake JointVerdict = 11
	JointBlackholedBefore         JointVerdict = 12 // a Fast Open SYN gets no answer at all, a plain one does
	JointUnsupported              JointVerdict = 13 // all arrives, and the listener itself withholds Fast Open
	JointInconclusive             JointVerdict = 14 // see Doubt
	JointPeerLost                 JointVerdict = 15 // one end vanished before it had reported
	JointCookieRefused            JointVerdict = 16 // the listener gave the cookie to another address of the client's
	JointReset                    JointVerdict = 17 // a Fast Open SYN is answered by an error that is not the listener's
	JointClientBlocked            JointVerdict = 18 // plain worked before the Fast Open attempts and fails after them
	JointOffline                  JointVerdict = 19 // plain fails as well
)

var jointNames = [...]string{
	"unknown", "supported", "option_stripped", "cookie_stripped", "option_mirrored", "payload_stripped", "payload_truncated", "cookie_rewritten",
	"data_dropped", "option_dropped", "proxied", "blackholed_after_handshake", "blackholed_before", "unsupported", "inconclusive", "peer_lost",
	"cookie_refused", "reset", "client_blocked", "offline",
}

func (v JointVerdict) String() string {
	if int(v) < len(jointNames) {
		return jointNames[v]
	}
	return jointNames[0]
}

// JointVerdicts lists every joint verdict in the order of its value.
func JointVerdicts() (vs []JointVerdict) {
	for v := JointSupported; int(v) < len(jointNames); v++ {
		vs = append(vs, v)
	}
	return vs
}

// ParseJointVerdict is the inverse of String.
func ParseJointVerdict(s string) (JointVerdict, error) {
	for _, v := range JointVerdicts() {
		if v.String() == s {
			return v, nil
		}
	}
	return 0, fmt.Errorf("unknown joint verdict %q", s)
}

// Fault reports whether the verdict blames the path.
func (v JointVerdict) Fault() bool {
	switch v {
	case JointSupported, JointUnsupported, JointInconclusive, JointPeerLost, JointOffline:
		return false
	}
	return v != 0 && int(v) < len(jointNames)
}

// Direction is the way a fault is on, as the client sees it. The values are
// append-only.
type Direction uint8

const (
	DirectionUnknown Direction = 0 // or there is no fault, or it has none
	Forward          Direction = 1 // from the client to the listener
	Return           Direction = 2
	BothWays         Direction = 3
)

var directionNames = [...]string{"unknown", "forward", "return", "both"}

func (d Direction) String() string {
	if int(d) < len(directionNames) {
		return directionNames[d]
	}
	return directionNames[0]
}

// Doubt is why a joint verdict is inconclusive. The values are append-only.
type Doubt uint8

const (
	DoubtNone     Doubt = 0
	DoubtLocal    Doubt = 1 // the client's own machine did not send what it should have
	DoubtListener Doubt = 2 // the listener's kernel lost SYNs or withheld Fast Open while it ran
	DoubtUnjoined Doubt = 3 // connections of the client are not among the arrivals
	DoubtTooFew   Doubt = 4 // something was seen, and not often enough to be named
	DoubtDisagree Doubt = 5 // the attempts contradict each other
	DoubtRefused  Doubt = 6 // nothing was sent: the client's policy forbade it, or it knew no address
)

var doubtNames = [...]string{"none", "local", "listener", "unjoined", "too_few", "disagree", "refused"}

func (d Doubt) String() string {
	if int(d) < len(doubtNames) {
		return doubtNames[d]
	}
	return "unknown"
}

// NAT is what the joined attempts say of address translation. NotTried where
// nothing could be compared; what a proxy shows of itself does not count.
type NAT struct {
	Address  tfo.Tri // the client's address arrived as another
	Port     tfo.Tri // the client's port did
	Changing tfo.Tri // the address that arrived was not always the same
}

// Judgement is the joint verdict of a measurement and all it stands on.
type Judgement struct {
	Verdict   JointVerdict
	Direction Direction
	Doubt     Doubt // of JointInconclusive
	NAT       NAT
	// CarrierNAT: the address changes between connections, and cookies are
	// refused for it.
	CarrierNAT bool
	Pairs      []Pair // one per attempt, in order
	// Unmatched counts the sides that have no other: connections of the client
	// that did not arrive, and arrivals of no known attempt.
	Unmatched   int
	Differences []PathDifference
}

// PathDifference is a difference between SYNs sent and SYNs that arrived, with
// the values of the first time it was seen.
type PathDifference struct {
	Difference
	Seen int // how often
	Of   int // of how many SYNs in which it could have been seen
}

// Joint names what both ends of a measurement show together. It is pure, and
// total: any sides whatever get a verdict. As in Classify no fault is named
// from one observation: what a lost packet could explain takes six attempts
// with clean plain ones around them, anything else three.
//
// Without the client's wire a proxy without Fast Open looks like a stripped
// option: the listener cannot tell whose SYN it saw.
func Joint(s Sides) Judgement {
	var j Judgement
	pairs, stray := Match(&s)
	j.Pairs = pairs
	v := newViewer(&s, pairs)
	for i := range pairs {
		pairs[i].Sight = v.sight(&pairs[i])
	}
	j.Unmatched = stray
	for i := range pairs {
		if p := &pairs[i]; p.Arrival == nil && p.Attempt.End.Established() {
			j.Unmatched++
		}
	}
	j.NAT = natOf(pairs)
	t := jointTally{s: &s, pairs: pairs, client: tallyOf(s.Plan, s.Attempts), spoilt: v.spoilt}
	t.count()
	j.Verdict, j.Direction, j.Doubt = t.verdict()
	j.Differences = differences(&s, pairs, j.Verdict == JointProxied)
	j.CarrierNAT = j.NAT.Changing == tfo.Yes && t.of[SightCookieRefused] > 0
	return j
}

// jointTally counts what the attempts showed.
type jointTally struct {
	s      *Sides
	pairs  []Pair
	client tally
	spoilt bool

	of   [SightUnclear + 1]int // Fast Open attempts of the ladder, without the disputed
	mute int                   // plain attempts that broke as well
	// disputed: Fast Open attempts that broke while others of the same shape
	// went their whole way.
	disputed int
	// traceless: an attempt was refused of which the SYN arrived, or would have left
	// no trace if it had.
	traceless bool
	others    int // SightOther of all attempts
	same      int // Fast Open SYNs that arrived with the number they were sent with
	whole     int // Fast Open attempts with data that went their whole way
	granted   int // requests whose cookie came back
}

// breaks reports whether the connection was lost, reset or dead.
func (s Sight) breaks() bool { return s >= SightDeadForward && s <= SightRefused }

func (t *jointTally) count() {
	var intact [shapes]bool
	for i := range t.pairs {
		if p := &t.pairs[i]; p.Sight == SightIntact && p.Attempt.Kind != tfo.KindPlain {
			intact[shapeOf(p.Attempt)] = true
		}
	}
	for i := range t.pairs {
		p := &t.pairs[i]
		if p.Sight == SightOther {
			t.others++
		}
		ev := p.Attempt
		if ev.Kind == tfo.KindPlain && p.Sight.breaks() {
			t.mute++
		}
		if ev.Kind == tfo.KindPlain || isTrial(ev.Kind) && t.s.Plan != Cookieless {
			continue
		}
		if p.Sight.breaks() && intact[shapeOf(ev)] {
			t.disputed++
			continue
		}
		t.of[p.Sight]++
		t.traceless = t.traceless || p.Sight == SightRefused && (p.Arrival != nil || ev.SynBytes == 0)
		if sent, got := p.syns(); sent != nil && sent.Seq == got.Seq {
			t.same++
		}
		switch {
		case p.Sight != SightIntact:
		case ev.SynBytes > 0:
			t.whole++
		case ev.CookieAfter.State == tfo.CookiePresent:
			t.granted++
		}
	}
}

// blame is what a sight, seen often enough, is called.
type blame struct {
	verdict JointVerdict
	way     Direction
}

var blames = map[Sight]blame{
	SightOptionGone:     {JointOptionStripped, Forward},
	SightCookieGone:     {JointCookieStripped, Forward},
	SightCookieMissing:  {JointCookieStripped, Return},
	SightCookieEmptied:  {JointOptionMirrored, Return},
	SightCookieChanged:  {JointCookieRewritten, Forward},
	SightCookieAltered:  {JointCookieRewritten, Return},
	SightCookieRefused:  {JointCookieRefused, Forward},
	SightPayloadGone:    {JointPayloadStripped, Forward},
	SightPayloadCut:     {JointPayloadTruncated, Forward},
	SightDataLost:       {JointDataDropped, Forward},
	SightOptionLost:     {JointOptionDropped, Forward},
	SightAnswerLost:     {JointOptionDropped, Return},
	SightDeadForward:    {JointBlackholedAfterHandshake, Forward},
	SightDeadReturn:     {JointBlackholedAfterHandshake, Return},
	SightDeadBoth:       {JointBlackholedAfterHandshake, BothWays},
	SightUnheardForward: {JointBlackholedBefore, Forward},
	SightUnheardReturn:  {JointBlackholedBefore, Return},
	SightUnheard:        {JointBlackholedBefore, DirectionUnknown},
	SightRefused:        {JointReset, Forward},
	SightWithheld:       {JointUnsupported, DirectionUnknown},
}

// order is the order in which faults are looked for: what breaks connections
// before what only wastes the round trip, what happens there before what
// happens on the way back.
var order = []JointVerdict{
	JointBlackholedAfterHandshake, JointReset, JointBlackholedBefore, JointDataDropped, JointOptionDropped,
	JointPayloadTruncated, JointOptionStripped, JointCookieRewritten, JointCookieRefused, JointPayloadStripped,
	JointCookieStripped, JointOptionMirrored, JointUnsupported,
}

// gather is how often a verdict was seen, and the way of all that tell one;
// unknown when they disagree.
func (t *jointTally) gather(v JointVerdict) (n int, way Direction) {
	ways := map[Direction]bool{}
	for s, b := range blames {
		if b.verdict == v && t.of[s] > 0 {
			n += t.of[s]
			if b.way != DirectionUnknown {
				ways[b.way] = true
			}
		}
	}
	if len(ways) == 1 {
		for way = range ways {
		}
	}
	return n, way
}

// proved reports whether n observations without contradiction are enough.
func (t *jointTally) proved(v JointVerdict, n int) bool {
	switch v {
	case JointOptionDropped, JointDataDropped:
		return n >= optionLost.needs() && t.client.controlsClean(n) && t.whole == 0 && (v == JointDataDropped || t.granted == 0)
	case JointBlackholedAfterHandshake:
		// The client may be content: the answer came back, and it never learns
		// that nothing it sent later arrived. Then two is all there are. A
		// listener waits 10 s for what is sent again and again.
		return (n >= 3 || n >= 2 && t.of[SightDeadForward] == n) && t.whole == 0 && controlsServed(t.mute, t.client.plain, n)
	case JointReset, JointBlackholedBefore:
		return n >= 3 && t.whole == 0 && controlsServed(t.mute, t.client.plain, n)
	case JointCookieRefused:
		return n >= 3 || n >= 2 && t.whole > 0 && t.client.tfo >= 5 // as CookieUnstable
	}
	// Where data arrives whole there was only a detour, such as by the other
	// kind of option.
	return n >= 3 && t.whole == 0
}

func (t *jointTally) verdict() (JointVerdict, Direction, Doubt) {
	c := &t.client
	own := c.verdict()
	switch {
	case t.s.Refused:
		return JointInconclusive, DirectionUnknown, DoubtRefused
	case t.s.ClientLost || t.s.ListenerLost:
		return JointPeerLost, DirectionUnknown, DoubtNone
	case own == Offline:
		return JointOffline, DirectionUnknown, DoubtNone
	case t.others >= 3 && t.same == 0 && t.of[SightOther]+t.of[SightLocal] == c.tfo:
		return JointProxied, DirectionUnknown, DoubtNone
	case own == ClientBlocked:
		return JointClientBlocked, DirectionUnknown, DoubtNone
	case c.plainOK == 0:
		return JointInconclusive, DirectionUnknown, t.doubt()
	}
	t.mirrored()
	for _, v := range order {
		if n, way := t.gather(v); n > 0 && t.proved(v, n) {
			if t.spoilt && (v == JointOptionDropped || v == JointDataDropped || v == JointBlackholedBefore) {
				return JointInconclusive, DirectionUnknown, DoubtListener
			}
			if v == JointReset && t.traceless {
				way = DirectionUnknown
			}
			return v, way, DoubtNone
		}
	}
	if own == Supported && t.whole >= 2 && t.whole > c.bad() {
		return JointSupported, DirectionUnknown, DoubtNone
	}
	return JointInconclusive, DirectionUnknown, t.doubt()
}

// mirrored tells a mirrored option from a missing one where the client's wire
// was not seen: the kernel asks with kind 254 after a SYN-ACK without an
// option, and again with kind 34 after one with an empty option
// (tcp_rcv_fastopen_synack, net/ipv4/tcp_input.c).
func (t *jointTally) mirrored() {
	asked := 0
	for i := range t.pairs {
		p := &t.pairs[i]
		if p.Sight != SightCookieMissing {
			continue
		}
		w := p.Attempt.Wire
		if w != nil && !w.Incomplete && w.SynAcks > 0 || p.Arrival.SYN.Options.FastOpenKind != tfo.OptionKindTFO || p.Attempt.CookieCleared == tfo.Yes && asked > 0 {
			return
		}
		asked++
	}
	if asked < 3 {
		return
	}
	for i := range t.pairs {
		if t.pairs[i].Sight == SightCookieMissing {
			t.pairs[i].Sight = SightCookieEmptied
		}
	}
	t.of[SightCookieEmptied] += t.of[SightCookieMissing]
	t.of[SightCookieMissing] = 0
}

// doubt says why nothing could be named.
func (t *jointTally) doubt() Doubt {
	faults := 0
	for _, v := range order {
		n, _ := t.gather(v)
		faults += n
	}
	switch {
	case t.of[SightLocal] > 0 || t.client.unsent > 0 || len(t.s.Attempts) == 0:
		return DoubtLocal
	case t.spoilt:
		return DoubtListener
	case t.of[SightUnjoined] > 0:
		return DoubtUnjoined
	case t.whole > 0 && faults > 0, t.disputed > 0:
		return DoubtDisagree
	}
	return DoubtTooFew
}

// natOf compares addresses as sent and as received.
func natOf(pairs []Pair) (n NAT) {
	var seen []netip.Addr
	for i := range pairs {
		p := &pairs[i]
		if p.Arrival == nil || p.Sight == SightOther || !p.Attempt.Local.IsValid() {
			continue
		}
		from, came := endpoint(p.Attempt.Local), endpoint(p.Arrival.Peer)
		n.Address = max(n.Address, triOf(from.Addr() != came.Addr()))
		n.Port = max(n.Port, triOf(from.Port() != came.Port()))
		seen = append(seen, came.Addr())
	}
	if len(seen) > 1 {
		n.Changing = triOf(slices.ContainsFunc(seen, func(a netip.Addr) bool { return a != seen[0] }))
	}
	return n
}

func triOf(b bool) tfo.Tri {
	if b {
		return tfo.Yes
	}
	return tfo.No
}

// differences gathers those of all pairs, by field. The SYN of somebody else tells
// what that one sends, and is asked for where all are his.
func differences(s *Sides, pairs []Pair, proxied bool) (list []PathDifference) {
	type key struct {
		field  SynField
		option uint8
		change Change
	}
	at := map[key]int{}
	of := map[SynField]int{}
	for i := range pairs {
		p := &pairs[i]
		if p.Arrival == nil || p.Sight == SightOther && !proxied {
			continue
		}
		var payload []byte
		if s.Payload != nil {
			payload = s.Payload(i)
		}
		c := SynDiff(p, payload)
		for f := FieldSourceAddress; int(f) < len(fieldNames); f++ {
			if !slices.Contains(c.NotKnown, f) {
				of[f]++
			}
		}
		for _, d := range c.Differences {
			k := key{d.Field, d.Option, d.Change}
			n, ok := at[k]
			if !ok {
				n = len(list)
				at[k] = n
				list = append(list, PathDifference{Difference: d})
			}
			list[n].Seen++
		}
	}
	for i := range list {
		list[i].Of = of[list[i].Field]
	}
	slices.SortStableFunc(list, func(a, b PathDifference) int { return int(a.Field) - int(b.Field) })
	return list
}
