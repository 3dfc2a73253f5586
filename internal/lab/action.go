package lab

import (
	"fmt"
	"time"
)

// Action is what a rule does to a frame. It reports whether it struck: a rule
// that strips an option from a frame without one did not, and is not counted.
type Action struct {
	text string
	do   func(*passage) bool
}

func (a Action) String() string { return a.text }

// Drop loses the frame.
var Drop = Action{"drop", func(p *passage) bool {
	p.lost = true
	p.path.dropped.Add(1)
	return true
}}

// edit is an action that rewrites the frame.
func edit(text string, do func(*passage) bool) Action {
	return Action{text, func(p *passage) bool {
		if !do(p) {
			return false
		}
		p.path.modified.Add(1)
		return true
	}}
}

// Strip removes the TFO options of the kinds and closes the gap.
func Strip(kinds Kinds) Action {
	drop := func(dst, _ []byte, _ Kinds) []byte { return dst }
	return edit("strip option "+kinds.String(), func(p *passage) bool { return p.editTFO(kinds, drop) })
}

// Blank replaces the TFO options of the kinds by NOPs, as nftables does.
func Blank(kinds Kinds) Action {
	nop := func(dst, opt []byte, _ Kinds) []byte {
		for range opt {
			dst = append(dst, optNOP)
		}
		return dst
	}
	return edit("replace option "+kinds.String()+" by NOPs", func(p *passage) bool { return p.editTFO(kinds, nop) })
}

// Empty takes the cookie out of the TFO options of the kinds and leaves the
// option: length 2 for kind 34, the bare magic for kind 254.
func Empty(kinds Kinds) Action {
	empty := func(dst, _ []byte, k Kinds) []byte { return appendTFO(dst, k, nil) }
	return edit("empty option "+kinds.String(), func(p *passage) bool {
		if opt, k := findTFO(p.options(), kinds); opt == nil || len(cookieOf(opt, k)) == 0 {
			return false
		}
		return p.editTFO(kinds, empty)
	})
}

// SetKind turns TFO options of kind from into kind to, cookie kept.
func SetKind(from, to Kinds) Action {
	set := func(dst, opt []byte, k Kinds) []byte { return appendTFO(dst, to, cookieOf(opt, k)) }
	return edit(fmt.Sprintf("turn option %s into %s", from, to), func(p *passage) bool { return p.editTFO(from, set) })
}

// editCookie is an action that rewrites the cookie of every TFO option that
// has one.
func editCookie(text string, cookie func(p *passage, dst, cookie []byte) []byte) Action {
	return edit(text, func(p *passage) bool {
		if opt, k := findTFO(p.options(), AnyKind); opt == nil || len(cookieOf(opt, k)) == 0 {
			return false
		}
		return p.editTFO(AnyKind, func(dst, opt []byte, k Kinds) []byte {
			var buf [256]byte
			return appendTFO(dst, k, cookie(p, buf[:0], cookieOf(opt, k)))
		})
	})
}

// FlipCookie inverts every bit of the cookie: the same wrong cookie each time.
var FlipCookie = editCookie("invert the cookie", func(_ *passage, dst, cookie []byte) []byte {
	for _, b := range cookie {
		dst = append(dst, ^b)
	}
	return dst
})

// RandomCookie puts random bytes in place of the cookie: another each time.
var RandomCookie = editCookie("replace the cookie by random bytes", func(p *passage, dst, cookie []byte) []byte {
	for range cookie {
		dst = append(dst, byte(p.box.rand.Uint32()))
	}
	return dst
})

// ResizeCookie cuts the cookie to n bytes, or fills it up with zeros.
func ResizeCookie(n int) Action {
	return editCookie(fmt.Sprintf("resize the cookie to %d bytes", n), func(_ *passage, dst, cookie []byte) []byte {
		for i := range n {
			b := byte(0)
			if i < len(cookie) {
				b = cookie[i]
			}
			dst = append(dst, b)
		}
		return dst
	})
}

// Mirror puts the TFO option of the client's SYN into the SYN-ACK: as it was,
// or without its cookie when empty is set.
func Mirror(empty bool) Action {
	text := "mirror the option of the SYN"
	if empty {
		text += ", emptied"
	}
	return edit(text, func(p *passage) bool {
		if p.flow.optKind == 0 {
			return false
		}
		return p.addOption(func(dst []byte) []byte {
			cookie := p.flow.cookie[:p.flow.cookieLen]
			if empty {
				cookie = nil
			}
			return appendTFO(dst, p.flow.optKind, cookie)
		})
	})
}

// Truncate keeps the first n bytes of the payload. Nothing is acknowledged in
// the server's place, so the client sends the rest again.
func Truncate(n int) Action {
	return edit(fmt.Sprintf("truncate data to %d", n), func(p *passage) bool { return p.truncate(n) })
}

// StripData takes the payload away.
var StripData = edit("strip data", func(p *passage) bool { return p.truncate(0) })

// AddAck adds n to the acknowledged sequence number.
func AddAck(n uint32) Action {
	return edit(fmt.Sprintf("raise the ack by %d", n), func(p *passage) bool { p.addAck(n); return true })
}

// Answer is a way to refuse a frame in the server's name.
type Answer uint8

const (
	RST             Answer = iota + 1 // TCP reset
	HostUnreachable                   // ICMP 3/1, ICMPv6 1/3
	PortUnreachable                   // ICMP 3/3, ICMPv6 1/4
	AdminProhibited                   // ICMP 3/13, ICMPv6 1/1
	TooBig                            // ICMP 3/4, ICMPv6 2/0, with an MTU of 1280
)

func (a Answer) String() string {
	return [...]string{"", "RST", "host unreachable", "port unreachable", "administratively prohibited", "too big"}[a]
}

// Refuse drops the frame and answers its sender.
func Refuse(with Answer) Action {
	return Action{"answer " + with.String(), func(p *passage) bool {
		p.lost = true
		p.path.dropped.Add(1)
		if with == RST {
			p.path.resets.Add(1)
		} else {
			p.path.icmp.Add(1)
		}
		p.box.reply(p, with)
		return true
	}}
}

// SetMark marks the flow; see [Marked].
func SetMark(m Mark) Action {
	return Action{fmt.Sprintf("mark the flow %d", m), func(p *passage) bool {
		p.flow.marks |= m
		return true
	}}
}

// MarkClient marks the client of this frame at this server address for a time;
// see [ClientMarked].
func MarkClient(d time.Duration) Action {
	return Action{"mark the client for " + d.String(), func(p *passage) bool {
		p.host.mark(p.flow.client, p.box.now+int64(d))
		return true
	}}
}

// Delay holds the frame back for d and up to jitter more, at random. The
// frames of one flow and direction keep their order, as in a queue.
func Delay(d, jitter time.Duration) Action {
	text := "delay " + d.String()
	if jitter > 0 {
		text += " and up to " + jitter.String()
	}
	return Action{text, func(p *passage) bool {
		p.delay += int64(d)
		if jitter > 0 {
			p.delay += p.box.rand.Int64N(int64(jitter))
		}
		p.path.delayed.Add(1)
		return true
	}}
}

// Masquerade gives each new flow the next of the box's outside addresses, as a
// carrier-grade NAT with a pool does. It acts on the first SYN of a flow.
var Masquerade = Action{"change the client's address per flow", func(p *passage) bool {
	if !p.opening {
		return false
	}
	p.flow.outside = p.path.nextOutside(p.v6)
	return true
}}

// Spread gives each new flow to a server address to the next of the path's
// servers in turn. It acts on the first SYN of a flow.
var Spread = Action{"spread flows over the servers in turn", func(p *passage) bool {
	if !p.opening {
		return false
	}
	p.flow.server = uint8(p.host.flows % uint32(len(p.path.servers)))
	p.host.flows++
	return true
}}

// SpreadByHash gives each flow to the server that a hash of its addresses and
// ports names, as equal-cost routing does. It acts on the first SYN of a flow.
var SpreadByHash = Action{"spread flows over the servers by hash", func(p *passage) bool {
	if !p.opening {
		return false
	}
	p.flow.server = uint8(p.flow.forward.hash() % uint64(len(p.path.servers)))
	return true
}}

// To gives the flow to server i of the path. It acts on the first SYN of a
// flow; without it, and without spreading, server 0 gets all.
func To(i int) Action {
	return Action{fmt.Sprintf("to server %d", i), func(p *passage) bool {
		if !p.opening {
			return false
		}
		p.flow.server = uint8(i)
		return true
	}}
}
