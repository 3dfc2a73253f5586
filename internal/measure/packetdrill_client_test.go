package measure

import "tfofleet/internal/tfo"

// Cookies of the scripts.
var (
	fourBytes    = []byte{0xab, 0xcd, 0x12, 0x34}
	fourOthers   = []byte{0x12, 0x34, 0x56, 0x78}
	fourZeros    = make([]byte, 4)
	sixBytes     = []byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66}
	sixZeros     = make([]byte, 6)
	eightBytes   = []byte{0x12, 0x34, 0xab, 0xcd, 0x56, 0x78, 0xdc, 0xba}
	sixteenBytes = []byte("0123456789abcdef")
)

// Behaviours that several client scripts share.
var (
	takesAll    = exchange{syn: 1000, acked: 1000, before: fourBytes, gets: eightBytes}
	takesLess   = exchange{offered: 1900, syn: 900, acked: 900, before: eightBytes, gets: fourBytes}
	resetsSYN   = exchange{offered: 2000, syn: 1420, before: fourBytes, end: tfo.EndRefused, errno: "ECONNREFUSED"}
	neverThere  = exchange{offered: 2000, syn: 1420, before: fourBytes, bare: 1, end: tfo.EndTimeout, errno: "ETIMEDOUT"}
	grantsFour  = exchange{kind: tfo.KindRequest, gets: fourBytes}
	grantsSix   = exchange{kind: tfo.KindRequest, offered: 1000, gets: sixBytes}
	switchedOff = exchange{kind: tfo.KindRequest, offered: 1000, end: tfo.EndLocal, errno: "EOPNOTSUPP"}
	emptySYN    = exchange{before: sixBytes}
	resetLater  = exchange{syn: 1420, acked: 1420, before: sixBytes, end: tfo.EndReset, errno: "ECONNRESET"}
)

var works = []Condition{CondWorks, CondCookieReceived, CondSynDataAcked}

const (
	weNeverBlock   = "our sockets never block: the wire is that of the rows beside this one"
	weUseSendmsg   = "no attempt uses TCP_FASTOPEN_CONNECT: sendmsg opens and sends in one call"
	weSendOnce     = "an attempt calls sendmsg with MSG_FASTOPEN once, and write only after the handshake"
	weNameAFamily  = "an attempt always names the family of its target; the same errno from a family it did not name cannot come"
	weSendOneBlock = "an attempt sends one buffer; the kernel makes the same SYN of several"
)

// packetdrillClient are the scripts that test a kernel as a client: the peer is
// the script.
var packetdrillClient = []scriptRow{
	{
		script: "client/blocking-connect-bypass", shows: "SYN data is acknowledged and another cookie, of 8 bytes, comes with it",
		saw: takesAll, want: acked, verdict: Supported, has: append(works, CondCookieChanged, CondCookieOddLength),
		target: target{data: []exchange{takesAll, takesLess}},
	},
	{
		script: "client/blocking-connect-bypass", shows: "the peer's last MSS bounds what the SYN carries; the rest follows the handshake",
		saw: takesLess, want: acked, verdict: Supported, has: works,
	},
	{script: "client/blocking-connect-bypass", shows: "connect and write wait for the handshake", why: weNeverBlock},

	{
		script: "client/blocking-connect-bypass-errno", shows: "RST that acknowledges only the SYN of a SYN with data",
		saw: resetsSYN, want: refused, verdict: Reset, has: []Condition{CondAnsweredRST, CondSynDataFailed, CondBroken}, hasNot: []Condition{CondAnsweredICMP},
	},
	{
		script: "client/blocking-connect-bypass-errno", shows: "neither the SYN with data nor the bare one after it is answered",
		saw: neverThere, want: noAnswer, verdict: FlowBlackholed, has: []Condition{CondSynDataFailed, CondBroken},
	},
	{script: "client/blocking-connect-bypass-errno", shows: "write reports the errno of the handshake", why: weUseSendmsg},

	{
		script: "client/blocking-sendmsg-multi-iov", shows: "900 of 1900 bytes go with the SYN, are acknowledged, and the cookie changes",
		saw: takesLess, want: acked, verdict: Supported, has: append(works, CondCookieChanged),
	},
	{script: "client/blocking-sendmsg-multi-iov", shows: "three buffers make one SYN", why: weSendOneBlock},

	{
		script: "client/blocking-sendto", shows: "SYN data is acknowledged and another cookie comes with it",
		saw: takesAll, want: acked, verdict: Supported, has: append(works, CondCookieChanged),
	},
	{
		script: "client/blocking-sendto", shows: "the next SYN carries the new cookie and what the new MSS allows",
		saw: takesLess, want: acked, verdict: Supported, has: works,
	},
	{script: "client/blocking-sendto", shows: "the call returns all bytes after the handshake, not those of the SYN", why: weNeverBlock},

	{
		script: "client/blocking-sendto-errnos", shows: "RST that acknowledges only the SYN of a SYN with data",
		saw: resetsSYN, want: refused, verdict: Reset, has: []Condition{CondAnsweredRST, CondSynDataFailed},
	},
	{
		script: "client/blocking-sendto-errnos", shows: "neither the SYN with data nor the bare one after it is answered",
		saw: neverThere, want: noAnswer, verdict: FlowBlackholed, has: []Condition{CondSynDataFailed},
	},

	{
		script: "client/cookie-less-sendto", shows: "data in a SYN without any option is acknowledged",
		saw: exchange{kind: tfo.KindCookieless, syn: 1000, acked: 1000}, want: acked, verdict: Unsupported,
		has: []Condition{CondCookielessAccepted, CondCookieNotReceived}, hasNot: []Condition{CondCookielessRefused, CondCookieReceived},
	},
	{
		script: "client/cookie-less-sendto", shows: "a cookie in the SYN-ACK that nobody asked for is not kept",
		saw: exchange{kind: tfo.KindCookieless, offered: 1900, syn: 900, acked: 900}, want: acked, verdict: Unsupported,
		has: []Condition{CondCookielessAccepted, CondCookieNotReceived}, hasNot: []Condition{CondCookieReceived},
	},
	{
		script: "client/cookie-less-sendto", shows: "the SYN with data times out, the SYN-ACK to the bare one acknowledges the SYN only",
		saw: exchange{kind: tfo.KindCookieless, syn: 1000, bare: 1}, want: dataLost, verdict: Unsupported,
		hasNot: []Condition{CondCookielessAccepted, CondCookielessRefused},
	},
	{
		script: "client/cookie-less-sendto", shows: "afterwards an ordinary attempt must ask for a cookie",
		saw: exchange{kind: tfo.KindRequest, offered: 1000}, want: noCookie, verdict: Unsupported, has: []Condition{CondCookieNotReceived},
	},

	{
		script: "client/cookie-req-timeout", shows: "the SYN with the request times out; the bare SYN after it is answered without a cookie",
		saw: exchange{kind: tfo.KindRequest, bare: 1}, want: optionLost, verdict: OptionDropped, has: []Condition{CondOptionLost, CondBroken, CondCookieNotReceived},
	},
	{
		script: "client/cookie-req-timeout", shows: "a cookie that comes after the timeout is kept: the timeout may have been too early",
		saw: exchange{kind: tfo.KindRequest, bare: 1, gets: sixBytes}, want: granted, verdict: Supported, has: append(works, CondCookieOddLength), hasNot: []Condition{CondOptionLost},
	},

	{
		script: "client/fallback-exp-opt", shows: "no answer to kind 34, a cookie to kind 254, and data with it acknowledged; a cookie of kind 34 comes with that",
		saw: exchange{opt: 254, syn: 1000, acked: 1000, before: fourOthers, gets: fourBytes}, want: acked, verdict: Supported,
		has: append(works, CondCookieExperimental, CondCookieChanged),
	},
	{
		script: "client/fallback-exp-opt", shows: "all but the last byte of the SYN's data is acknowledged",
		saw: exchange{syn: 1000, acked: 999, before: fourBytes}, want: partial, verdict: DataTruncated, has: []Condition{CondSynDataPartial}, hasNot: []Condition{CondSynDataAcked},
	},
	{
		script: "client/fallback-exp-opt", shows: "a server without TFO is asked with kind 34, once with 254, and then with 34 again",
		saw: exchange{kind: tfo.KindRequest, offered: 1000}, want: noCookie, verdict: Unsupported, has: []Condition{CondCookieNotReceived, CondWorks},
		target: target{requests: []exchange{{kind: tfo.KindRequest}, {kind: tfo.KindRequest, opt: 254}, {kind: tfo.KindRequest}}},
	},

	{
		script: "client/fastopen-connect-keepalive", shows: "a cookie of 4 bytes is granted",
		saw: grantsFour, want: granted, verdict: Supported, has: []Condition{CondCookieReceived},
	},
	{script: "client/fastopen-connect-keepalive", shows: "a connect that is never followed by a write sends nothing, whatever the keepalive timer does", why: weUseSendmsg},

	{
		script: "client/nonblocking-connect-bypass", shows: "SYN data is acknowledged and another cookie comes with it",
		saw: exchange{syn: 1000, acked: 1000, before: fourBytes, gets: fourOthers}, want: acked, verdict: Supported, has: append(works, CondCookieChanged),
	},
	{
		script: "client/nonblocking-connect-bypass", shows: "the same cookie comes again with the data acknowledged: nothing has changed",
		saw: exchange{syn: 1000, acked: 1000, before: fourOthers, gets: fourOthers}, want: acked, verdict: Supported, has: works, hasNot: []Condition{CondCookieChanged},
	},
	{script: "client/nonblocking-connect-bypass", shows: "a socket that has sent no SYN yet is said to be writable", why: weUseSendmsg},

	{
		script: "client/nonblocking-connect-bypass-errno", shows: "EOPNOTSUPP where the sysctl has Fast Open switched off",
		saw: switchedOff, want: local, verdict: Inconclusive, has: []Condition{CondVantageDisabled}, hasNot: []Condition{CondCookieNotReceived},
	},
	{
		script: "client/nonblocking-connect-bypass-errno", shows: "EINPROGRESS and no byte taken where there is no cookie; a request goes out and is granted",
		saw: grantsSix, want: granted, verdict: Supported, has: append(works, CondCookieOddLength),
	},
	{
		script: "client/nonblocking-connect-bypass-errno", shows: "EINPROGRESS with a cookie there and nothing to send; the cookie goes out alone",
		saw: emptySYN, want: empty, verdict: Inconclusive, has: []Condition{CondSynDataNotTried}, hasNot: []Condition{CondSynDataAcked, CondSynDataNotAcked},
	},
	{
		script: "client/nonblocking-connect-bypass-errno", shows: "RST that acknowledges only the SYN of a SYN with data",
		saw: resetsSYN, want: refused, verdict: Reset, has: []Condition{CondAnsweredRST},
	},
	{
		script: "client/nonblocking-connect-bypass-errno", shows: "SYN data is acknowledged, then a RST comes and no byte",
		saw: resetLater, want: cutOff, verdict: Reset, has: []Condition{CondAfterReset, CondSynDataAcked}, hasNot: []Condition{CondAnsweredRST},
	},
	{
		script: "client/nonblocking-connect-bypass-errno", shows: "neither the SYN with data nor the bare one after it is answered",
		saw: neverThere, want: noAnswer, verdict: FlowBlackholed,
	},
	{script: "client/nonblocking-connect-bypass-errno", shows: "EALREADY, EAGAIN and EISCONN to calls that come too soon or twice", why: weSendOnce},

	{
		script: "client/nonblocking-sendmsg-multi-iov", shows: "900 of 1900 bytes go with the SYN, are acknowledged, and the cookie changes",
		saw: takesLess, want: acked, verdict: Supported, has: append(works, CondCookieChanged),
	},
	{script: "client/nonblocking-sendmsg-multi-iov", shows: "three buffers make one SYN", why: weSendOneBlock},

	{
		script: "client/nonblocking-sendto", shows: "SYN data is acknowledged, another cookie comes with it, and then a response",
		saw: exchange{syn: 1000, acked: 1000, before: fourBytes, gets: fourOthers}, want: acked, verdict: Supported, has: append(works, CondCookieChanged),
	},
	{
		script: "client/nonblocking-sendto", shows: "900 of 2000 bytes fit; they are acknowledged with a cookie of six zeros, which is a cookie",
		saw: exchange{offered: 2000, syn: 900, acked: 900, before: fourOthers, gets: sixZeros}, want: acked, verdict: Supported, has: append(works, CondCookieChanged, CondCookieOddLength),
	},
	{
		script: "client/nonblocking-sendto", shows: "an ordinary connect is not touched by any of it; the peer closes without a byte",
		saw: exchange{kind: tfo.KindPlain, end: tfo.EndClosed}, verdict: Supported, has: works,
		target: target{
			requests: []exchange{{kind: tfo.KindRequest, gets: fourBytes, end: tfo.EndClosed}},
			data:     []exchange{{syn: 1000, acked: 1000, before: fourBytes, end: tfo.EndClosed}},
		},
	},

	{
		script: "client/nonblocking-sendto-empty-buf", shows: "a cookie goes out alone and is answered with another",
		saw: exchange{before: fourBytes, gets: fourOthers}, want: empty, verdict: Inconclusive, has: []Condition{CondSynDataNotTried, CondCookieChanged},
	},
	{
		script: "client/nonblocking-sendto-empty-buf", shows: "900 of 2000 bytes fit the cached MSS and are acknowledged",
		saw: exchange{offered: 2000, syn: 900, acked: 900, before: fourOthers, gets: sixZeros}, want: acked, verdict: Supported, has: works,
	},

	{
		script: "client/nonblocking-sendto-errnos", shows: "EOPNOTSUPP where the sysctl has Fast Open switched off",
		saw: switchedOff, want: local, verdict: Inconclusive, has: []Condition{CondVantageDisabled},
	},
	{
		script: "client/nonblocking-sendto-errnos", shows: "EINPROGRESS and no byte taken where there is no cookie; a request goes out and is granted",
		saw: grantsSix, want: granted, verdict: Supported, has: []Condition{CondCookieReceived, CondCookieOddLength},
	},
	{
		script: "client/nonblocking-sendto-errnos", shows: "EINPROGRESS with a cookie there and nothing to send",
		saw: emptySYN, want: empty, verdict: Inconclusive, has: []Condition{CondSynDataNotTried},
	},
	{
		script: "client/nonblocking-sendto-errnos", shows: "SYN data is acknowledged without a word on the cookie",
		saw: exchange{syn: 1000, acked: 1000, before: sixBytes}, want: acked, verdict: Supported, has: works, hasNot: []Condition{CondCookieChanged},
	},
	{
		script: "client/nonblocking-sendto-errnos", shows: "RST that acknowledges only the SYN of a SYN with data",
		saw: resetsSYN, want: refused, verdict: Reset, has: []Condition{CondAnsweredRST},
	},
	{
		script: "client/nonblocking-sendto-errnos", shows: "SYN data is acknowledged, then a RST comes and no byte",
		saw: resetLater, want: cutOff, verdict: Reset, has: []Condition{CondAfterReset, CondSynDataAcked},
	},
	{
		script: "client/nonblocking-sendto-errnos", shows: "neither the SYN with data nor the bare one after it is answered",
		saw: neverThere, want: noAnswer, verdict: FlowBlackholed,
	},
	{script: "client/nonblocking-sendto-errnos", shows: "EALREADY and EAGAIN to calls that come too soon or twice", why: weSendOnce},

	{
		script: "client/nonblocking-sendto-over-mss", shows: "1420 of 5000 bytes fit and are acknowledged",
		saw: exchange{offered: 5000, syn: 1420, acked: 1420, before: sixZeros}, want: acked, verdict: Supported, has: append(works, CondCookieOddLength),
	},
	{
		script: "client/nonblocking-sendto-over-mss", shows: "the same filling a SYN on purpose",
		saw: exchange{kind: tfo.KindSized, offered: 1460, syn: 1420, acked: 1420, before: sixZeros}, want: acked, verdict: Supported, has: works,
	},
	{
		script: "client/nonblocking-sendto-over-mss", shows: "only the SYN is acknowledged, and another cookie comes",
		saw: exchange{offered: 5000, syn: 1420, before: sixZeros, gets: eightBytes}, want: replaced, verdict: CookieUnstable, has: []Condition{CondCookieChanged, CondSynDataNotAcked},
	},

	{
		script: "client/poll", shows: "SYN data is acknowledged by a peer that knows no window scale",
		saw: exchange{offered: 2000, syn: 1000, acked: 1000, before: fourBytes}, want: acked, verdict: Supported, has: works,
	},
	{
		script: "client/poll", shows: "RST in SYN-SENT, to Fast Open alone",
		saw: exchange{offered: 2000, syn: 1000, before: fourBytes, end: tfo.EndRefused, errno: "ECONNREFUSED"}, want: refused, verdict: Reset, has: []Condition{CondAnsweredRST},
	},
	{
		script: "client/poll", shows: "RST in SYN-SENT, to an ordinary connect as well",
		saw: exchange{kind: tfo.KindPlain, end: tfo.EndRefused, errno: "ECONNREFUSED"}, verdict: Offline, has: []Condition{CondOffline, CondOfflineRefused},
		target: target{requests: []exchange{{kind: tfo.KindRequest, end: tfo.EndRefused, errno: "ECONNREFUSED"}}}, hasNot: []Condition{CondAnsweredRST, CondBroken},
	},

	{script: "client/sendto-af-unspec", shows: "EOPNOTSUPP to a destination without a family", why: weNameAFamily},

	{
		script: "client/simultaneous-fast-open", shows: "the peer's own SYN crosses ours; its SYN-ACK then acknowledges all our data, which the kernel does not call SYN data",
		saw: exchange{syn: 1000, acked: 1000, crossed: true, before: fourBytes}, want: acked, verdict: Supported, has: works,
	},

	{
		script: "client/syn-data-icmp-unreach-frag-needed", shows: "ICMP calls the SYN with data too big; a bare SYN follows at once and is answered; the next SYN is small enough",
		saw: exchange{offered: 9999, syn: 1000, tooBig: true, mss: 1040, before: fourBytes}, want: dataLost, verdict: Supported,
		target: target{data: []exchange{{offered: 9999, syn: 1000, tooBig: true, before: fourBytes}, {offered: 9999, syn: 720, acked: 720, before: fourBytes}}},
	},
	{
		script: "client/syn-data-icmp-unreach-frag-needed-with-seq", shows: "the same, and the ICMP error quotes the sequence number",
		saw: exchange{offered: 9999, syn: 1000, tooBig: true, mss: 800, before: fourBytes}, want: dataLost, verdict: Supported,
		target: target{data: []exchange{{offered: 9999, syn: 1000, tooBig: true, before: fourBytes}, {offered: 9999, syn: 760, acked: 760, before: fourBytes}}},
	},
	{
		script: "client/syn-data-icmp-unreach-frag-needed-with-seq-ipv6", shows: "the same with ICMPv6 packet too big",
		saw: exchange{offered: 9999, syn: 1400, tooBig: true, mss: 1040, before: fourBytes}, want: dataLost, verdict: Supported,
		target: target{data: []exchange{{offered: 9999, syn: 1400, tooBig: true, before: fourBytes}, {offered: 9999, syn: 1300, acked: 1300, before: fourBytes}}},
	},

	{
		script: "client/syn-data-mss", shows: "the SYN carries the least of the peer's last MSS, our own and the path's, less 40 bytes; all of it is acknowledged",
		saw: exchange{kind: tfo.KindSized, offered: 1460, syn: 1300, acked: 1300, before: fourBytes}, want: acked, verdict: Supported, has: works,
	},
	{
		script: "client/syn-data-mss", shows: "a peer that announces an MSS of 10,000 gets what an Ethernet frame holds",
		saw: exchange{offered: 2000, syn: 1420, acked: 1420, before: fourBytes}, want: acked, verdict: Supported, has: works,
	},

	{
		script: "client/syn-data-only-syn-acked", shows: "only the SYN is acknowledged, and the same cookie comes again",
		saw: exchange{syn: 700, mss: 1040, before: fourBytes, gets: fourBytes}, want: notAcked, verdict: CookieOnly, has: []Condition{CondSynDataNotAcked, CondWorks}, hasNot: []Condition{CondCookieChanged, CondSynDataAcked},
	},
	{
		script: "client/syn-data-only-syn-acked", shows: "once only the SYN, then all data acknowledged",
		saw: exchange{syn: 700, before: fourBytes, gets: fourBytes}, want: notAcked, verdict: Supported, has: []Condition{CondSynDataNotAcked, CondSynDataAcked},
		target: target{data: []exchange{{syn: 700, before: fourBytes}, {syn: 1000, acked: 1000, before: fourBytes}}},
	},

	{
		script: "client/syn-data-partial-or-over-ack", shows: "100 of 1420 bytes are acknowledged, and the rest must be cut in two for a smaller MSS",
		saw: exchange{offered: 4000, syn: 1420, acked: 100, mss: 1000, before: fourBytes}, want: partial, verdict: DataTruncated, has: []Condition{CondSynDataPartial},
	},
	{
		script: "client/syn-data-partial-or-over-ack", shows: "9 of 18 bytes are acknowledged",
		saw: exchange{syn: 18, acked: 9, before: fourBytes}, want: partial, verdict: DataTruncated, has: []Condition{CondSynDataPartial}, hasNot: []Condition{CondSynDataAcked},
	},
	{
		script: "client/syn-data-partial-or-over-ack", shows: "all is acknowledged by a peer without any option but a new cookie",
		saw: exchange{offered: 1460, syn: 1420, acked: 1420, before: fourBytes, gets: sixBytes}, want: acked, verdict: Supported, has: append(works, CondCookieChanged),
	},
	{
		script: "client/syn-data-partial-or-over-ack", shows: "more is acknowledged than was sent: the client resets, and no answer to its bare SYN is any better",
		saw: exchange{syn: 100, before: sixBytes, bare: 3, end: tfo.EndTimeout, errno: "ETIMEDOUT"}, want: noAnswer, verdict: FlowBlackholed, has: []Condition{CondSynDataFailed},
	},
	{
		script: "client/syn-data-partial-or-over-ack", shows: "the same, and the bare SYN, sent at once, is answered well",
		saw: exchange{syn: 100, before: sixBytes, bare: 1, atOnce: true}, want: dataLost, verdict: DataDropped, has: []Condition{CondSynDataLost},
	},

	{
		script: "client/syn-data-rtt-from-syn-data", shows: "699 of 700 bytes are acknowledged, and the same cookie comes again",
		saw: exchange{syn: 700, acked: 699, before: fourBytes, gets: fourBytes}, want: partial, verdict: DataTruncated,
	},
	{
		script: "client/syn-data-rtt-from-syn-data", shows: "only the SYN is acknowledged, and the same cookie comes again",
		saw: exchange{syn: 700, before: fourBytes, gets: fourBytes}, want: notAcked, verdict: CookieOnly,
	},

	{
		script: "client/syn-data-timeout", shows: "the SYN with data times out; the bare SYN after it is answered, the data sent again",
		saw: exchange{syn: 1000, bare: 1, before: fourBytes}, want: dataLost, verdict: DataDropped, has: []Condition{CondSynDataLost, CondBroken}, hasNot: []Condition{CondSynDataNotAcked},
	},

	{
		script: "client/synack-data", shows: "all data is acknowledged by a SYN-ACK that has the response in it",
		saw: exchange{syn: 1000, acked: 1000, before: fourBytes}, want: acked, verdict: Supported, has: works,
	},
	{
		script: "client/synack-data", shows: "the SYN-ACK is lost; that to the bare SYN acknowledges all data and has the response in it",
		saw: exchange{syn: 1000, acked: 1000, bare: 1, before: fourBytes}, want: acked, verdict: Supported, has: works, hasNot: []Condition{CondSynDataLost},
	},
	{script: "client/synack-data", shows: "a SYN-ACK that echoes a timestamp nobody sent is answered by RST, and a later good one taken", why: "the one that is taken decides: the evidence is that of the first row"},

	{
		script: "client/valid-cookie-format", shows: "four zeros are a cookie",
		saw: exchange{kind: tfo.KindRequest, gets: fourZeros}, want: granted, verdict: Supported, has: append(works, CondCookieOddLength),
	},
	{
		script: "client/valid-cookie-format", shows: "data is acknowledged beside a cookie of 2, 3 or 18 bytes, which is not kept",
		saw: exchange{syn: 1000, acked: 1000, before: fourZeros}, want: acked, verdict: Supported, has: works, hasNot: []Condition{CondCookieChanged},
	},
	{
		script: "client/valid-cookie-format", shows: "data is acknowledged beside a cookie of 16 bytes, which is kept",
		saw: exchange{offered: 1000, syn: 900, acked: 900, before: fourZeros, gets: sixteenBytes}, want: acked, verdict: Supported, has: append(works, CondCookieChanged, CondCookieOddLength),
	},
	{
		script: "client/valid-cookie-format", shows: "a cookie of 16 bytes leaves room for data, which is acknowledged",
		saw: exchange{syn: 1000, acked: 1000, before: sixteenBytes}, want: acked, verdict: Supported, has: works,
	},
	{script: "client/valid-cookie-format", shows: "a cookie in a segment after the handshake is not kept", why: "nothing after the handshake reaches the cookie cache; the evidence is that of the row above"},
}
