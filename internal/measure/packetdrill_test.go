package measure

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"tfofleet/internal/tfo"
)

// The scripts of google/packetdrill, gtests/net/tcp/fastopen, are an oracle
// nobody here wrote: each fixes what a Linux kernel does with one behaviour of
// a peer, or what a Linux server does to a client. The tables below say for
// every one of them which evidence that leaves on a client, and what must be
// made of it. They carry over facts, no code.

// packetdrillScripts are all 64, by their paths below that directory.
var packetdrillScripts = slices.Concat(
	under("client", "blocking-connect-bypass", "blocking-connect-bypass-errno", "blocking-sendmsg-multi-iov", "blocking-sendto",
		"blocking-sendto-errnos", "cookie-less-sendto", "cookie-req-timeout", "fallback-exp-opt", "fastopen-connect-keepalive",
		"nonblocking-connect-bypass", "nonblocking-connect-bypass-errno", "nonblocking-sendmsg-multi-iov", "nonblocking-sendto",
		"nonblocking-sendto-empty-buf", "nonblocking-sendto-errnos", "nonblocking-sendto-over-mss", "poll", "sendto-af-unspec",
		"simultaneous-fast-open", "syn-data-icmp-unreach-frag-needed", "syn-data-icmp-unreach-frag-needed-with-seq",
		"syn-data-icmp-unreach-frag-needed-with-seq-ipv6", "syn-data-mss", "syn-data-only-syn-acked", "syn-data-partial-or-over-ack",
		"syn-data-rtt-from-syn-data", "syn-data-timeout", "synack-data", "valid-cookie-format"),
	under("server", slices.Concat(bothServers, []string{"client-ack-dropped-then-recovery-ms-timestamps", "icmp-baseline", "sockopt-fastopen-key"})...),
	under("server/opt34", bothServers...),
)

// bothServers are there twice: for kind 254 and, below opt34, for kind 34.
var bothServers = []string{
	"basic-cookie-not-reqd", "basic-non-tfo-listener", "basic-rw", "basic-zero-payload", "fin-close-socket", "icmp-before-accept",
	"listener-closed-trigger-rst", "pure-syn-data", "reset-after-accept", "reset-before-accept", "reset-close-with-unread-data",
	"reset-non-tfo-socket", "simple1", "simple2", "simple3", "unread-data-closed-trigger-rst",
}

func under(dir string, names ...string) []string {
	paths := make([]string, len(names))
	for i, n := range names {
		paths[i] = dir + "/" + n
	}
	return paths
}

// scriptRow is one behaviour that a script shows. Several rows may share a
// script.
type scriptRow struct {
	script string
	shows  string

	// why says that this part of the script leaves no evidence of its own,
	// because of how our attempts are made; the fields below are then empty.
	why string

	// saw is one attempt that met the behaviour, and want what find must make
	// of it; 0 for a plain attempt.
	saw  exchange
	want finding

	// verdict and conditions are those of the measurement in which every
	// attempt of the kind meets it.
	target  target
	verdict Verdict
	has     []Condition
	hasNot  []Condition
}

// exchange is one attempt on the wire, in the terms of the scripts.
type exchange struct {
	kind    tfo.Kind // 0: KindData
	opt     uint8    // of the SYN; 0: OptionKindTFO, except for plain and cookie-less attempts
	offered int      // payload bytes; 0: as many as syn
	syn     int      // bytes in the SYN
	acked   int      // of them, by the SYN-ACK
	mss     int      // of the peer, for data sent again; 0: 1460
	bare    int      // bare SYNs sent after a timeout
	atOnce  bool     // they were sent without waiting for the timeout
	tooBig  bool     // a bare SYN was sent because ICMP called the first one too big
	crossed bool     // the peer's own SYN crossed ours: no SYN-ACK in SYN-SENT
	before  []byte   // cookie in the SYN
	gets    []byte   // cookie that the kernel took from the SYN-ACK; nil: none
	end     tfo.End  // 0: EndResponse
	errno   string
}

// attempt is what the engine records of the exchange. The handshake's facts go
// the engine's way, through a struct tcp_info as the kernel fills it
// (tcp_rcv_fastopen_synack, net/ipv4/tcp_input.c). Kernels before 6.6 have a
// shorter one, without total_rto.
func (x exchange) attempt(oldKernel bool) tfo.Evidence {
	ev := tfo.Evidence{
		Kind: x.kind, OptionKind: x.opt, Offered: x.offered, SynBytes: x.syn, End: x.end, Errno: x.errno,
		SynAcked: tfo.NotKnown, ConnectNS: tfo.NotKnown, FirstByteNS: tfo.NotKnown,
		CookieBefore: held(x.before), CookieAfter: held(x.before),
	}
	if ev.Kind == 0 {
		ev.Kind = tfo.KindData
	}
	if ev.End == 0 {
		ev.End = tfo.EndResponse
	}
	if ev.OptionKind == 0 && ev.Kind != tfo.KindPlain && ev.Kind != tfo.KindCookieless && ev.End != tfo.EndLocal {
		ev.OptionKind = tfo.OptionKindTFO
	}
	ev.Offered = max(ev.Offered, ev.SynBytes)
	if x.gets != nil {
		ev.CookieAfter = held(x.gets)
	}
	if !ev.End.Established() {
		ev.SynRetransmits = x.bare
		return ev
	}
	info := x.info(&ev)
	if oldKernel {
		info = info[:232]
	}
	ev.InfoHandshake = info
	ev.SynRetransmits = info.SynTimeouts()
	ev.ClientFail = info.ClientFail()
	ev.TCPIOptions = info.Options()
	ev.SynAcked = info.SynAcked(ev.SynBytes)
	ev.ConnectNS = 20 * ms
	if !x.atOnce {
		ev.ConnectNS += int64(x.bare) * 1000 * ms
	}
	if ev.End == tfo.EndResponse {
		ev.FirstByteNS = ev.ConnectNS + 20*ms
	}
	return ev
}

// info writes the offsets of include/uapi/linux/tcp.h out, so that those of
// internal/tfo are checked by them.
func (x exchange) info(ev *tfo.Evidence) tfo.Info {
	b := make([]byte, 280)
	retransmitted := x.bare
	if x.tooBig {
		retransmitted++
	}
	options, clientFail, resent := byte(0), byte(0), 0
	switch {
	case x.crossed: // tcp_rcv_fastopen_synack is not called
	case x.acked < x.syn:
		resent = x.syn - x.acked
		clientFail = tfo.FailDataNotAcked
		if retransmitted > 0 {
			clientFail = tfo.FailSynRetransmitted
		}
		mss := 1460
		if x.mss > 0 {
			mss = x.mss
		}
		retransmitted += (resent + mss - 1) / mss
	case x.syn > 0:
		options |= tfo.OptSynData
	case ev.OptionKind != 0 && x.before == nil:
		clientFail = tfo.FailCookieUnavailable
	}
	b[0] = 1 // tcpi_state: TCP_ESTABLISHED
	b[5] = options
	b[7] = clientFail << 1
	binary.NativeEndian.PutUint32(b[100:], uint32(retransmitted))
	binary.NativeEndian.PutUint64(b[120:], uint64(1+x.acked)) // tcpi_bytes_acked
	binary.NativeEndian.PutUint64(b[208:], uint64(resent))    // tcpi_bytes_retrans
	binary.NativeEndian.PutUint16(b[240:], uint16(x.bare))    // tcpi_total_rto
	return b
}

// target answers the attempts of a measurement: the k-th of each kind meets the
// k-th exchange given, and the last over and over. Without one for a kind it is
// healthy.
type target struct {
	plain, requests, data, sized, cookieless []exchange
}

// meets makes every attempt of the exchange's kind meet it, and a target that
// got as far as that before.
func (g target) meets(x exchange) target {
	ev := x.attempt(false)
	switch {
	case ev.Kind == tfo.KindPlain && g.plain == nil:
		g.plain = []exchange{x}
	case ev.Kind == tfo.KindRequest && g.requests == nil:
		g.requests = []exchange{x}
	case ev.Kind == tfo.KindSized && g.sized == nil:
		g.sized = []exchange{x}
	case ev.Kind == tfo.KindCookieless:
		if g.cookieless == nil {
			g.cookieless = []exchange{x}
		}
		if g.requests == nil {
			g.requests = []exchange{{kind: tfo.KindRequest}}
		}
	case ev.Kind == tfo.KindData:
		if g.data == nil {
			g.data = []exchange{x}
		}
		if g.requests == nil && x.opt == tfo.OptionKindExp {
			g.requests = []exchange{{kind: tfo.KindRequest}, {kind: tfo.KindRequest, opt: x.opt, gets: x.before}}
		} else if g.requests == nil {
			g.requests = []exchange{{kind: tfo.KindRequest, gets: x.before}}
		}
	}
	return g
}

var healthyTarget = target{
	plain:    []exchange{{kind: tfo.KindPlain}},
	requests: []exchange{{kind: tfo.KindRequest, gets: cookieA}},
	data:     []exchange{{syn: 100, acked: 100, before: cookieA}},
	sized:    []exchange{{kind: tfo.KindSized, syn: 100, acked: 100, before: cookieA}},
}

// measure leads the plan against the target.
func (g target) measure(plan Plan, oldKernel bool) []tfo.Evidence {
	asked := map[tfo.Kind]int{}
	var attempts []tfo.Evidence
	for {
		step, more := Next(plan, attempts)
		if !more {
			return attempts
		}
		var mine, healthy []exchange
		switch step.Kind {
		case tfo.KindPlain:
			mine, healthy = g.plain, healthyTarget.plain
		case tfo.KindRequest:
			mine, healthy = g.requests, healthyTarget.requests
		case tfo.KindData:
			mine, healthy = g.data, healthyTarget.data
		case tfo.KindSized:
			mine, healthy = g.sized, healthyTarget.sized
		case tfo.KindCookieless:
			mine, healthy = g.cookieless, []exchange{{kind: tfo.KindCookieless, syn: 100}}
		default: // raw attempts: no script says anything of them
			ev := tfo.Evidence{Kind: step.Kind, End: tfo.EndLocal, Errno: "EPERM"}
			attempts = append(attempts, ev)
			continue
		}
		if mine == nil {
			mine = healthy
		}
		x := mine[min(asked[step.Kind], len(mine)-1)]
		asked[step.Kind]++
		attempts = append(attempts, x.attempt(oldKernel))
	}
}

func TestPacketdrill(t *testing.T) {
	rows := slices.Concat(packetdrillClient, packetdrillServer(254), packetdrillServer(34))
	count := map[string]int{}
	for _, name := range packetdrillScripts {
		count[name] = 0
	}
	if len(count) != 64 {
		t.Errorf("%d scripts, want 64", len(count))
	}
	for _, row := range rows {
		if _, known := count[row.script]; !known {
			t.Errorf("no script %q", row.script)
		}
		count[row.script]++
		t.Run(fmt.Sprintf("%s %d", row.script, count[row.script]), row.test)
	}
	for name, n := range count {
		if n == 0 {
			t.Errorf("no row for %s", name)
		}
	}
}

func (row scriptRow) test(t *testing.T) {
	if row.why != "" {
		if row.want != 0 || row.verdict != 0 {
			t.Error("a row with a reason to leave it out also has evidence")
		}
		return
	}
	for _, oldKernel := range []bool{false, true} {
		row.judge(t, oldKernel)
	}
	plan := Standard
	if k := row.saw.kind; isTrial(k) {
		plan = Thorough
	}
	always := row.target.meets(row.saw)
	attempts := always.measure(plan, false)
	got, conditions := Classify(plan, attempts)
	if got != row.verdict {
		t.Errorf("%s: verdict %v, want %v; %v, after %d attempts", row.shows, got, row.verdict, conditions, len(attempts))
	}
	for _, c := range row.has {
		if !slices.Contains(conditions, c) {
			t.Errorf("%s: condition %s is missing from %v", row.shows, c, conditions)
		}
	}
	for _, c := range row.hasNot {
		if slices.Contains(conditions, c) {
			t.Errorf("%s: condition %s should not be in %v", row.shows, c, conditions)
		}
	}
	row.once(t, plan)
}

// judge checks what one attempt gives: the arithmetic of TCP_INFO, and the
// finding. A plain attempt has none.
func (row scriptRow) judge(t *testing.T, oldKernel bool) {
	ev := row.saw.attempt(oldKernel)
	if ev.End.Established() && ev.SynAcked != row.saw.acked {
		t.Errorf("%s: TCP_INFO gives %d bytes acknowledged, the SYN-ACK acknowledged %d", row.shows, ev.SynAcked, row.saw.acked)
	}
	if ev.Kind == tfo.KindPlain {
		return
	}
	b := baselineOf(row.target.meets(row.saw).measure(Standard, false))
	if got := b.find(&ev); got != row.want {
		t.Errorf("%s: finding %d, want %d (kernel before 6.6: %v); client_fail %d, timeouts %d, acked %d of %d",
			row.shows, got, row.want, oldKernel, ev.ClientFail, ev.SynRetransmits, ev.SynAcked, ev.SynBytes)
	}
}

// once holds every behaviour to the rule that what happens a single time names
// no fault: all other attempts meet a healthy target.
func (row scriptRow) once(t *testing.T, plan Plan) {
	rare := target{}.meets(row.saw)
	rare.requests = append(slices.Clone(rare.requests), healthyTarget.requests...)
	rare.plain = append(slices.Clone(rare.plain), healthyTarget.plain...)
	rare.data = append(slices.Clone(rare.data), healthyTarget.data...)
	rare.sized = append(slices.Clone(rare.sized), healthyTarget.sized...)
	attempts := rare.measure(plan, false)
	if v, conditions := Classify(plan, attempts); v.Fault() || v == Offline {
		t.Errorf("%s: %v from one attempt; %v", row.shows, v, conditions)
	}
}
