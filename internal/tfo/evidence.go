package tfo

import (
	"net/netip"
	"time"
)

// Kind says what an attempt sets out to do. What it in fact did is in the
// other fields of [Evidence]: a request attempt whose cache entry could not be
// emptied may well send data. The values are append-only: they are stored in
// datasets.
type Kind uint8

const (
	// KindPlain connects without TCP Fast Open: the control.
	KindPlain Kind = 1
	// KindRequest sends a SYN with a TFO cookie request and no data.
	KindRequest Kind = 2
	// KindData sends a SYN with the cached cookie and data.
	KindData Kind = 3
	// KindCookieless sends a SYN with data and without any TFO option
	// (TCP_FASTOPEN_NO_COOKIE, Linux 4.15).
	KindCookieless Kind = 4
	// KindSized is KindData with a chosen number of bytes in the SYN.
	KindSized Kind = 5
	// KindForged sends a SYN with a wrong cookie and data, from a raw socket.
	KindForged Kind = 6
	// KindUnknown sends a SYN with an option nobody knows, from a raw socket:
	// the control for hosts that return any option.
	KindUnknown Kind = 7
)

func (k Kind) String() string {
	switch k {
	case KindPlain:
		return "plain"
	case KindRequest:
		return "request"
	case KindData:
		return "data"
	case KindCookieless:
		return "cookieless"
	case KindSized:
		return "sized"
	case KindForged:
		return "forged"
	case KindUnknown:
		return "unknown_option"
	}
	return "invalid"
}

// TFO option kinds as they appear on the wire.
const (
	// OptionKindTFO is the assigned TCP option kind (RFC 7413, section 4.1.1).
	OptionKindTFO = 34
	// OptionKindExp is the experimental kind (RFC 6994) that is followed by
	// the magic 0xF989.
	OptionKindExp = 254
)

// End says how an attempt ended. The values are append-only.
type End uint8

const (
	// EndResponse: the handshake completed and at least one byte came back.
	EndResponse End = 1
	// EndClosed: the handshake completed and the peer closed without a byte.
	EndClosed End = 2
	// EndReset: the handshake completed and the connection was then broken by
	// an error (a reset, or an ICMP error); Errno names it.
	EndReset End = 3
	// EndSilent: the handshake completed and nothing came back in time.
	EndSilent End = 4
	// EndRefused: no handshake; the SYN was answered by an error (a reset, or
	// an ICMP error); Errno names it.
	EndRefused End = 5
	// EndTimeout: no handshake in time and no answer to the SYN.
	EndTimeout End = 6
	// EndLocal: this machine could not send the SYN; Errno names the reason.
	// The path and the target had no part in it.
	EndLocal End = 7
	// EndInterrupted: the attempt was cut short by our own shutdown.
	EndInterrupted End = 8
	// EndSynAck: the SYN of a raw attempt was answered by a SYN-ACK, and the
	// kernel reset the connection it knew nothing of.
	EndSynAck End = 9
)

var endNames = [...]string{"unknown", "response", "closed", "reset", "silent", "refused", "timeout", "local", "interrupted", "syn_ack"}

func (e End) String() string {
	if int(e) < len(endNames) {
		return endNames[e]
	}
	return "unknown"
}

// Established reports whether the handshake completed.
func (e End) Established() bool { return e >= EndResponse && e <= EndSilent }

// Answered reports whether anything came back after the handshake: bytes, an
// orderly close or a reset.
func (e End) Answered() bool { return e >= EndResponse && e <= EndReset }

// CookieState tells what a read of the cookie cache found. The three answers
// stay apart: "not read" is not "none".
type CookieState uint8

const (
	CookieNotRead CookieState = 0 // the cache was not read, or could not be
	CookieNone    CookieState = 1 // it was read and holds no cookie
	CookiePresent CookieState = 2 // it was read and holds this cookie
)

// Cookie is what the kernel's cookie cache holds for one (source, destination)
// address pair. The cache has no port (net/ipv4/tcp_metrics.c).
type Cookie struct {
	State CookieState
	Bytes []byte // 4 to 16 bytes when State is CookiePresent, else nil
}

// Equal reports whether both reads found the same thing.
func (c Cookie) Equal(d Cookie) bool {
	return c.State == d.State && string(c.Bytes) == string(d.Bytes)
}

// Tri is a fact that may not have been looked for.
type Tri uint8

const (
	NotTried Tri = 0
	No       Tri = 1
	Yes      Tri = 2
)

func (t Tri) String() string { return [...]string{"not_tried", "no", "yes"}[min(t, Yes)] }

// NotKnown marks a duration or a count that was not reached or not read.
const NotKnown = -1

// Evidence is everything one attempt showed. It holds facts only.
type Evidence struct {
	Kind   Kind
	Start  time.Time      // wall clock when the SYN was handed to the kernel
	Local  netip.AddrPort // as the kernel chose it; zero when it never did
	Remote netip.AddrPort

	// OptionKind is the TFO option the SYN carried: 0 (none), OptionKindTFO
	// or OptionKindExp. With Wire it was seen; else it is derived from the
	// kernel's rule for the order of kinds (tcp_fastopen_cookie_check).
	OptionKind uint8
	Offered    int // payload bytes offered to the kernel
	SynBytes   int // payload bytes the kernel put into the SYN
	SynAcked   int // of SynBytes, acknowledged by the SYN-ACK; NotKnown without a handshake

	End   End
	Errno string // symbolic name such as "ECONNREFUSED"; empty when there was no error

	ConnectNS   int64 // SYN to established, ns; NotKnown without a handshake
	FirstByteNS int64 // SYN to first response byte, ns; NotKnown without one
	TotalNS     int64 // SYN to the end of the attempt, ns

	SynRetransmits  int   // SYN timeouts (tcpi_total_rto at the handshake, or at the failure)
	DataRetransmits int   // retransmitted segments, those of the SYN not counted
	ClientFail      uint8 // tcpi_fastopen_client_fail at the handshake (include/uapi/linux/tcp.h)
	TCPIOptions     uint8 // tcpi_options at the handshake; 32 = SYN data acked

	InfoHandshake []byte // raw struct tcp_info at the handshake; nil without one
	InfoFinal     []byte // raw struct tcp_info at the end, or at the failure

	CookieCleared Tri // the cache entry was deleted before the attempt (Yes), refused (No)
	CookieBefore  Cookie
	CookieAfter   Cookie

	ResponseBytes int
	ResponseHash  uint64 // first 8 bytes of SHA-256 over the response read, big endian; 0 without one

	// Wire is what passed on the wire; nil when nothing was seen, and
	// WireAbsent then says why. No other fact depends on it but OptionKind.
	Wire       *Wire
	WireAbsent string
}
