package tfo

import "encoding/binary"

// TCP option kinds (IANA registry "TCP Option Kind Numbers").
const (
	tcpOptEnd        = 0
	tcpOptNOP        = 1
	tcpOptMSS        = 2
	tcpOptWScale     = 3
	tcpOptSACK       = 4
	tcpOptTimestamps = 8

	maxTCPOptions = 40 // the data offset has four bits

	// expMagic follows kind 254 in a TFO option (RFC 7413, appendix A; IANA
	// registry "TCP Experimental Option Experiment Identifiers").
	expMagic = 0xF989
)

// FastOpenOption is the TFO option of one kind in one TCP header.
type FastOpenOption struct {
	// Count is how often the option was there; above 1 is a violation of
	// RFC 9293, section 3.1.
	Count uint8
	// Cookie is what the last of them carried, of any length the header can
	// hold: 0 (a request in a SYN, a mirrored request in a SYN-ACK) to 38.
	// The kernel believes only even lengths from 4 to 16. It aliases the
	// bytes decoded.
	Cookie []byte
}

// TCPOptions is what the options of a TCP header say.
type TCPOptions struct {
	TFO FastOpenOption // kind 34
	Exp FastOpenOption // kind 254 with the magic 0xF989; other experiments are not looked at
	// FastOpenKind is the kind of the last TFO option, OptionKindTFO or
	// OptionKindExp: the one the kernel takes when there are several. 0
	// without one.
	FastOpenKind uint8

	// Control: the option that an attempt of KindUnknown sent.
	Control bool

	MSS           uint16 // 0 without the option
	WindowScale   int8   // shift as sent, NotKnown without the option
	SACKPermitted bool
	Timestamps    bool
	TSVal, TSEcr  uint32 // zero without Timestamps

	// Malformed: an option had length 0 or 1, or reached past the end of the
	// header. What came before it is decoded, as the kernel does.
	Malformed bool
}

// FastOpen is the TFO option that counts; without one its Count is 0.
func (o *TCPOptions) FastOpen() FastOpenOption {
	switch o.FastOpenKind {
	case OptionKindTFO:
		return o.TFO
	case OptionKindExp:
		return o.Exp
	}
	return FastOpenOption{}
}

// DecodeTCPOptions decodes the options field of a TCP header, from byte 20 up
// to the data offset. It takes any bytes whatever, does not allocate, and
// follows tcp_parse_options (net/ipv4/tcp_input.c): it stops at the end marker
// and at the first option that cannot be, the last of several counts, and an
// option of a wrong length is not there. TFO options are the exception: they
// are reported whatever their length, for a strange one is what is looked for.
func DecodeTCPOptions(b []byte) TCPOptions {
	o := TCPOptions{WindowScale: NotKnown}
	b = b[:min(len(b), maxTCPOptions)]
	for len(b) > 0 {
		kind := b[0]
		if kind == tcpOptEnd {
			return o
		}
		if kind == tcpOptNOP {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			o.Malformed = true
			return o
		}
		n := int(b[1])
		body := b[2:n:n]
		b = b[n:]
		switch kind {
		case OptionKindTFO:
			o.TFO.Count++
			o.TFO.Cookie = body
			o.FastOpenKind = OptionKindTFO
		case OptionKindExp:
			if len(body) < 2 || binary.BigEndian.Uint16(body) != expMagic {
				continue
			}
			o.Exp.Count++
			o.Exp.Cookie = body[2:]
			o.FastOpenKind = OptionKindExp
		case controlKind:
			o.Control = o.Control || len(body) >= 2 && binary.BigEndian.Uint16(body) == controlMagic
		case tcpOptMSS:
			if len(body) == 2 {
				o.MSS = binary.BigEndian.Uint16(body)
			}
		case tcpOptWScale:
			if len(body) == 1 {
				o.WindowScale = int8(min(body[0], 127))
			}
		case tcpOptSACK:
			if len(body) == 0 {
				o.SACKPermitted = true
			}
		case tcpOptTimestamps:
			if len(body) == 8 {
				o.Timestamps = true
				o.TSVal, o.TSEcr = binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:])
			}
		}
	}
	return o
}
