package lab

// passage is one frame on its way through the box, with all that is known
// about it.
type passage struct {
	frame
	box  *box
	in   *port // it came in by
	out  *port // it leaves by
	dir  Dir
	path *path
	host *host // the server address of the path
	flow *flow
	// opening: this frame is the first SYN of its flow, which is not yet bound
	// to a server or an outside address.
	opening bool
	lost    bool  // do not forward it
	delay   int64 // ns to hold it back
}

// take passes one frame on, or not.
func (b *box) take(raw []byte, in int) {
	b.frames.Add(1)
	p := &b.p
	if !p.parse(raw) {
		b.other.Add(1)
		if out := b.net.pass(b, raw, in); out != nil {
			out.send(raw)
		}
		return
	}
	p.box, p.in, p.opening, p.lost, p.delay = b, b.ports[in], false, false, 0
	if !b.net.locate(b, in) {
		return
	}
	p.path = p.flow.path
	p.flow.seen = b.now
	server := p.flow.forward.server
	p.host = b.hosts[server]
	if p.host == nil {
		p.host = &host{turn: map[Mark]uint32{}, marked: map[addrKey]int64{}}
		b.hosts[server] = p.host
	}
	b.count()
	b.rules()
	if p.lost {
		return
	}
	p.flow.sawFlags(p.dir, p.flags())
	if p.dir == Forward {
		b.leave()
	}
	p.seal()
	last := &p.flow.due[p.dir>>1]
	due := max(b.now+p.delay, *last)
	if due <= b.now {
		p.out.send(p.b)
		return
	}
	*last = due
	if !b.queue.push(due, p.out, p.b) {
		b.overdue.Add(1)
	}
}

// enter finds the flow of a client's frame, or opens one for its SYN.
func (b *box) enter() bool {
	p := &b.p
	k := flowKey{p.src(), p.dst(), p.srcPort(), p.dstPort()}
	p.flow = b.flows.forward[k]
	if !p.isSYN() {
		return p.flow != nil && p.flow.bound()
	}
	if p.flow != nil && p.flow.isn != p.seq() { // the ports were used again
		p.flow.closed = true
		b.flows.remove(p.flow)
		p.flow = nil
	}
	if p.flow == nil {
		p.flow = b.flows.open(k, b.now)
		p.flow.path, p.flow.isn = p.path, p.seq()
	}
	p.opening = !p.flow.bound()
	p.flow.rememberOption(p.options())
	return true
}

// comeBack finds the flow of a server's frame and shows the frame as the
// client is to see it.
func (b *box) comeBack() bool {
	p := &b.p
	p.flow = b.flows.back[flowKey{p.dst(), p.src(), p.dstPort(), p.srcPort()}]
	if p.flow == nil {
		return false
	}
	p.setPort(0, p.flow.forward.serverPort)
	p.setPort(1, p.flow.forward.clientPort)
	p.setAddr(1, p.flow.client)
	return true
}

// leave shows a client's frame as the server is to see it.
func (b *box) leave() {
	p, f := &b.p, b.p.flow
	if p.opening {
		back := flowKey{f.outside, f.forward.server, f.outsidePort, p.path.serverPort(f.server, f.forward.serverPort)}
		for range poolSize {
			if f.outside == f.client || b.flows.back[back] == nil {
				break
			}
			f.outside = p.path.nextOutside(p.v6)
			back.client = f.outside
		}
		b.flows.bind(f, back)
	}
	p.setPort(1, f.back.serverPort)
	p.setPort(0, f.back.clientPort)
	p.setAddr(0, f.outside)
}

func (b *box) count() {
	p, c := &b.p, &b.p.path.pathCounters
	c.frames.Add(1)
	switch {
	case p.dir == Forward && p.isSYN():
		c.syn.Add(1)
		if opt, kind := findTFO(p.options(), AnyKind); opt != nil {
			c.synOption.Add(1)
			if len(cookieOf(opt, kind)) > 0 {
				c.synCookie.Add(1)
			}
		}
		if len(p.payload()) > 0 {
			c.synData.Add(1)
		}
	case p.dir == Return && p.isSYNACK():
		c.synACK.Add(1)
	}
}

func (b *box) rules() {
	p := &b.p
	for i := range p.path.Rules {
		r := &p.path.Rules[i]
		if r.On&p.dir == 0 || r.If.is != nil && !r.If.is(p) {
			continue
		}
		if r.Do.do(p) {
			p.path.rules[i].Add(1)
		}
		if p.lost {
			return
		}
	}
}

// reply sends a refusal back to the sender of the frame at hand.
func (b *box) reply(p *passage, with Answer) {
	if b.nreplies == len(b.replies) {
		b.flush()
	}
	buf := appendReply(b.replies[b.nreplies][:0], &p.frame, with, b.router4, b.router6)
	b.nreplies++
	p.in.send(buf)
}
