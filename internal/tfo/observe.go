package tfo

import "net/netip"

// wireWindow is how far from the expected sequence number one may lie and still
// belong to the attempt: more than any receive window in use, and little enough
// that a stale connection of the same ports is caught 255 times of 256.
const wireWindow = 1 << 24

// sawSYN takes a SYN of the attempt that left this machine. All of them have
// the sequence number of the first. The bytes of p go with it.
func (w *Wire) sawSYN(p *packet) {
	w.Syns++
	if w.Syns == 1 {
		w.Syn = p.segmentFacts()
		return
	}
	o := DecodeTCPOptions(p.options)
	if p.payload > 0 || o.FastOpenKind != 0 {
		w.RetransmitsBare = No
	} else if w.RetransmitsBare == NotTried {
		w.RetransmitsBare = Yes
	}
}

// sawAnswer takes a packet that came in with the addresses and ports of the
// attempt, and reports whether it is an answer to it by its sequence numbers.
// The bytes of p then go with it.
func (w *Wire) sawAnswer(p *packet) bool {
	first := w.Syn.Seq + 1 // of the payload
	switch {
	case w.Syns == 0:
		return false
	case p.icmp:
		if p.seq-w.Syn.Seq >= wireWindow {
			return false
		}
		w.ICMPErrors++
		if w.ICMPErrors == 1 {
			w.ICMPType, w.ICMPCode = p.icmpType, p.icmpCode
			w.ICMPFrom = netip.AddrFrom16(p.icmpFrom).Unmap()
		}
		return true
	case p.flags&flagRST != 0:
		after := w.taken()
		if after {
			if p.seq-(w.SynAck.Seq+1) >= wireWindow {
				return false
			}
		} else if p.flags&flagACK == 0 || p.ack-first > uint32(w.Syn.Payload) {
			return false // the kernel does not believe it either
		}
		w.Resets++
		if w.Resets == 1 {
			w.ResetTTL, w.ResetHandshake = p.ttl, after
		}
		return true
	}
	// A SYN-ACK. Over-acknowledged bytes are limited by the length of a packet,
	// or any stale number would pass for one.
	acked := p.ack - first
	if acked > 0xffff {
		return false
	}
	over := int(acked) > w.Syn.Payload
	w.OverAcked = w.OverAcked || over
	w.SynAcks++
	if w.SynAcks == 1 || !over && !w.taken() {
		w.SynAck, w.Acked, w.AfterSyns = p.segmentFacts(), int(acked), w.Syns
	}
	return true
}

// taken reports whether a SYN-ACK came that the kernel could take.
func (w *Wire) taken() bool { return w.SynAcks > 0 && w.Acked <= w.Syn.Payload }
