package lab

import (
	"encoding/binary"
	"fmt"
)

// Actions on the rest of a SYN: what middleboxes do that is not about Fast
// Open.

const (
	optMSS        = 2
	optWScale     = 3
	optSACK       = 4
	optSACKBlocks = 5
	optTimestamps = 8

	flagECE = 0x40
	flagCWR = 0x80
)

// ClampMSS lowers the MSS that either end announces to n.
func ClampMSS(n uint16) Action {
	return edit(fmt.Sprintf("clamp the MSS to %d", n), func(p *passage) bool {
		for opts := p.options(); ; {
			opt, rest, ok := nextOption(opts)
			if !ok {
				return false
			}
			if len(opt) == 4 && opt[0] == optMSS && binary.BigEndian.Uint16(opt[2:]) > n {
				binary.BigEndian.PutUint16(opt[2:], n)
				p.dirty = true
				return true
			}
			opts = rest
		}
	})
}

// StripOptions removes every option of the kinds.
func StripOptions(kinds ...byte) Action {
	return edit(fmt.Sprintf("strip options of kind %d", kinds), func(p *passage) bool {
		dst, struck := p.scratch[:0], false
		for opts := p.options(); ; {
			opt, rest, ok := nextOption(opts)
			if !ok {
				break
			}
			opts = rest
			gone := false
			for _, k := range kinds {
				gone = gone || opt[0] == k
			}
			struck = struck || gone
			if !gone {
				dst = append(dst, opt...)
			}
		}
		return struck && p.setOptions(dst)
	})
}

// BleachECN takes the offer of ECN out of a handshake, and the mark out of the
// IP header.
var BleachECN = edit("bleach ECN", func(p *passage) bool {
	at := p.l4 + 13
	struck := p.flags()&flagSYN != 0 && p.flags()&(flagECE|flagCWR) != 0
	if struck {
		p.b[at] &^= flagECE | flagCWR
		p.dirty = true
	}
	if tos := p.tos(); tos&3 != 0 {
		p.setTOS(tos &^ 3)
		struck = true
	}
	return struck
})

// SetDSCP writes the differentiated services field.
func SetDSCP(v byte) Action {
	return edit(fmt.Sprintf("set the DSCP to %d", v), func(p *passage) bool {
		tos := p.tos()
		p.setTOS(v<<2 | tos&3)
		return tos>>2 != v
	})
}

// ShiftISN adds n to all sequence numbers of the client, as firewalls do that
// choose better ones. The rule must act on both directions.
func ShiftISN(n uint32) Action {
	return edit("rewrite the client's sequence numbers", func(p *passage) bool {
		p.dirty = true
		if p.dir == Forward {
			binary.BigEndian.PutUint32(p.b[p.l4+4:], p.seq()+n)
			return true
		}
		p.addAck(-n)
		for opts := p.options(); ; {
			opt, rest, ok := nextOption(opts)
			if !ok {
				return true
			}
			for i := 2; opt[0] == optSACKBlocks && i+4 <= len(opt); i += 4 {
				binary.BigEndian.PutUint32(opt[i:], binary.BigEndian.Uint32(opt[i:])-n)
			}
			opts = rest
		}
	})
}

// Translate gives the client one other address, as a NAT does, and each flow
// another port if ports is set. It acts on the first SYN of a flow.
func Translate(ports bool) Action {
	text := "translate the client's address"
	if ports {
		text += " and port"
	}
	return Action{text, func(p *passage) bool {
		if !p.opening {
			return false
		}
		p.flow.outside = poolAddr(int((flowKey{client: p.flow.client}).hash()%poolSize), p.v6)
		if ports {
			p.path.natPort++
			p.flow.outsidePort = natPorts + p.path.natPort%natPorts
		}
		return true
	}}
}

// natPorts is where the ports of [Translate] begin, and how many there are:
// none that the kernel chooses by itself (net.ipv4.ip_local_port_range).
const natPorts = 10_000

// tos is the type of service of the IP header, or the traffic class.
func (f *frame) tos() byte {
	if f.v6 {
		return byte(binary.BigEndian.Uint16(f.b[ethLen:]) >> 4)
	}
	return f.b[ethLen+1]
}

func (f *frame) setTOS(v byte) {
	word := binary.BigEndian.Uint16(f.b[ethLen:])
	if f.v6 {
		binary.BigEndian.PutUint16(f.b[ethLen:], word&0xf00f|uint16(v)<<4)
		return
	}
	now := word&0xff00 | uint16(v)
	adjust(f.b[ethLen+10:], word, now)
	binary.BigEndian.PutUint16(f.b[ethLen:], now)
}
