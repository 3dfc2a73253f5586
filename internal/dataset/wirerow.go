package dataset

import (
	"fmt"

	"tfofleet/internal/tfo"
)

// The columns wire_* of an attempt are what a packet socket saw. All of them
// are null when nothing was seen. What SYN and SYN-ACK say is in their headers;
// what queries ask for has columns of its own as well.

// wireCells is the memory behind the pointers of these columns.
type wireCells struct {
	syns, synAcks, synAckKind, acked, after, resets, resetTTL, icmpErrors, icmpType, icmpCode int32
}

func (r *attemptRow) fillWire(w *tfo.Wire, c *wireCells) {
	if w == nil {
		r.WireSyns, r.WireSyn, r.WireRetransmitsBare = nil, nil, ""
		r.WireSynAcks, r.WireSynAck, r.WireSynAckOptionKind, r.WireSynAckCookie = nil, nil, nil, nil
		r.WireAckedBytes, r.WireAfterSyns, r.WireOverAcked = nil, nil, ""
		r.WireResets, r.WireResetTTL, r.WireResetHandshake = nil, nil, ""
		r.WireICMPErrors, r.WireICMPType, r.WireICMPCode, r.WireICMPFrom, r.WireIncomplete = nil, nil, nil, "", ""
		return
	}
	r.WireSyns = cell(&c.syns, int32(w.Syns), true)
	r.WireSyn = w.Syn.Raw
	r.WireRetransmitsBare = tris.name(w.RetransmitsBare)
	r.WireSynAcks = cell(&c.synAcks, int32(w.SynAcks), true)
	r.WireSynAck = w.SynAck.Raw
	r.WireSynAckOptionKind = cell(&c.synAckKind, int32(w.SynAck.OptionKind), w.SynAck.Raw != nil)
	r.WireSynAckCookie = w.SynAck.Cookie
	r.WireAckedBytes = cell(&c.acked, int32(w.Acked), w.Acked >= 0)
	r.WireAfterSyns = cell(&c.after, int32(w.AfterSyns), w.AfterSyns != 0)
	r.WireOverAcked = yesNo(w.OverAcked)
	r.WireResets = cell(&c.resets, int32(w.Resets), true)
	r.WireResetTTL = cell(&c.resetTTL, int32(w.ResetTTL), w.Resets > 0)
	r.WireResetHandshake = ""
	if w.Resets > 0 {
		r.WireResetHandshake = yesNo(w.ResetHandshake)
	}
	r.WireICMPErrors = cell(&c.icmpErrors, int32(w.ICMPErrors), true)
	r.WireICMPType = cell(&c.icmpType, int32(w.ICMPType), w.ICMPErrors > 0)
	r.WireICMPCode = cell(&c.icmpCode, int32(w.ICMPCode), w.ICMPErrors > 0)
	r.WireICMPFrom = addrText(w.ICMPFrom)
	r.WireIncomplete = yesNo(w.Incomplete)
}

// wire is the inverse of fillWire.
func (r *attemptRow) wire(p *parser) *tfo.Wire {
	if r.WireSyns == nil {
		return nil
	}
	return &tfo.Wire{
		Syns:            int(*r.WireSyns),
		Syn:             p.segment("wire_syn", r.WireSyn),
		RetransmitsBare: parse(p, tris, "wire_retransmits_bare", r.WireRetransmitsBare),
		SynAcks:         int(or(r.WireSynAcks, 0)),
		SynAck:          p.segment("wire_syn_ack", r.WireSynAck),
		Acked:           int(or(r.WireAckedBytes, tfo.NotKnown)),
		AfterSyns:       int(or(r.WireAfterSyns, 0)),
		OverAcked:       r.WireOverAcked == "yes",
		Resets:          int(or(r.WireResets, 0)),
		ResetTTL:        uint8(or(r.WireResetTTL, 0)),
		ResetHandshake:  r.WireResetHandshake == "yes",
		ICMPErrors:      int(or(r.WireICMPErrors, 0)),
		ICMPType:        uint8(or(r.WireICMPType, 0)),
		ICMPCode:        uint8(or(r.WireICMPCode, 0)),
		ICMPFrom:        p.addr("wire_icmp_from", r.WireICMPFrom),
		Incomplete:      r.WireIncomplete == "yes",
	}
}

func (p *parser) segment(column string, raw []byte) tfo.Segment {
	s, err := tfo.ParseSegment(raw)
	if err != nil {
		p.fail(fmt.Errorf("%s: %w", column, err))
	}
	return s
}

func yesNo(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}

func (r *attemptRow) eachWire(f fields) {
	f.optional32("wire_syns", r.WireSyns)
	f.base64("wire_syn", r.WireSyn)
	f.text("wire_retransmits_bare", r.WireRetransmitsBare)
	f.optional32("wire_syn_acks", r.WireSynAcks)
	f.base64("wire_syn_ack", r.WireSynAck)
	f.optional32("wire_syn_ack_option_kind", r.WireSynAckOptionKind)
	f.hex("wire_syn_ack_cookie", r.WireSynAckCookie)
	f.optional32("wire_acked_bytes", r.WireAckedBytes)
	f.optional32("wire_after_syns", r.WireAfterSyns)
	f.text("wire_over_acked", r.WireOverAcked)
	f.optional32("wire_resets", r.WireResets)
	f.optional32("wire_reset_ttl", r.WireResetTTL)
	f.text("wire_reset_handshake", r.WireResetHandshake)
	f.optional32("wire_icmp_errors", r.WireICMPErrors)
	f.optional32("wire_icmp_type", r.WireICMPType)
	f.optional32("wire_icmp_code", r.WireICMPCode)
	f.text("wire_icmp_from", r.WireICMPFrom)
	f.text("wire_incomplete", r.WireIncomplete)
}
