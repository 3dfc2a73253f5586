package measure

import (
	"testing"

	"tfofleet/internal/tfo"
)

// The evidence builders below write what the kernel shows for one attempt;
// the taxonomy ids (M1...) are those of the project's list of misbehaviours.

const ms = 1_000_000 // ns

var (
	cookieA = []byte("AAAAAAAA")
	cookieB = []byte("BBBBBBBB")
)

func held(c []byte) tfo.Cookie {
	if c == nil {
		return tfo.Cookie{State: tfo.CookieNone}
	}
	return tfo.Cookie{State: tfo.CookiePresent, Bytes: c}
}

func plain(end tfo.End) tfo.Evidence {
	ev := tfo.Evidence{Kind: tfo.KindPlain, Offered: 100, End: end, ConnectNS: 20 * ms, FirstByteNS: 40 * ms, CookieBefore: held(nil), CookieAfter: held(nil)}
	return fail(ev)
}

// fail fills in what an attempt without a handshake shows.
func fail(ev tfo.Evidence) tfo.Evidence {
	switch ev.End {
	case tfo.EndRefused:
		ev.Errno = "ECONNREFUSED"
	case tfo.EndTimeout:
		ev.Errno, ev.SynRetransmits = "ETIMEDOUT", 4
	}
	if !ev.End.Established() {
		ev.ConnectNS, ev.SynAcked = tfo.NotKnown, tfo.NotKnown
	}
	if ev.End != tfo.EndResponse {
		ev.FirstByteNS = tfo.NotKnown
	}
	return ev
}

// request asks with a kind and ends with the cookie got (nil: none).
func request(kind uint8, got []byte) tfo.Evidence {
	return tfo.Evidence{
		Kind: tfo.KindRequest, OptionKind: kind, Offered: 100, End: tfo.EndResponse, ConnectNS: 20 * ms, FirstByteNS: 40 * ms,
		ClientFail: tfo.FailCookieUnavailable, CookieBefore: held(nil), CookieAfter: held(got),
	}
}

// data sends 100 bytes with cookie A, of which n are acked, and leaves the
// cookie after.
func data(n int, after []byte) tfo.Evidence {
	ev := tfo.Evidence{
		Kind: tfo.KindData, OptionKind: tfo.OptionKindTFO, Offered: 100, SynBytes: 100, SynAcked: n, End: tfo.EndResponse,
		ConnectNS: 20 * ms, FirstByteNS: 20 * ms, CookieBefore: held(cookieA), CookieAfter: held(after),
	}
	if n == 100 {
		ev.TCPIOptions = tfo.OptSynData
	} else {
		ev.ClientFail = tfo.FailDataNotAcked
	}
	return ev
}

func with(ev tfo.Evidence, f func(*tfo.Evidence)) tfo.Evidence { f(&ev); return fail(ev) }

func ended(end tfo.End) func(*tfo.Evidence) { return func(ev *tfo.Evidence) { ev.End = end } }

// timedOut is a SYN that was sent twice: the second time bare.
func timedOut(ev *tfo.Evidence) { ev.SynRetransmits, ev.ConnectNS = 1, 1020*ms }

// neverLeft is a SYN that the capture did not see leave.
func neverLeft(ev *tfo.Evidence) { ev.WireAbsent = tfo.WireUnseen }

// notCleared is a first request that found a cookie and could not delete it:
// the kernel sends data with it.
func notCleared(ev *tfo.Evidence) { ev.Kind, ev.CookieCleared = tfo.KindRequest, tfo.No }

func repeat(n int, evs ...tfo.Evidence) []tfo.Evidence {
	var out []tfo.Evidence
	for range n {
		out = append(out, evs...)
	}
	return out
}

func join(parts ...[]tfo.Evidence) []tfo.Evidence {
	var out []tfo.Evidence
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func one(evs ...tfo.Evidence) []tfo.Evidence { return evs }

var (
	ok      = plain(tfo.EndResponse)
	down    = plain(tfo.EndTimeout)
	ask34   = request(34, nil)
	ask254  = request(254, nil)
	got34   = request(34, cookieA)
	got254  = request(254, cookieA)
	lostReq = with(ask34, timedOut)
	allGood = data(100, cookieA)
	refuses = data(0, cookieA)
	lost    = with(with(refuses, timedOut), func(ev *tfo.Evidence) { ev.ClientFail = tfo.FailSynRetransmitted })
	mute    = with(allGood, ended(tfo.EndSilent))
	rst     = with(allGood, ended(tfo.EndRefused))
	dead    = with(allGood, ended(tfo.EndTimeout))
	left    = with(refuses, notCleared)

	noPorts    = with(plain(tfo.EndLocal), func(ev *tfo.Evidence) { ev.Errno = "EADDRNOTAVAIL" })
	refusedReq = with(ask34, ended(tfo.EndRefused))
	noOption   = with(refuses, func(ev *tfo.Evidence) {
		ev.Kind, ev.CookieBefore, ev.CookieAfter = tfo.KindRequest, held(nil), held(nil)
	})
)

func TestClassify(t *testing.T) {
	icmp := with(rst, func(ev *tfo.Evidence) { ev.Errno = "EHOSTUNREACH" })
	icmp.Errno = "EHOSTUNREACH"
	noRoute := with(plain(tfo.EndLocal), func(ev *tfo.Evidence) { ev.Errno = "ENETUNREACH" })
	off := with(ask34, func(ev *tfo.Evidence) { ev.End, ev.Errno, ev.OptionKind = tfo.EndLocal, "EOPNOTSUPP", 0 })
	paused := with(ask34, func(ev *tfo.Evidence) { ev.OptionKind, ev.ClientFail = 0, 0 })
	pausedData := with(refuses, func(ev *tfo.Evidence) { ev.SynBytes, ev.ClientFail = 0, 0 })
	silentPlain := plain(tfo.EndSilent)
	tests := []struct {
		name     string
		attempts []tfo.Evidence
		want     Verdict
		has      []Condition
		hasNot   []Condition
	}{
		// supported and its neighbours
		{"healthy", one(ok, got34, allGood, allGood, ok), Supported, []Condition{CondWorks, CondCookieReceived, CondSynDataAcked}, []Condition{CondCookieChanged, CondCookieExperimental}},
		{"M21 experimental kind only", one(ok, ask34, got254, with(allGood, func(ev *tfo.Evidence) { ev.OptionKind = 254 }), with(allGood, func(ev *tfo.Evidence) { ev.OptionKind = 254 }), ok), Supported, []Condition{CondCookieExperimental}, nil},
		{"M11 cookie issued again while data is acked", one(ok, got34, data(100, cookieB), data(100, cookieB), ok), Supported, []Condition{CondCookieChanged}, nil},
		{"one key rotation", one(ok, got34, data(0, cookieB), allGood, allGood, ok), Supported, []Condition{CondCookieChanged, CondSynDataNotAcked}, nil},
		{"one lost SYN among good ones", one(ok, got34, lost, ok, allGood, allGood, ok), Supported, []Condition{CondSynDataLost}, []Condition{CondBroken}},
		{"SYN-ACK lost, data acked by the second", one(ok, got34, with(allGood, timedOut), allGood, ok), Supported, nil, []Condition{CondSynDataLost}},
		{"a server that answers nothing to anyone is not a black hole", one(silentPlain, with(got34, ended(tfo.EndSilent)), mute, mute, silentPlain), Supported, []Condition{CondNoResponse}, []Condition{CondAfterBlackholed}},
		{"a server that closes without a byte, to anyone", one(plain(tfo.EndClosed), with(got34, ended(tfo.EndClosed)), with(allGood, ended(tfo.EndClosed)), with(allGood, ended(tfo.EndClosed)), plain(tfo.EndClosed)), Supported, nil, nil},
		{"odd cookie", one(ok, request(34, []byte("123456")), with(allGood, func(ev *tfo.Evidence) {
			ev.CookieBefore, ev.CookieAfter = held([]byte("123456")), held([]byte("123456"))
		}), with(allGood, func(ev *tfo.Evidence) {
			ev.CookieBefore, ev.CookieAfter = held([]byte("123456")), held([]byte("123456"))
		}), ok), Supported, []Condition{CondCookieOddLength}, nil},
		{"once is not enough", one(ok, got34, allGood, ok), Inconclusive, nil, nil},

		// cookie_only
		{"M6 M7 M12 data never acked, cookie stable", one(ok, got34, refuses, refuses, refuses, ok), CookieOnly, []Condition{CondSynDataNotAcked, CondWorks}, []Condition{CondCookieChanged}},
		{"not acked twice only", one(ok, got34, refuses, refuses, ok), Inconclusive, nil, nil},
		{"now acked, now not", one(ok, got34, refuses, allGood, refuses, allGood, refuses, ok), Inconclusive, []Condition{CondTriesDisagree}, nil},

		// data_truncated
		{"M8 part of the data acked", one(ok, got34, data(60, cookieA), data(60, cookieA), data(60, cookieA), ok), DataTruncated, []Condition{CondSynDataPartial}, nil},
		{"truncated once among good ones", one(ok, got34, data(60, cookieA), allGood, allGood, ok), Supported, []Condition{CondSynDataPartial}, nil},

		// cookie_unstable
		{"M9 M10 refused and replaced every time", one(ok, got34, data(0, cookieB), data(0, cookieB), data(0, cookieB), ok), CookieUnstable, []Condition{CondCookieChanged}, nil},
		{"M10 a farm where some tries meet the right server", one(ok, got34, data(0, cookieB), allGood, data(0, cookieB), allGood, ok), CookieUnstable, []Condition{CondSynDataAcked}, nil},

		// unsupported
		{"M2 M3 M4 M19 M22 no cookie", one(ok, ask34, ask254, ask34, ok), Unsupported, []Condition{CondCookieNotReceived, CondWorks}, nil},
		{"two clean tries are not enough", one(ok, ask34, ask254, ok), Inconclusive, nil, nil},
		{"a slow handshake may have lost the cookie", one(ok, with(ask34, func(ev *tfo.Evidence) { ev.ConnectNS = 1030 * ms }), ok, ask34, ask254, ok), Inconclusive, []Condition{CondOptionLost}, nil},

		// option_dropped
		{"M1 SYN with option lost, plain not", join(one(ok), repeat(6, lostReq, ok)), OptionDropped, []Condition{CondBroken, CondOptionLost}, nil},
		{"M1 five losses only", join(one(ok), repeat(5, lostReq, ok)), Inconclusive, nil, nil},
		{"plain loses too", join(one(ok), repeat(6, lostReq, with(ok, timedOut))), Inconclusive, []Condition{CondLossy}, nil},
		{"only kind 254 is lost", join(one(ok, ask34), repeat(6, with(ask254, timedOut), ok)), OptionDropped, nil, nil},

		// data_dropped
		{"M5 SYN with data lost, bare retransmission not", join(one(ok, got34), repeat(6, lost, ok)), DataDropped, []Condition{CondSynDataLost, CondBroken}, nil},
		{"M5 with a single success", join(one(ok, got34), repeat(6, lost, ok), one(allGood, ok)), Inconclusive, nil, nil},
		{"M5 on a lossy path", join(one(ok, got34), repeat(5, lost, ok), one(lost, with(ok, timedOut))), Inconclusive, nil, nil},

		// reset
		{"M13 RST to SYN data", join(one(ok, got34), repeat(3, rst, ok)), Reset, []Condition{CondAnsweredRST, CondSynDataFailed, CondBroken}, nil},
		{"M14 ICMP to SYN data", join(one(ok, got34), repeat(3, icmp, ok)), Reset, []Condition{CondAnsweredICMP}, []Condition{CondAnsweredRST}},
		{"RST to the option", join(one(ok), repeat(3, with(ask34, ended(tfo.EndRefused)), ok)), Reset, []Condition{CondAnsweredRST}, []Condition{CondSynDataFailed}},
		{"RST after the handshake", join(one(ok, got34), repeat(3, with(allGood, func(ev *tfo.Evidence) { ev.End, ev.Errno = tfo.EndReset, "ECONNRESET" }), ok)), Reset, []Condition{CondAfterReset}, nil},
		{"two resets", join(one(ok, got34), repeat(2, rst, ok)), Inconclusive, nil, nil},

		// flow_blackholed
		{"M15 flow dead from the SYN on", join(one(ok, got34), repeat(3, dead, ok)), FlowBlackholed, []Condition{CondSynDataFailed, CondBroken}, nil},

		// blackholed_after_handshake
		{"M16 M17 acked, then silence", join(one(ok, got34), repeat(3, mute, ok)), BlackholedAfterHandshake, []Condition{CondAfterBlackholed, CondSynDataAcked, CondBroken}, nil},
		{"silence twice, then fine", join(one(ok, got34), repeat(2, mute, ok), one(allGood, allGood, allGood, ok)), Supported, nil, nil},

		// client_blocked
		{"M18 plain fails after Fast Open", join(one(ok, got34, dead), repeat(5, down)), ClientBlocked, []Condition{CondBroken}, []Condition{CondTransient}},
		{"M18 blocked at the close", join(one(ok, got34, allGood, allGood), repeat(5, down)), ClientBlocked, nil, nil},
		{"down for a moment only", one(ok, got34, dead, down, ok, allGood, allGood, ok), Supported, []Condition{CondTransient}, nil},
		{"down four times is not a block", join(one(ok, got34, allGood, allGood), repeat(4, down)), Inconclusive, nil, nil},

		// offline
		{"refused", one(plain(tfo.EndRefused), plain(tfo.EndRefused), with(ask34, ended(tfo.EndRefused))), Offline, []Condition{CondOffline, CondOfflineRefused}, []Condition{CondAnsweredRST, CondBroken}},
		{"dead", one(down, with(ask34, ended(tfo.EndTimeout))), Offline, []Condition{CondOfflineTimeout}, nil},
		{"no route", one(noRoute), Offline, []Condition{CondOfflineUnreach, CondVantageNoRoute}, nil},
		{"the SYN never left", one(with(down, neverLeft), with(with(ask34, ended(tfo.EndTimeout)), neverLeft)), Inconclusive, []Condition{CondVantageUnseen}, []Condition{CondOffline, CondVantagePaused}},
		{"SYNs stop leaving after Fast Open", one(ok, got34, allGood, allGood, with(down, neverLeft), with(down, neverLeft), with(down, neverLeft)), Supported, []Condition{CondVantageUnseen}, []Condition{CondBroken}},
		{"only Fast Open gets through", one(down, got34, down, down), Inconclusive, []Condition{CondTransient}, nil},

		// inconclusive
		{"Fast Open is off on this machine", one(ok, off), Inconclusive, []Condition{CondVantageDisabled}, nil},
		{"the kernel paused Fast Open", one(ok, paused), Inconclusive, []Condition{CondVantagePaused}, []Condition{CondCookieNotReceived}},
		{"paused in the middle", one(ok, got34, pausedData, ok), Inconclusive, []Condition{CondVantagePaused}, nil},
		{"no payload to send", one(ok, got34, with(allGood, func(ev *tfo.Evidence) { ev.Offered, ev.SynBytes, ev.SynAcked = 0, 0, 0 }), ok), Inconclusive, []Condition{CondSynDataNotTried}, nil},
		{"the cookie of another port that could not be deleted, ignored", one(ok, left, refuses, refuses, ok), Inconclusive, []Condition{CondVantageStale, CondSynDataNotAcked}, []Condition{CondCookieReceived, CondCookieNotReceived, CondTriesDisagree}},
		{"an old cookie that could not be deleted, replaced by one that is ignored", one(ok, with(left, func(ev *tfo.Evidence) { ev.CookieAfter = held(cookieB) }), refuses, refuses, refuses, ok), CookieOnly, []Condition{CondVantageStale, CondCookieReceived}, nil},
		{"an old cookie that could not be deleted, still good", one(ok, with(allGood, notCleared), allGood, ok), Supported, []Condition{CondVantageStale, CondCookieReceived}, nil},
		{"nothing at all", nil, Inconclusive, nil, nil},
		{"this machine runs out of ports at the close", one(ok, got34, allGood, allGood, noPorts, noPorts, noPorts), Supported, []Condition{"tfo.vantage.eaddrnotavail"}, []Condition{CondBroken, CondTransient}},
		{"SYNs of plain attempts do not leave", one(ok, got34, allGood, with(down, neverLeft), allGood, ok), Supported, []Condition{CondVantageUnseen}, []Condition{CondTransient}},
		{"RST to SYN data, and this machine made no control", join(one(ok, got34), repeat(3, rst, noPorts)), Inconclusive, nil, []Condition{CondBroken}},
		{"silent to all but the first", join(one(ok), repeat(3, with(ask34, ended(tfo.EndSilent)), silentPlain)), Inconclusive, []Condition{CondTriesDisagree}, []Condition{CondBroken, CondAfterBlackholed}},
		{"cuts off all but the first", join(one(ok, got34), repeat(3, with(allGood, ended(tfo.EndClosed)), plain(tfo.EndClosed))), Inconclusive, []Condition{CondAfterClosed}, []Condition{CondBroken}},
		{"refuses now and then, whatever comes", join(one(ok, got34), repeat(3, rst, plain(tfo.EndRefused), ok)), Inconclusive, nil, []Condition{CondBroken}},
		{"never answers now and then, whatever comes", join(one(ok, got34), repeat(3, dead, down, ok)), Inconclusive, nil, []Condition{CondBroken}},
		{"refuses some requests of a kind and answers others", one(ok, refusedReq, ok, ask34, refusedReq, ok, ask34, refusedReq, ok), Inconclusive, []Condition{CondTriesDisagree}, []Condition{CondBroken}},
		{"RST to kind 254 only", join(one(ok, ask34), repeat(3, with(ask254, ended(tfo.EndRefused)), ok)), Reset, nil, nil},
		{"RST to some SYN data, the rest passed over", one(ok, got34, rst, ok, refuses, rst, ok, refuses, rst, ok), Inconclusive, nil, []Condition{CondBroken}},
		{"SYN data lost on one of two routes, passed over on the other", join(one(ok, got34), repeat(6, lost, ok), one(refuses, refuses)), Inconclusive, nil, []Condition{CondBroken}},
		{"RST to SYN data, and one plain attempt of many failed", join(one(ok, got34), repeat(9, rst, ok), one(rst, down, ok)), Reset, nil, nil},
		{"the kernel sends data without a cookie, net.ipv4.tcp_fastopen has bit 0x4", one(ok, noOption, noOption, noOption, ok), Inconclusive, []Condition{CondVantagePaused}, []Condition{CondCookieNotReceived}},
	}
	seen := map[Verdict]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, cs := Classify(Standard, tt.attempts)
			if got != tt.want {
				t.Errorf("verdict %v, want %v (conditions %v)", got, tt.want, cs)
			}
			have := map[Condition]bool{}
			for _, c := range cs {
				have[c] = true
			}
			for _, c := range tt.has {
				if !have[c] {
					t.Errorf("condition %s is missing from %v", c, cs)
				}
			}
			for _, c := range tt.hasNot {
				if have[c] {
					t.Errorf("condition %s should not be in %v", c, cs)
				}
			}
		})
		seen[tt.want] = true
	}
	for _, v := range Verdicts() {
		if !seen[v] {
			t.Errorf("no row for %v", v)
		}
	}
}
