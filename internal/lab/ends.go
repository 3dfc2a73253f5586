package lab

// Ports of the box between two ends.
const (
	clientPort  = 0
	serversPort = 1
)

// twoEnds is the topology of a [Lab]: a client on one side, all servers on the
// other. The address of a server, in whatever direction, tells the path.
type twoEnds struct {
	paths [blockCount][]*path // those that share the addresses of a block
}

func (e *twoEnds) locate(b *box, in int) bool {
	p := &b.p
	server := p.dst()
	p.dir, p.out = Forward, b.ports[serversPort]
	if in == serversPort {
		server = p.src()
		p.dir, p.out = Return, b.ports[clientPort]
	}
	block, n, ok := blockOf(server, p.v6)
	if ok {
		p.path = e.route(p, block, n)
	}
	if !ok || p.path == nil {
		b.unrouted.Add(1)
		return false
	}
	if p.dir == Forward {
		ok = b.enter()
	} else {
		ok = b.comeBack()
	}
	if !ok {
		b.late.Add(1)
	}
	return ok
}

// pass takes what is no TCP to the other end, group addresses excepted.
func (e *twoEnds) pass(b *box, raw []byte, in int) *port {
	if len(raw) >= ethLen && raw[0]&1 == 0 {
		return b.ports[1-in]
	}
	return nil
}

// route finds the path of the frame at hand by the server address it names,
// number n of a block, and its port. Of a server's frame the port may be that
// of a listener: which of the paths that share the address it is on, its flow
// tells.
func (e *twoEnds) route(p *passage, block, n int) *path {
	sharing := e.paths[block]
	if len(sharing) == 0 {
		return nil
	}
	first := sharing[0]
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
