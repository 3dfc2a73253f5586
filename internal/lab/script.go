package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// A scripted peer is a TCP endpoint of the lab's own making. It stands where
// the servers stand, behind every rule, and answers a SYN in ways that no Linux
// listener does: it acknowledges part of the data or more than there was,
// answers in the SYN-ACK, grants cookies of any length or of both kinds, or
// takes whatever cookie it is shown. Its script is the path's own rules:
//
//	Script(
//		Rule{On: Forward, If: SYN.And(Data).And(Echo(Kind34, 8)), Do: AnswerSYN(SynAck{Ack: AckFirst(20)})},
//		Rule{On: Forward, If: SYN.And(Option(Kind34)), Do: AnswerSYN(SynAck{Options: []Opt{Grant(Kind34, 8)}})},
//		Rule{On: Forward, If: SYN, Do: AnswerSYN(SynAck{})},
//	)
//
// The first line that answers a SYN decides, so [Counters.Rules] says how often
// the peer played each. What it sends comes back through the path: rules for
// [Return] see it as they see a server's frames. After the handshake it takes a
// request, responds like a server with [HTTP] and closes. It sends nothing
// twice of its own accord: put no loss behind the handshake.

// Script is the rules of a path whose server is scripted: the lines that
// answer SYNs, and the rest of the conversation. SYNs that no line answers go
// on to the path's real server.
func Script(lines ...Rule) []Rule { return append(lines, Rule{On: Forward, Do: Converse}) }

// SynAck is a scripted answer to a SYN. The zero value is that of a server
// without TFO.
type SynAck struct {
	Ack     Ack   // the zero Ack is AckSYN
	Options []Opt // behind the MSS
	Then    Then
}

func (s SynAck) String() string {
	parts := []string{"acknowledge " + s.Ack.String()}
	for _, o := range s.Options {
		parts = append(parts, o.text)
	}
	if s.Then != Respond {
		parts = append(parts, s.Then.String())
	}
	return strings.Join(parts, ", ")
}

// Ack says how much of the data that came in a flow's SYNs is acknowledged.
type Ack struct {
	text string
	of   func(n int) int
}

func (a Ack) String() string {
	if a.of == nil {
		return AckSYN.text
	}
	return a.text
}

func (a Ack) bytes(n int) int {
	if a.of == nil {
		return 0
	}
	return a.of(n)
}

var (
	AckSYN = Ack{"the SYN only", func(int) int { return 0 }}
	AckAll = Ack{"all data", func(n int) int { return n }}
)

// AckFirst acknowledges the first k bytes at most, AckAllBut leaves out the
// last k, AckBeyond acknowledges k bytes that were never sent.
func AckFirst(k int) Ack {
	return Ack{fmt.Sprintf("%d bytes of data", k), func(n int) int { return min(n, k) }}
}

func AckAllBut(k int) Ack {
	return Ack{fmt.Sprintf("all data but %d bytes", k), func(n int) int { return max(0, n-k) }}
}

func AckBeyond(k int) Ack {
	return Ack{fmt.Sprintf("%d bytes more than all data", k), func(n int) int { return n + k }}
}

// Opt is an option of a scripted SYN-ACK. What does not fit into the header is
// left out.
type Opt struct {
	text string
	add  func(dst []byte, p *passage) []byte
}

// Grant is a TFO option with the peer's cookie of n bytes for this client; 0
// for an option without one.
func Grant(kind Kinds, n int) Opt {
	return Opt{fmt.Sprintf("option %s with a cookie of %d bytes", kind, n), func(dst []byte, p *passage) []byte {
		return appendTFO(dst, kind, p.peerCookie(kind, n))
	}}
}

// MirrorUnknown copies every option of the SYN but MSS, window scale, SACK and
// timestamps.
var MirrorUnknown = Opt{"all unknown options of the SYN", func(dst []byte, p *passage) []byte {
	for opts := p.options(); ; {
		opt, rest, ok := nextOption(opts)
		if !ok {
			return dst
		}
		if !bytes.Contains([]byte{optNOP, 2, 3, 4, 5, 8}, opt[:1]) {
			dst = append(dst, opt...)
		}
		opts = rest
	}
}}

// Then is what a scripted peer does after its SYN-ACK. It responds once the
// request is whole, which it may be with the SYN.
type Then uint8

const (
	Respond            Then = iota // response and FIN in one segment
	RespondInSynAck                // response in the SYN-ACK itself, FIN after the handshake
	RespondAllInSynAck             // response and FIN in the SYN-ACK itself
	RespondAndReset                // response, and a reset right behind it in place of FIN
	ResetAtOnce                    // reset right behind the SYN-ACK
	ResetOnAck                     // reset in answer to the client's next segment
)

func (t Then) String() string {
	return [...]string{"respond", "respond in the SYN-ACK", "respond and close in the SYN-ACK", "respond and reset", "reset at once", "reset after the handshake"}[t]
}

// Echo matches a SYN that brings back the cookie that [Grant] gives to this
// client.
func Echo(kind Kinds, n int) Match {
	return Match{fmt.Sprintf("echo %s of %d bytes", kind, n), func(p *passage) bool {
		opt, k := findTFO(p.options(), kind)
		return opt != nil && n > 0 && bytes.Equal(cookieOf(opt, k), p.peerCookie(kind, n))
	}}
}

// peerCookie depends on the addresses and the kind, as a server's depends on
// the addresses and its key.
func (p *passage) peerCookie(kind Kinds, n int) []byte {
	k := flowKey{client: p.flow.outside, server: p.flow.forward.server, serverPort: uint16(kind)}
	var b []byte
	for len(b) < n {
		b = binary.BigEndian.AppendUint64(b, k.hash())
		k.clientPort++
	}
	return b[:n]
}

// AnswerSYN answers a SYN in the server's place. The frame goes no further.
func AnswerSYN(say SynAck) Action {
	return Action{"answer: " + say.String(), func(p *passage) bool {
		if !p.isSYN() {
			return false
		}
		q := p.peer()
		p.play(q.answer(p, say))
		return true
	}}
}

// Hear takes a SYN and its data in and stays silent. An [AnswerSYN] to a later
// SYN of the flow may acknowledge that data.
var Hear = Action{"hear, stay silent", func(p *passage) bool {
	if !p.isSYN() {
		return false
	}
	p.peer()
	p.play(nil)
	return true
}}

// Converse carries on the conversation of a flow whose SYN was answered by
// [AnswerSYN]. Other frames pass.
var Converse = Action{"converse", func(p *passage) bool {
	if p.flow.peer == nil || p.isSYN() {
		return false
	}
	p.play(p.flow.peer.hear(&p.frame))
	return true
}}

// peer returns the flow's scripted peer, made anew for a SYN that begins a
// connection, and gives it the SYN's data.
func (p *passage) peer() *peer {
	q := p.flow.peer
	if q == nil || q.irs != p.seq() || q.dead {
		q = &peer{irs: p.seq(), iss: uint32(p.flow.forward.hash()) ^ p.seq()}
		p.flow.peer = q
	}
	if d := p.payload(); len(d) > 0 {
		q.syn = bytes.Clone(d)
	}
	return q
}

// play ends the frame's way and sends the peer's segments back on theirs, as
// if they came from the servers' side.
func (p *passage) play(segments []peerSegment) {
	p.lost = true
	p.flow.sawFlags(Forward, p.flags())
	p.box.leave() // the frame as the server would see it
	heard := *p
	for i := range segments {
		p.box.take(appendSegment(nil, &heard.frame, &segments[i]), serversPort)
	}
	*p = heard
}
