package lab

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	dnsPort = 53
	dnsTTL  = 60
)

// names answers for the zone lab; [Lab.DNS] says what it knows.
type names struct {
	at   map[string][]*path
	ipv6 bool
}

func newNames(paths []*path, ipv6 bool) *names {
	n := &names{at: map[string][]*path{}, ipv6: ipv6}
	for _, p := range paths {
		n.at[p.At] = append(n.at[p.At], p)
	}
	return n
}

// lookup returns the addresses of a name, either of them possibly invalid;
// known is false for a name that does not exist.
func (n *names) lookup(name string) (v4, v6 netip.Addr, known bool) {
	host, ok := strings.CutSuffix(strings.ToLower(name), ".lab.")
	if !ok {
		return v4, v6, false
	}
	direct4, direct6 := DirectAddr4(1), DirectAddr6(1)
	switch host {
	case "v4only":
		return direct4, v6, true
	case "v6only":
		return v4, direct6, true
	case "empty":
		return v4, v6, true
	}
	k := 1
	if num, path, ok := strings.Cut(host, "."); ok {
		k, _ = strconv.Atoi(num)
		host = path
	}
	for _, p := range n.at[host] {
		if !p.holds(k) {
			break
		}
		known = true
		p4, p6 := p.addrs(k, n.ipv6)
		if p4.IsValid() {
			v4 = p4
		}
		if p6.IsValid() {
			v6 = p6
		}
	}
	return v4, v6, known
}

// answer answers one query; nil is silence. No answer of the lab is too long
// for UDP.
func (n *names) answer(query []byte) []byte {
	var ps dnsmessage.Parser
	h, err := ps.Start(query)
	if err != nil || h.Response {
		return nil
	}
	q, err := ps.Question()
	if err != nil {
		return nil
	}
	h = dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true}
	name := strings.ToLower(q.Name.String())
	if name == "timeout.lab." {
		return nil
	}
	v4, v6, known := n.lookup(name)
	switch {
	case name == "servfail.lab.":
		h.RCode = dnsmessage.RCodeServerFailure
	case !known:
		h.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, h)
	rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: dnsTTL}
	if b.StartQuestions() != nil || b.Question(q) != nil || b.StartAnswers() != nil {
		return nil
	}
	switch {
	case q.Type == dnsmessage.TypeA && v4.IsValid():
		err = b.AResource(rh, dnsmessage.AResource{A: v4.As4()})
	case q.Type == dnsmessage.TypeAAAA && v6.IsValid():
		err = b.AAAAResource(rh, dnsmessage.AAAAResource{AAAA: v6.As16()})
	}
	if err != nil {
		return nil
	}
	out, err := b.Finish()
	if err != nil {
		return nil
	}
	return out
}

// resolver answers DNS over UDP; over TCP one of the servers does.
type resolver struct {
	names *names
	conns []*net.UDPConn
}

// newResolver must run inside the servers namespace.
func newResolver(n *names) (*resolver, error) {
	r := &resolver{names: n}
	addrs := []netip.Addr{dnsAddr4}
	if n.ipv6 {
		addrs = append(addrs, dnsAddr6)
	}
	// Bound to an address each, so that answers leave from the address asked.
	for _, a := range addrs {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, dnsPort)))
		if err != nil {
			r.stop()
			return nil, err
		}
		r.conns = append(r.conns, c)
	}
	return r, nil
}

// run serves one socket until stop.
func (r *resolver) run(c *net.UDPConn) error {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			continue // an ICMP error for an answer sent earlier
		}
		if a := r.names.answer(buf[:n]); a != nil {
			_, _ = c.WriteToUDPAddrPort(a, from)
		}
	}
}

func (r *resolver) stop() {
	for _, c := range r.conns {
		c.Close()
	}
}
