package lab

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// clientFrame is a segment of a client, parsed.
func clientFrame(t testing.TB, v6 bool, flags byte, seq, ack uint32, opts, payload []byte) *frame {
	t.Helper()
	b := segment(t, v6, flags, opts, payload)
	var f frame
	if !f.parse(b) {
		t.Fatal("a frame of our own cannot be parsed")
	}
	binary.BigEndian.PutUint32(f.b[f.l4+4:], seq)
	binary.BigEndian.PutUint32(f.b[f.l4+8:], ack)
	f.dirty = true
	f.seal()
	return &f
}

// TestPeerFrames: what a peer sends is read back by gopacket, checksums
// included, over both families, with lists of options of every length.
func TestPeerFrames(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		f := clientFrame(t, v6, flagACK, 5, 7, nil, nil)
		for n := range maxTCPLen - tcpLen - 1 {
			s := peerSegment{flags: flagSYN | flagACK, seq: 1 << 31, ack: 3, payload: []byte("odd")[:n%4%3]}
			if n >= 2 {
				s.options = append([]byte{optTFO, byte(n)}, make([]byte, n-2)...)
			}
			b := appendSegment(nil, f, &s)
			tcp, payload := decoded(t, b)
			if tcp.Seq != s.seq || tcp.Ack != s.ack || !tcp.SYN || !tcp.ACK || !bytes.Equal(payload, s.payload) || tcp.SrcPort != 80 || tcp.DstPort != 40000 {
				t.Errorf("sent %+v, gopacket read %+v", s, tcp)
			}
			var g frame
			if !g.parse(b) || g.checksum() != 0 || g.src() != f.dst() || g.dst() != f.src() {
				t.Errorf("wrong frame %x", b)
			}
			if opt, _ := findTFO(g.options(), Kind34); n >= 2 && !bytes.Equal(opt, s.options) {
				t.Errorf("option %x came out as %x", s.options, opt)
			}
		}
	}
}

// TestPeerReassembles: a request in pieces, twice, too early, and with a FIN.
func TestPeerReassembles(t *testing.T) {
	const irs = 1<<32 - 20 // the sequence numbers wrap inside the request
	req := []byte("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
	type piece struct {
		from, to int
		fin      bool
	}
	for name, pieces := range map[string][]piece{
		"whole":          {{0, len(req), false}},
		"bytes":          {{0, 1, false}, {1, 2, false}, {2, len(req), false}},
		"twice":          {{0, 10, false}, {0, 10, false}, {10, len(req), false}},
		"overlapping":    {{0, 10, false}, {5, 20, false}, {8, len(req), false}},
		"a gap at first": {{10, 20, false}, {0, 10, false}, {10, len(req), false}},
		"with FIN":       {{0, 10, false}, {10, len(req), true}},
	} {
		q := &peer{irs: irs, iss: 100, sndNxt: 101, rcvNxt: irs + 1}
		var out []peerSegment
		for _, c := range pieces {
			flags := byte(flagACK)
			if c.fin {
				flags |= flagFIN
			}
			out = append(out, q.hear(clientFrame(t, false, flags, irs+1+uint32(c.from), 101, nil, req[c.from:c.to]))...)
		}
		var answers, fins int
		for _, s := range out {
			if len(s.payload) > 0 {
				answers++
			}
			if s.flags&flagFIN != 0 {
				fins++
			}
		}
		end := irs + 1 + uint32(len(req))
		if pieces[len(pieces)-1].fin {
			end++
		}
		if answers != 1 || fins != 1 || q.rcvNxt != end || !bytes.Equal(q.req, req) {
			t.Errorf("%s: %d answers, %d FINs, acknowledged up to %d of %d, request %q", name, answers, fins, q.rcvNxt-irs-1, end-irs-1, q.req)
		}
	}
}

// TestPeerRefuses: an acknowledgement of something never sent is answered by a
// reset, a reset by nothing.
func TestPeerRefuses(t *testing.T) {
	q := &peer{irs: 10, iss: 100, sndNxt: 101, rcvNxt: 11}
	for _, ack := range []uint32{100, 99, 102, 1 << 31} {
		out := q.hear(clientFrame(t, true, flagACK, 11, ack, nil, nil))
		if len(out) != 1 || out[0].flags != flagRST || out[0].seq != ack {
			t.Errorf("ack %d was answered by %+v", ack, out)
		}
	}
	if q.established {
		t.Error("established by acknowledgements of something never sent")
	}
	if out := q.hear(clientFrame(t, true, flagRST, 11, 0, nil, nil)); out != nil || !q.dead {
		t.Errorf("a reset was answered by %+v", out)
	}
}

// FuzzPeer feeds a peer whatever segments: it must not fail, must answer once
// at most, and must send nothing that cannot be.
func FuzzPeer(f *testing.F) {
	f.Add([]byte{flagACK, 1, 1, 4, 'H', 'E', 'A', 'D'}, false)
	f.Add([]byte{flagACK, 1, 1, 4, 'x', '\r', '\n', '\r', flagFIN | flagACK, 5, 1, 0}, true)
	f.Add([]byte{flagRST, 0, 0, 0, flagACK, 1, 1, 0}, false)
	f.Add([]byte{flagACK, 9, 1, 2, 'a', 'b', flagACK, 0, 200, 0}, true)
	f.Fuzz(func(t *testing.T, script []byte, v6 bool) {
		const irs, iss = 1<<32 - 8, 1<<32 - 3
		script = script[:min(len(script), 256)]
		for then := Respond; then <= ResetOnAck; then++ {
			q := &peer{irs: irs, iss: iss, sndNxt: iss + 1, rcvNxt: irs + 1, then: then}
			answers := 0
			for s := script; len(s) >= 4; {
				n := min(int(s[3]), len(s)-4)
				in := clientFrame(t, v6, s[0]&^flagSYN, irs+uint32(int8(s[1])), iss+uint32(int8(s[2])), nil, s[4:4+n])
				for _, out := range q.hear(in) {
					var g frame
					if !g.parse(appendSegment(nil, in, &out)) || g.checksum() != 0 {
						t.Fatalf("sent a wrong frame: %+v", out)
					}
					if len(out.payload) > 0 {
						answers++
					}
				}
				s = s[4+n:]
			}
			if answers > 1 {
				t.Fatalf("answered %d times", answers)
			}
			if len(q.req) > requestLength+255 {
				t.Fatalf("keeps %d bytes", len(q.req))
			}
		}
	})
}
