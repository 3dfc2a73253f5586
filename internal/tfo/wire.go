package tfo

import (
	"fmt"
	"net/netip"
	"time"
)

// Reasons there are no facts from the wire, beside "not captured: " with an
// errno. They are stored in datasets: change none.
const (
	WireOff       = "not captured: off"
	WireNoRight   = "not captured: no CAP_NET_RAW"
	WireNoSupport = "not captured: no AF_PACKET"
	WireNothing   = "no SYN sent"
	WireDropped   = "ring dropped packets"
	// WireUnseen: the capture works and lost nothing, and no SYN of the
	// attempt left the machine under its own address. A local firewall dropped
	// it, or a local address translation rewrote it.
	WireUnseen = "SYN not seen"
)

// Wire is what passed on the wire during one attempt, as a packet socket on
// this machine saw it: the SYN as it left, the answers as they came. Answers
// are taken for the attempt's own only when their sequence numbers are.
type Wire struct {
	Syns int     // SYNs that left, the first one included
	Syn  Segment // the first of them
	// RetransmitsBare: the SYNs after the first carried no TFO option and no
	// data. NotTried when there was only one.
	RetransmitsBare Tri

	SynAcks int // SYN-ACKs that came
	// SynAck is the first that the kernel could take, or simply the first when
	// it could take none (see OverAcked). Zero without a SYN-ACK.
	SynAck Segment
	// Acked is how many payload bytes SynAck acknowledges; more than
	// Syn.Payload when it was over-acknowledged. NotKnown without a SYN-ACK.
	Acked int
	// AfterSyns is how many SYNs had left when SynAck came: above 1, it answers
	// a retransmission or is one itself.
	AfterSyns int
	// OverAcked: a SYN-ACK acknowledged more than was sent. The kernel resets
	// such a peer and goes on waiting (RFC 9293, section 3.10.7.3).
	OverAcked bool

	Resets         int   // RSTs that came
	ResetTTL       uint8 // TTL or hop limit of the first; other than that of SynAck, somebody else sent it
	ResetHandshake bool  // the first came after a SYN-ACK

	ICMPErrors int // ICMP errors that came and quote a segment of the attempt
	ICMPType   uint8
	ICMPCode   uint8
	ICMPFrom   netip.Addr // of the first error, as type and code are

	// Incomplete: the ring dropped packets while the attempt ran. What is not
	// here may have been.
	Incomplete bool

	// Packets are the headers of the packets above, in the order seen, the
	// first 8. They stay in the process that saw them: neither the wire
	// contract nor a dataset has them.
	Packets []Packet
}

// Segment is a SYN or a SYN-ACK: its headers, and what they say.
type Segment struct {
	Raw []byte // IP and TCP header, options included, at most 160 bytes

	Seq     uint32
	TTL     uint8 // or hop limit
	Payload int   // bytes, by the length in the IP header

	// OptionKind is the kind of its last TFO option, 0 without one.
	OptionKind uint8
	// Cookie is what that option carried, of any length; nil when it was empty
	// (a cookie request, and in a SYN-ACK a mirrored one) or not there.
	Cookie []byte
	// BothKinds: it carried TFO options of kind 34 and of kind 254.
	BothKinds bool
	// Repeated: it carried one kind of TFO option more than once.
	Repeated bool
	// Control: it carried the option that an attempt of KindUnknown sends.
	Control bool
	// Malformed: its options end in one that cannot be.
	Malformed bool

	MSS           uint16 // 0 without the option
	WindowScale   int8   // NotKnown without the option
	SACKPermitted bool
	Timestamps    bool
	TSVal, TSEcr  uint32
}

// ParseSegment reads a Segment again from its Raw bytes, which it takes over.
// The error says that they are something else; without any bytes there is no
// segment, and the result is the zero Segment.
func ParseSegment(raw []byte) (Segment, error) {
	var p packet
	if len(raw) == 0 {
		return Segment{}, nil
	}
	if len(raw) > snapLen || !decodePacket(raw, &p) || p.icmp || len(p.headers) != len(raw) {
		return Segment{}, fmt.Errorf("%d bytes that are not the headers of a TCP segment", len(raw))
	}
	return p.segmentFacts(), nil
}

// segmentFacts shares the bytes of the packet.
func (p *packet) segmentFacts() Segment {
	o := DecodeTCPOptions(p.options)
	s := Segment{
		Raw: p.headers, Seq: p.seq, TTL: p.ttl, Payload: p.payload,
		OptionKind: o.FastOpenKind,
		BothKinds:  o.TFO.Count > 0 && o.Exp.Count > 0,
		Repeated:   o.TFO.Count > 1 || o.Exp.Count > 1,
		Control:    o.Control,
		Malformed:  o.Malformed,
		MSS:        o.MSS, WindowScale: o.WindowScale, SACKPermitted: o.SACKPermitted,
		Timestamps: o.Timestamps, TSVal: o.TSVal, TSEcr: o.TSEcr,
	}
	if c := o.FastOpen().Cookie; len(c) > 0 {
		s.Cookie = c
	}
	return s
}

// Mirrored reports whether a SYN-ACK carried an empty TFO option. No server
// has a reason to (RFC 7413, section 4.1.2); something on the way, or a stack
// that does so with every option, returned the one of the SYN.
func (s *Segment) Mirrored() bool { return s.OptionKind != 0 && len(s.Cookie) == 0 }

// CookieUsable reports whether the kernel can take the cookie: its length is
// even and from 4 to 16 (RFC 7413, section 4.1.1).
func (s *Segment) CookieUsable() bool {
	n := len(s.Cookie)
	return n >= 4 && n <= 16 && n%2 == 0
}

// Packet is the start of a captured packet.
type Packet struct {
	Time   time.Time // by the kernel's clock
	Length int       // on the wire, from the IP header on
	Data   []byte    // the IP and TCP headers; of ICMP what was captured, at most 160 bytes
}

const (
	// snapLen holds an IPv6 header, some extension headers and the longest TCP
	// header.
	snapLen = 160
	// maxPackets bounds the packets kept of one attempt.
	maxPackets = 8
)
