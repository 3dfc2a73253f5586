package lab

// passage is one frame on its way through the box, with all that is known
// about it.
type passage struct {
	frame
	box  *box
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
func (b *box) take(raw []byte, d Dir) {
	b.frames.Add(1)
	p := &b.p
	if !p.parse(raw) {
		b.other.Add(1)
		if len(raw) >= ethLen && raw[0]&1 == 0 {
			b.out(d).send(raw)
		}
		return
	}
	p.box, p.dir, p.opening, p.lost, p.delay = b, d, false, false, 0
	server := p.dst()
	if d == Return {
		server = p.src()
	}
	block, n, ok := blockOf(server, p.v6)
	if ok {
		p.path = b.route(block, n)
	}
	if !ok || p.path == nil {
		b.unrouted.Add(1)
		return
	}
	if d == Forward {
		ok = b.enter()
	} else {
		ok = b.comeBack()
	}
	if !ok {
		b.late.Add(1)
		return
	}
	p.path = p.flow.path
	p.flow.seen = b.now
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
	p.flow.sawFlags(d, p.flags())
	if d == Forward {
		b.leave()
	}
	p.seal()
	last := &p.flow.due[d>>1]
	due := max(b.now+p.delay, *last)
	if due <= b.now {
		b.out(d).send(p.b)
		return
	}
	*last = due
	if !b.queue.push(due, b.out(d), p.b) {
		b.overdue.Add(1)
	}
}

// route finds the path of the frame at hand by the server address it names,
// number n of a block, and its port. Of a server's frame the port may be that
// of a listener: which of the paths that share the address it is on, its flow
// tells.
func (b *box) route(block, n int) *path {
	sharing := b.paths[block]
	if len(sharing) == 0 {
		return nil
	}
	p, first := &b.p, sharing[0]
	if !p.v6 {
		n += (block - first.block) * blockSize
	} else if block != first.block {
		n = 0 // an IPv6 path has one block of any size
	}
	if !first.holds(n) {
		return nil
	}
	return pathTo(sharing, p.dstPort(), p.v6)
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
	p.setAddr(1, p.flow.client)
	return true
}

// leave shows a client's frame as the server is to see it.
func (b *box) leave() {
	p, f := &b.p, b.p.flow
	if p.opening {
		back := flowKey{f.outside, f.forward.server, f.forward.clientPort, p.path.serverPort(f.server, f.forward.serverPort)}
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
	b.out(Both &^ p.dir).send(buf)
}
