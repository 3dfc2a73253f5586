package lab

import "encoding/binary"

// peerWindow is the window a scripted peer announces, unscaled: more than any
// request.
const peerWindow = 65535

// peer is one connection of a scripted peer: as much of RFC 9293 as a client
// that asks once needs.
type peer struct {
	iss, irs       uint32 // initial sequence numbers, ours and the client's
	sndNxt, rcvNxt uint32
	syn            []byte // data of the client's SYN
	req            []byte // of the request, what came so far
	then           Then

	established bool
	responded   bool
	finished    bool // FIN sent
	dead        bool // reset by either side
}

// peerSegment is what a peer sends.
type peerSegment struct {
	flags    byte
	seq, ack uint32
	options  []byte
	payload  []byte
}

// answer begins the connection, or begins it again: a client that repeats its
// SYN has not seen the SYN-ACK.
func (q *peer) answer(p *passage, say SynAck) []peerSegment {
	if q.established {
		return nil // a late duplicate
	}
	n := say.Ack.bytes(len(q.syn))
	*q = peer{irs: q.irs, iss: q.iss, syn: q.syn, then: say.Then}
	q.rcvNxt = q.irs + 1 + uint32(n)
	q.req = append(q.req, q.syn[:min(n, len(q.syn))]...)
	s := peerSegment{flags: flagSYN | flagACK, seq: q.iss, ack: q.rcvNxt, options: synAckOptions(p, say.Options)}
	q.sndNxt = q.iss + 1
	switch say.Then {
	case ResetAtOnce:
		return []peerSegment{s, q.reset()}
	case ResetOnAck:
		return []peerSegment{s}
	case RespondInSynAck, RespondAllInSynAck:
		s.payload = q.response()
		if s.payload != nil && say.Then == RespondAllInSynAck {
			s.flags |= flagFIN
			q.finished = true
			q.sndNxt++
		}
		return []peerSegment{s}
	}
	return append([]peerSegment{s}, q.respond()...)
}

// synAckOptions is the MSS and the script's options.
func synAckOptions(p *passage, opts []Opt) []byte {
	mss := uint16(linkMTU - ipv4Len - tcpLen)
	if p.v6 {
		mss = linkMTU - ipv6Len - tcpLen
	}
	b := binary.BigEndian.AppendUint16([]byte{2, 4}, mss)
	for _, o := range opts {
		if with := o.add(b[:len(b):len(b)], p); len(with) <= maxTCPLen-tcpLen {
			b = with
		}
	}
	return b
}

// hear takes a segment of the client's in and says what goes back.
func (q *peer) hear(f *frame) []peerSegment {
	flags := f.flags()
	switch {
	case flags&flagRST != 0:
		q.dead = true
		return nil
	case q.dead || flags&flagACK == 0:
		return nil
	}
	if got := f.ack() - q.iss; got == 0 || got > q.sndNxt-q.iss {
		return []peerSegment{{flags: flagRST, seq: f.ack()}} // of something never sent (section 3.10.7.4)
	}
	q.established = true
	if q.then == ResetOnAck {
		return []peerSegment{q.reset()}
	}
	news := q.receive(f)
	if len(q.req) > requestLength {
		return []peerSegment{q.reset()}
	}
	out := q.respond()
	if flags&flagFIN != 0 || q.responded {
		out = append(out, q.finish()...)
	}
	if len(out) == 0 && news {
		out = append(out, peerSegment{flags: flagACK, seq: q.sndNxt, ack: q.rcvNxt})
	}
	return out
}

// receive takes over what is in order of a segment's data and FIN. It reports
// whether the segment asks for an acknowledgement.
func (q *peer) receive(f *frame) bool {
	data, fin := f.payload(), f.flags()&flagFIN != 0
	if len(data) == 0 && !fin {
		return false
	}
	known := int(int32(q.rcvNxt - f.seq()))
	if known < 0 || known > len(data) {
		return true // a gap, or all of it known, FIN included
	}
	q.req = append(q.req, data[known:]...)
	q.rcvNxt += uint32(len(data) - known)
	if fin {
		q.rcvNxt++
	}
	return true
}

// response is what there is to say to the request, once.
func (q *peer) response() []byte {
	if q.responded || len(q.req) == 0 {
		return nil
	}
	answer, _, over := reply(HTTP, q.req, nil)
	if !over {
		return nil
	}
	q.responded = true
	q.sndNxt += uint32(len(answer))
	return answer
}

// respond sends the response and closes.
func (q *peer) respond() []peerSegment {
	seq := q.sndNxt
	answer := q.response()
	if answer == nil {
		return nil
	}
	if q.then == RespondAndReset {
		return []peerSegment{{flags: flagPSH | flagACK, seq: seq, ack: q.rcvNxt, payload: answer}, q.reset()}
	}
	q.finished = true
	q.sndNxt++
	return []peerSegment{{flags: flagPSH | flagACK | flagFIN, seq: seq, ack: q.rcvNxt, payload: answer}}
}

// finish closes what is still open.
func (q *peer) finish() []peerSegment {
	if q.finished {
		return nil
	}
	q.finished = true
	q.sndNxt++
	return []peerSegment{{flags: flagACK | flagFIN, seq: q.sndNxt - 1, ack: q.rcvNxt}}
}

func (q *peer) reset() peerSegment {
	q.dead = true
	return peerSegment{flags: flagRST | flagACK, seq: q.sndNxt, ack: q.rcvNxt}
}

// appendSegment appends the frame that carries s to the sender of f.
func appendSegment(dst []byte, f *frame, s *peerSegment) []byte {
	options := (len(s.options) + 3) &^ 3
	if dst == nil {
		// With room for the rules of the way back to grow it.
		dst = make([]byte, 0, ethLen+ipv6Len+maxTCPLen+len(s.payload)+maxTCPLen)
	}
	dst = append(dst, f.b[6:12]...)
	dst = append(dst, f.b[0:6]...)
	dst = append(dst, f.b[12:14]...)
	dst = appendIP(dst, f.v6, f.dst(), f.src(), protoTCP, tcpLen+options+len(s.payload))
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, f.dstPort())
	dst = binary.BigEndian.AppendUint16(dst, f.srcPort())
	dst = binary.BigEndian.AppendUint32(dst, s.seq)
	dst = binary.BigEndian.AppendUint32(dst, s.ack)
	dst = append(dst, byte((tcpLen+options)/4)<<4, s.flags)
	dst = binary.BigEndian.AppendUint16(dst, peerWindow)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, s.options...)
	for range options - len(s.options) {
		dst = append(dst, optEnd)
	}
	dst = append(dst, s.payload...)
	binary.BigEndian.PutUint16(dst[at+16:], l4Checksum(dst, f.v6, at, protoTCP))
	return dst
}
