package measure

import "tfofleet/internal/tfo"

const (
	weReset    = "the reset is the client's own; an attempt that resets learns nothing after it"
	cookieSalt = "the value of a cookie is the server's business: to a client any bytes are as good"
)

// packetdrillServer are the scripts that test a kernel as a server, told by the
// client that meets such a server. Those with the option of kind 34 are below
// opt34.
func packetdrillServer(kind uint8) []scriptRow {
	dir := "server/"
	var notes []Condition
	requests := []exchange{{kind: tfo.KindRequest, gets: eightBytes}}
	if kind == tfo.OptionKindTFO {
		dir = "server/opt34/"
	} else {
		requests = []exchange{{kind: tfo.KindRequest}, {kind: tfo.KindRequest, opt: kind, gets: eightBytes}}
		notes = []Condition{CondCookieExperimental}
	}
	with := func(more ...Condition) []Condition { return append(more, notes...) }
	grants := exchange{kind: tfo.KindRequest, opt: kind, gets: eightBytes}
	takes := exchange{opt: kind, syn: 10, acked: 10, before: eightBytes}
	refuses := exchange{opt: kind, syn: 10, before: eightBytes, gets: cookieA}
	cut := exchange{opt: kind, syn: 10, acked: 10, before: eightBytes, end: tfo.EndReset, errno: "ECONNRESET"}

	rows := []scriptRow{
		{
			script: "basic-cookie-not-reqd", shows: "data in a SYN without any option is acknowledged, and answered",
			saw: exchange{kind: tfo.KindCookieless, syn: 1000, acked: 1000}, want: acked, verdict: Unsupported,
			has: []Condition{CondCookielessAccepted, CondCookieNotReceived}, hasNot: []Condition{CondCookielessRefused},
		},
		{
			script: "basic-non-tfo-listener", shows: "a cookie and data reach a listener without TFO: the SYN alone is acknowledged, no cookie comes",
			saw: exchange{opt: kind, syn: 10, before: eightBytes}, want: notAcked, verdict: CookieOnly, has: []Condition{CondSynDataNotAcked}, hasNot: []Condition{CondSynDataAcked},
		},
		{
			script: "basic-non-tfo-listener", shows: "to one who asks it grants nothing",
			saw: exchange{kind: tfo.KindRequest, opt: kind}, want: noCookie, verdict: Unsupported, has: []Condition{CondCookieNotReceived},
		},
		{
			script: "basic-rw", shows: "SYN data is acknowledged without a word on the cookie, and answered before the client's ACK",
			saw: takes, want: acked, verdict: Supported, has: with(works...),
		},
		{
			script: "basic-zero-payload", shows: "a cookie without data opens a connection; the server's data comes first",
			saw: exchange{opt: kind, before: eightBytes}, want: empty, verdict: Inconclusive, has: []Condition{CondSynDataNotTried}, hasNot: []Condition{CondSynDataAcked},
		},
		{
			script: "fin-close-socket", shows: "SYN data is acknowledged, and the server closes without a byte, as it does to everyone",
			saw: exchange{opt: kind, syn: 10, acked: 10, before: eightBytes, end: tfo.EndClosed}, want: acked, verdict: Supported, hasNot: []Condition{CondAfterClosed},
			target: target{plain: []exchange{{kind: tfo.KindPlain, end: tfo.EndClosed}}, requests: closing(requests)},
		},
		{
			script: "icmp-before-accept", shows: "an ICMP error kills the connection at the server; the client's ACK is answered by RST",
			saw: cut, want: cutOff, verdict: Reset, has: []Condition{CondAfterReset, CondSynDataAcked, CondBroken}, hasNot: []Condition{CondAnsweredICMP},
		},
		{
			script: "listener-closed-trigger-rst", shows: "SYN data is acknowledged; the listener is closed before it accepts, and a RST follows",
			saw: cut, want: cutOff, verdict: Reset, has: []Condition{CondAfterReset, CondSynDataAcked},
		},
		{
			script: "pure-syn-data", shows: "data in a SYN without any option: the SYN alone is acknowledged, and no option comes back",
			saw: exchange{kind: tfo.KindCookieless, syn: 40}, want: notAcked, verdict: Unsupported, has: []Condition{CondCookielessRefused}, hasNot: []Condition{CondCookielessAccepted},
		},
		{
			script: "pure-syn-data", shows: "it makes no difference to a server that would have granted a cookie",
			saw: exchange{kind: tfo.KindCookieless, syn: 40}, want: notAcked, verdict: Supported, has: with(CondCookielessRefused, CondCookieReceived),
			target: target{requests: requests, data: []exchange{takes}, sized: []exchange{inSize(takes)}},
		},
		{
			script: "reset-after-accept", shows: "SYN data is acknowledged",
			saw: takes, want: acked, verdict: Supported, has: with(works...),
		},
		{script: "reset-after-accept", shows: "a RST from the client ends what the server has accepted", why: weReset},
		{
			script: "reset-before-accept", shows: "SYN data is acknowledged by a server that knows window scaling",
			saw: takes, want: acked, verdict: Supported, has: with(works...),
		},
		{script: "reset-before-accept", shows: "a RST from the client leaves the SYN's data to be read", why: weReset},
		{
			script: "reset-close-with-unread-data", shows: "SYN data is acknowledged",
			saw: takes, want: acked, verdict: Supported, has: with(works...),
		},
		{script: "reset-close-with-unread-data", shows: "a RST from the client keeps the server's close from sending another", why: weReset},
		{
			script: "reset-non-tfo-socket", shows: "a wrong cookie: the SYN alone is acknowledged, and the right cookie comes",
			saw: refuses, want: replaced, verdict: CookieUnstable, has: with(CondCookieChanged, CondSynDataNotAcked), hasNot: []Condition{CondSynDataAcked},
		},
		{
			script: "reset-non-tfo-socket", shows: "a wrong cookie is replaced once; with the right one data is acknowledged",
			saw: refuses, want: replaced, verdict: Supported, has: with(CondCookieChanged, CondSynDataAcked),
			target: target{requests: requests, data: []exchange{refuses, {opt: kind, syn: 10, acked: 10, before: cookieA}}},
		},
		{script: "reset-non-tfo-socket", shows: "a RST from the client leaves data to be read", why: weReset},
		{
			script: "unread-data-closed-trigger-rst", shows: "SYN data is acknowledged; the server closes without reading it, and a RST follows",
			saw: cut, want: cutOff, verdict: Reset, has: []Condition{CondAfterReset, CondSynDataAcked},
		},
		{
			script: "unread-data-closed-trigger-rst", shows: "a server that does so to everyone does not single Fast Open out",
			saw: cut, want: acked, verdict: Supported, hasNot: []Condition{CondAfterReset, CondBroken},
			target: target{plain: []exchange{{kind: tfo.KindPlain, end: tfo.EndReset, errno: "ECONNRESET"}}, requests: resetting(requests)},
		},
	}
	for _, name := range []string{"simple1", "simple2", "simple3"} {
		rows = append(rows,
			scriptRow{
				script: name, shows: "a request is answered with a cookie of 8 bytes",
				saw: grants, want: granted, verdict: Supported, has: []Condition{CondCookieReceived}, hasNot: []Condition{CondCookieOddLength},
				target: target{requests: requests},
			},
			scriptRow{
				script: name, shows: "that cookie, and 1000 bytes with it, are taken",
				saw: exchange{opt: kind, syn: 1000, acked: 1000, before: eightBytes}, want: acked, verdict: Supported, has: with(works...),
			},
			scriptRow{script: name, shows: "the cookie follows from the key and both addresses", why: cookieSalt},
		)
	}
	if kind == tfo.OptionKindExp {
		rows = append(rows,
			scriptRow{
				script: "client-ack-dropped-then-recovery-ms-timestamps", shows: "SYN data is acknowledged and answered; the client's ACK and some of the answer get lost and are sent again",
				saw: exchange{opt: kind, syn: 1000, acked: 1000, before: eightBytes}, want: acked, verdict: Supported, has: with(works...), hasNot: []Condition{CondSynDataLost},
			},
			scriptRow{
				script: "icmp-baseline", shows: "only the SYN is acknowledged; an ICMP error then kills the request at the server, and the client's ACK is answered by RST",
				saw:  exchange{opt: kind, syn: 10, before: eightBytes, end: tfo.EndReset, errno: "ECONNRESET"},
				want: cutOff, verdict: Reset, has: []Condition{CondAfterReset}, hasNot: []Condition{CondSynDataAcked, CondAnsweredICMP},
			},
			scriptRow{
				script: "sockopt-fastopen-key", shows: "a request with data beside it gets a cookie, and the SYN alone is acknowledged",
				saw: grants, want: granted, verdict: Supported, has: []Condition{CondCookieReceived}, target: target{requests: requests},
			},
			scriptRow{
				script: "sockopt-fastopen-key", shows: "the same key on another listener takes the cookie",
				saw: exchange{opt: kind, syn: 1000, acked: 1000, before: eightBytes}, want: acked, verdict: Supported, has: with(works...),
			},
			scriptRow{
				script: "sockopt-fastopen-key", shows: "a listener with another key refuses it and sends its own",
				saw: exchange{opt: kind, syn: 1000, before: eightBytes, gets: cookieA}, want: replaced, verdict: CookieUnstable, has: with(CondCookieChanged),
			},
			scriptRow{script: "sockopt-fastopen-key", shows: "keys of a wrong length are refused", why: cookieSalt},
		)
	}
	for i := range rows {
		rows[i].script = dir + rows[i].script
	}
	return rows
}

// closing is the same exchanges with a peer that closes without a byte,
// resetting with one that resets.
func closing(xs []exchange) []exchange {
	out := append([]exchange(nil), xs...)
	for i := range out {
		out[i].end = tfo.EndClosed
	}
	return out
}

func resetting(xs []exchange) []exchange {
	out := append([]exchange(nil), xs...)
	for i := range out {
		out[i].end, out[i].errno = tfo.EndReset, "ECONNRESET"
	}
	return out
}

func inSize(x exchange) exchange {
	x.kind = tfo.KindSized
	return x
}
