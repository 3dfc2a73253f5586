package tfo

import (
	"net/netip"
	"time"
)

// RequestKind is what a client said, as far as the listener can tell. The
// values are append-only.
type RequestKind uint8

const (
	RequestNone  RequestKind = 0 // nothing, or nothing whole
	RequestHTTP  RequestKind = 1 // HEAD or GET
	RequestTLS   RequestKind = 2 // a handshake record, such as a ClientHello
	RequestDNS   RequestKind = 3 // a DNS query over TCP
	RequestOther RequestKind = 4
)

var requestNames = [...]string{"none", "http", "tls", "dns", "other"}

func (k RequestKind) String() string {
	if int(k) < len(requestNames) {
		return requestNames[k]
	}
	return "unknown"
}

// ArrivalEnd says how an accepted connection ended. The values are append-only.
type ArrivalEnd uint8

const (
	// ArrivalServed: answered, and all of the answer was acknowledged.
	ArrivalServed ArrivalEnd = 1
	// ArrivalClosed: the peer closed before a whole request had come.
	ArrivalClosed ArrivalEnd = 2
	// ArrivalBroken: an error, such as a reset by the peer; Errno names it.
	ArrivalBroken ArrivalEnd = 3
	// ArrivalSilent: no whole request came in time.
	ArrivalSilent ArrivalEnd = 4
	// ArrivalUnacked: answered, and not all of the answer was acknowledged in
	// time.
	ArrivalUnacked ArrivalEnd = 5
	// ArrivalRefused: the source is not allowed; reset without an answer.
	ArrivalRefused ArrivalEnd = 6
	// ArrivalCut: cut short by our own shutdown or lack of room.
	ArrivalCut ArrivalEnd = 7
)

var arrivalNames = [...]string{"unknown", "served", "closed", "broken", "silent", "unacked", "refused", "cut"}

func (e ArrivalEnd) String() string {
	if int(e) < len(arrivalNames) {
		return arrivalNames[e]
	}
	return "unknown"
}

// Arrival is everything that one accepted connection showed at the listening
// end. It holds facts only. Durations count from the accept, in ns.
type Arrival struct {
	Accepted time.Time // wall clock
	Peer     netip.AddrPort
	Local    netip.AddrPort

	SYN   SavedSYN
	Claim CookieClaim // what the SYN's option asked for
	// Gives is the cookie that the listener's primary key makes for this peer,
	// whether it was asked for or not. Nil when the key is not known.
	Gives []byte
	// Child is what the kernel made of it: Yes when the connection is a TFO
	// child, made by the SYN alone. A valid cookie without a child was
	// refused: the queue was full, or Fast Open is off for listeners.
	// NotTried: this kernel does not tell (before Linux 6.16, for a SYN
	// without data).
	Child Tri

	SynBytes int // payload of the SYN as it arrived; NotKnown without a saved SYN
	SynTaken int // of it, given to the application before the handshake was complete
	AtAccept int // payload received by the time of the accept: SynTaken, and what had followed

	Request      []byte // the first bytes received, at most RequestKeep
	RequestKind  RequestKind
	RequestBytes int // all bytes received

	ResponseBytes int
	ResponseAcked int // of ResponseBytes, acknowledged by the peer
	// AnsweredEarly: the response left before the last ACK of the handshake
	// came, the round trip that Fast Open saves. NotTried without a response,
	// or when the ACK came at the same moment.
	AnsweredEarly Tri

	HandshakeNS int64 // to the last ACK of the handshake; 0 = complete when accepted; NotKnown when it never came
	RequestNS   int64 // to the whole request; NotKnown without one
	TotalNS     int64

	End   ArrivalEnd
	Errno string // symbolic name; empty when there was no error

	InfoAccept []byte // raw struct tcp_info at the accept
	InfoFinal  []byte // raw struct tcp_info at the end
}

// Options is tcpi_options at the accept; see OptSynData and OptTFOChild.
func (a *Arrival) Options() uint8 { return Info(a.InfoAccept).Options() }

// RequestKeep is how much of a request is kept: every payload of ours, whole.
const RequestKeep = 512

// childMade says whether the kernel made the connection out of the SYN alone.
// synBytes is NotKnown without a saved SYN.
func childMade(info Info, claim CookieClaim, synBytes int) Tri {
	switch {
	case info == nil:
		return NotTried
	case info.Options()&(OptTFOChild|OptSynData) != 0, info.State() == stateSynRecv:
		// Only a TFO child has SYN data, and no other connection is accepted
		// before its handshake is complete.
		return Yes
	case kernelTellsChild, synBytes > 0:
		// Data of the SYN was there for the taking and was not taken.
		return No
	case claim == ClaimNone || claim == ClaimMalformed:
		return No // neither option nor data (tcp_try_fastopen)
	}
	return NotTried
}
