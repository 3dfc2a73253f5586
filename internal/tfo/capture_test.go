package tfo

import (
	"net/netip"
	"testing"
	"time"
)

// ringless is a capture that gets its packets from the test.
func ringless() *capture {
	return &capture{flows: make(map[flowKey]*observed), strays: make([]*observed, maxStrays)}
}

func (c *capture) leaves(link int32, b []byte) {
	c.take(&frame{data: b, length: len(b), link: link, outgoing: true, time: time.Unix(1, 0)})
}

func (c *capture) arrives(link int32, b []byte) {
	c.take(&frame{data: b, length: len(b), link: link, time: time.Unix(2, 0)})
}

var us, them = port(us4, 1000), port(them4, 80)

func synFrom(from netip.AddrPort, seq uint32) []byte {
	return seg(from, them, seq, 0, flagSYN, tfo34(), 0)
}

func answerTo(to netip.AddrPort, ack uint32) []byte {
	return seg(them, to, irs, ack, flagSYN|flagACK, nil, 0)
}

func TestCaptureMatches(t *testing.T) {
	other := port(us4, 1001)
	tests := []struct {
		name    string
		packets func(c *capture)
		syns    int
		synAcks int
		kept    int
	}{
		{"SYN and SYN-ACK", func(c *capture) { c.leaves(1, synFrom(us, isn)); c.arrives(1, answerTo(us, isn+1)) }, 1, 1, 2},
		{"loopback: the SYN comes back in, the SYN-ACK leaves first", func(c *capture) {
			c.leaves(1, synFrom(us, isn))
			c.arrives(1, synFrom(us, isn))
			c.leaves(1, answerTo(us, isn+1))
			c.arrives(1, answerTo(us, isn+1))
		}, 1, 1, 2},
		{"two links on the way: a VLAN on a bond", func(c *capture) {
			c.leaves(3, synFrom(us, isn))
			c.leaves(2, synFrom(us, isn))
			c.arrives(2, answerTo(us, isn+1))
			c.arrives(3, answerTo(us, isn+1))
		}, 1, 1, 2},
		{"another route back", func(c *capture) { c.leaves(3, synFrom(us, isn)); c.arrives(4, answerTo(us, isn+1)) }, 1, 1, 2},
		{"another connection", func(c *capture) { c.leaves(1, synFrom(other, isn)); c.arrives(1, answerTo(other, isn+1)) }, 0, 0, 0},
		{"an old connection of the same ports", func(c *capture) {
			c.leaves(1, synFrom(us, isn+0x1000000))
			c.arrives(1, answerTo(us, isn+0x1000001))
			c.leaves(1, synFrom(us, isn))
		}, 1, 0, 1},
		{"ICMP about it", func(c *capture) {
			c.leaves(1, synFrom(us, isn))
			c.arrives(1, icmpError(router4, us4, 3, 1, synFrom(us, isn)))
		}, 1, 0, 2},
		{"ICMP about another", func(c *capture) {
			c.leaves(1, synFrom(us, isn))
			c.arrives(1, icmpError(router4, us4, 3, 1, synFrom(other, isn)))
		}, 1, 0, 1},
		{"more than is kept", func(c *capture) {
			for range 20 {
				c.leaves(1, synFrom(us, isn))
			}
		}, 20, 0, maxPackets},
	}
	for _, tt := range tests {
		for _, early := range []bool{true, false} {
			name := tt.name + ", claimed after"
			if early {
				name = tt.name + ", claimed before"
			}
			t.Run(name, func(t *testing.T) {
				c := ringless()
				var o *observed
				if early {
					o = c.claim(us, them)
				}
				tt.packets(c)
				if !early {
					o = c.claim(us, them)
				}
				w, absent := c.settle(o, EndTimeout)
				if tt.syns == 0 {
					if w != nil || absent != WireUnseen {
						t.Errorf("got %+v, %q", w, absent)
					}
					return
				}
				if absent != "" || w.Syns != tt.syns || w.SynAcks != tt.synAcks || len(w.Packets) != tt.kept {
					t.Errorf("got %+v, %q", w, absent)
				}
				if c.flows[o.key] != nil {
					t.Error("not forgotten")
				}
			})
		}
	}
}

func TestCaptureForgetsStrays(t *testing.T) {
	c := ringless()
	mine := c.claim(us, them)
	early := port(us4, 2000)
	c.leaves(1, synFrom(early, isn))
	kept := c.claim(early, them)
	for p := range 60000 {
		c.leaves(1, seg(port(us4, uint16(p+3000)), port(them4, 443), isn, 0, flagSYN, nil, 0))
	}
	c.leaves(1, synFrom(us, isn))
	if n := len(c.flows); n != maxStrays+2 {
		t.Errorf("%d connections are watched, want %d", n, maxStrays+2)
	}
	for _, o := range []*observed{mine, kept} {
		if w, absent := c.settle(o, EndTimeout); w == nil || w.Syns != 1 {
			t.Errorf("port %d: got %+v, %q", o.key.localPort, w, absent)
		}
	}
	if n := len(c.flows); n != maxStrays {
		t.Errorf("%d connections are watched, want %d", n, maxStrays)
	}
}

func TestCaptureLoss(t *testing.T) {
	c := ringless()
	seen, unseen := c.claim(us, them), c.claim(port(us4, 1001), them)
	c.leaves(1, synFrom(us, isn))
	c.drops += 3
	after := c.claim(port(us4, 1002), them)
	c.leaves(1, synFrom(port(us4, 1002), isn))
	if w, _ := c.settle(seen, EndTimeout); w == nil || !w.Incomplete {
		t.Errorf("seen in part: %+v", w)
	}
	if w, absent := c.settle(unseen, EndTimeout); w != nil || absent != WireDropped {
		t.Errorf("not seen: %+v, %q", w, absent)
	}
	if w, _ := c.settle(after, EndTimeout); w == nil || w.Incomplete {
		t.Errorf("begun after the loss: %+v", w)
	}
}

func TestCaptureAbsent(t *testing.T) {
	off := openCapture(CaptureOff, "")
	if w, absent := off.settle(off.claim(us, them), EndResponse); w != nil || absent != WireOff {
		t.Errorf("off: %+v, %q", w, absent)
	}
	if ms := off.waitMS(-1); ms != -1 {
		t.Errorf("a loop without capture wakes after %d ms", ms)
	}
	if st := off.stats(); st.Absent != WireOff {
		t.Errorf("stats %+v", st)
	}
	off.idle()
	off.close()
	if w, absent := ringless().settle(nil, EndLocal); w != nil || absent != WireNothing {
		t.Errorf("no SYN: %+v, %q", w, absent)
	}
}

// BenchmarkCapture is what one attempt costs outside the kernel.
func BenchmarkCapture(b *testing.B) {
	c := ringless()
	out, in := synPacket(), answerTo(us, 8)
	b.ReportAllocs()
	for b.Loop() {
		o := c.claim(us, them)
		c.leaves(1, out)
		c.arrives(1, in)
		if w, _ := c.settle(o, EndResponse); w == nil || w.SynAcks != 1 {
			b.Fatalf("%+v", w)
		}
	}
}
