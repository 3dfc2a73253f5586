package measure

import "strings"

// Conditions. A measurement carries every one that holds, sorted.
const (
	CondWorks     Condition = "tfo.connectivity.works"     // plain and Fast Open both reach the target
	CondBroken    Condition = "tfo.connectivity.broken"    // plain does, Fast Open does not
	CondOffline   Condition = "tfo.connectivity.offline"   // neither does
	CondTransient Condition = "tfo.connectivity.transient" // plain failed at least once and Fast Open worked
	CondLossy     Condition = "tfo.connectivity.lossy"     // plain handshakes lost segments too

	CondCookieReceived     Condition = "tfo.cookie.received"
	CondCookieNotReceived  Condition = "tfo.cookie.not_received"
	CondCookieExperimental Condition = "tfo.cookie.experimental" // granted to option kind 254 only
	CondCookieChanged      Condition = "tfo.cookie.changed"      // a later SYN-ACK brought another one
	CondCookieOddLength    Condition = "tfo.cookie.odd_length"   // not 8 bytes

	CondSynDataAcked    Condition = "tfo.syndata.acked"
	CondSynDataNotAcked Condition = "tfo.syndata.not_acked"
	CondSynDataPartial  Condition = "tfo.syndata.partial"
	CondSynDataLost     Condition = "tfo.syndata.lost"   // the SYN with data timed out
	CondSynDataFailed   Condition = "tfo.syndata.failed" // the connection with SYN data failed
	CondSynDataNotTried Condition = "tfo.syndata.not_tried"

	// CondSynDataLostAbove is followed by ".N": SYNs with more than N bytes of
	// data are lost, one with N is acknowledged.
	CondSynDataLostAbove   Condition = "tfo.syndata.lost_above"
	CondCookielessAccepted Condition = "tfo.cookieless.accepted" // SYN data is taken without any cookie
	CondCookielessRefused  Condition = "tfo.cookieless.refused"
	CondForgedAccepted     Condition = "tfo.cookie.forged_accepted" // SYN data is taken with a wrong cookie: it is not checked
	CondForgedRefused      Condition = "tfo.cookie.forged_refused"
	CondControlReturned    Condition = "tfo.control.returned" // an option nobody knows came back: a cookie of this host proves nothing
	CondControlPassed      Condition = "tfo.control.passed"
	CondControlDropped     Condition = "tfo.control.dropped" // a SYN with an option nobody knows is never answered

	CondOptionLost         Condition = "tfo.option.lost" // a SYN with a cookie request timed out
	CondAfterBlackholed    Condition = "tfo.after.blackholed"
	CondAfterReset         Condition = "tfo.after.reset"
	CondAfterClosed        Condition = "tfo.after.closed" // closed without a byte, where plain attempts get a response
	CondAnsweredRST        Condition = "tfo.reset.rst"
	CondAnsweredICMP       Condition = "tfo.reset.icmp"
	CondNoResponse         Condition = "tfo.response.none" // not even plain attempts are answered
	CondOfflineRefused     Condition = "tfo.offline.refused"
	CondOfflineTimeout     Condition = "tfo.offline.timeout"
	CondOfflineUnreach     Condition = "tfo.offline.unreachable"
	CondTriesDisagree      Condition = "tfo.tries.disagree"
	CondVantageDisabled    Condition = "tfo.vantage.tfo_disabled" // net.ipv4.tcp_fastopen bit 0x1 is clear
	CondVantagePaused      Condition = "tfo.vantage.tfo_paused"   // the kernel did not send the option: black-hole pause
	CondVantageNoRoute     Condition = "tfo.vantage.no_route"
	CondVantageStale       Condition = "tfo.vantage.stale_cookie" // a cookie was there that could not be deleted first
	CondVantageUncleared   Condition = "tfo.vantage.cookie_not_cleared"
	CondVantageInterrupted Condition = "tfo.vantage.interrupted"
)

// CondVantageError is the condition of an attempt that this machine could not
// make, "tfo.vantage.<errno>", such as tfo.vantage.emfile.
func CondVantageError(errno string) Condition {
	return Condition("tfo.vantage." + strings.ToLower(errno))
}

// Conditions that only a look at the wire gives. They add to a measurement; no
// verdict depends on them, but that a SYN which never left this machine is no
// fault of the target.
const (
	CondCookieMirrored    Condition = "tfo.cookie.mirrored"    // a SYN-ACK carried an empty TFO option
	CondCookieReturned    Condition = "tfo.cookie.returned"    // a SYN-ACK carried the cookie of the SYN it answers
	CondCookieUnusable    Condition = "tfo.cookie.unusable"    // of a length the kernel does not take: odd, below 4 or above 16
	CondCookieUnsolicited Condition = "tfo.cookie.unsolicited" // a SYN-ACK carried a TFO option, its SYN did not
	CondCookieBothKinds   Condition = "tfo.cookie.both_kinds"  // a SYN-ACK carried options of kind 34 and 254
	CondCookieRepeated    Condition = "tfo.cookie.repeated"    // a SYN-ACK carried one kind of option more than once
	CondOptionMalformed   Condition = "tfo.option.malformed"   // the options of a SYN-ACK end in one that cannot be
	CondSynDataOverAcked  Condition = "tfo.syndata.over_acked" // a SYN-ACK acknowledged more than was sent
	CondSynAckData        Condition = "tfo.synack.data"        // a SYN-ACK carried data
	CondResetOtherTTL     Condition = "tfo.reset.other_ttl"    // the RST had another TTL than the target's SYN-ACKs: a sign that somebody else sent it

	CondVantageUnseen     Condition = "tfo.vantage.syn_not_seen"       // a SYN did not leave as it was made: a local firewall or address translation
	CondVantageIncomplete Condition = "tfo.vantage.capture_incomplete" // packets were lost before they could be looked at
)

// Conditions that the probe and the controller set beside the evidence.
const (
	CondNameNotFound  Condition = "tfo.resolve.not_found"  // the name does not exist, or has no address at all
	CondNameNoAddress Condition = "tfo.resolve.no_address" // it has none of the address family that was asked for
	CondNameTimeout   Condition = "tfo.resolve.timeout"    // no DNS server answered
	CondNameFailed    Condition = "tfo.resolve.failed"     // a DNS server answered that it cannot tell

	CondSharedAddress Condition = "tfo.target.shared_address" // another name led to the same address and port: its verdict, without attempts

	CondVantageNoResolver Condition = "tfo.vantage.no_resolver" // no DNS server could be reached from this machine

	CondVantageRepeated Condition = "tfo.vantage.repeated" // an earlier lease may have begun to measure the target
	CondVantageLate     Condition = "tfo.vantage.late"     // the result came when its lease was over
)

// Conditions of every result of a probe whose self-test found a fault between
// itself and its controller's own listener: what they say of a target may be the
// doing of that.
const (
	CondNearPathStripsOption   Condition = "tfo.vantage.near_path.strips_option"
	CondNearPathDropsSynData   Condition = "tfo.vantage.near_path.drops_syn_data"
	CondNearPathTerminatesTCP  Condition = "tfo.vantage.near_path.terminates_tcp"
	CondNearPathChangesAddress Condition = "tfo.vantage.near_path.changes_address"
	CondNearPathBreaksFlows    Condition = "tfo.vantage.near_path.breaks_flows"
)

// CondRefused is the condition of a target that the probe's policy refused,
// "tfo.vantage.refused_<reason>"; with OutcomeRefused nothing was sent to it.
func CondRefused(reason string) Condition { return Condition("tfo.vantage.refused_" + reason) }
