package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"

	"tfofleet/internal/measure"
)

// Path is one way to servers, and what happens to TCP Fast Open on it.
type Path struct {
	Name     string   // a DNS label
	About    string   // one line for people
	Taxonomy []string // rows of the taxonomy of misbehaviours, such as "M5"

	// Truth is what the standard plan must find. It has more than one word
	// only where one end of the path cannot tell, and Note says why.
	Truth []measure.Verdict
	// Thorough is what the thorough plan must find, where that sees more.
	Thorough []measure.Verdict
	Note     string

	// At names the path's addresses: <at>.lab leads there. Paths with the same
	// At share them, each on a port or in a family of its own. Empty means
	// Name: addresses that no other path has.
	At string

	Port    uint16   // where clients knock
	Hosts   int      // addresses per family, all alike; 0 means 250
	Family  Family   // 0 means both
	Servers []Server // the first, unless a rule chooses
	Proxy   *Proxy   // nil: nothing stands before the servers
	Rules   []Rule
}

// Family restricts a path to one address family.
type Family uint8

const (
	BothFamilies Family = 0
	V4           Family = 4
	V6           Family = 6
)

const defaultHosts = 250

// Is reports whether a verdict is true of the path, under the standard plan.
func (p *Path) Is(v measure.Verdict) bool { return slices.Contains(p.Truth, v) }

// TruthFor is what a plan must find.
func (p *Path) TruthFor(plan measure.Plan) []measure.Verdict {
	if plan == measure.Thorough && p.Thorough != nil {
		return p.Thorough
	}
	return p.Truth
}

// path is a [Path] in place.
type path struct {
	Path
	block   int               // the first of its blocks
	servers []uint16          // the port each of Path.Servers, or the proxy before it, listens on
	proxied map[uint16]uint16 // in a mesh: the ports that proxies stand before, and theirs
	nat     uint32            // outside addresses handed out
	natPort uint16            // and outside ports
	pathCounters
}

// holds reports whether address n of the path exists.
func (p *path) holds(n int) bool { return n >= 1 && n <= p.Hosts }

// has reports whether the path has addresses of a family.
func (p *path) has(v6 bool) bool { return p.Family == BothFamilies || v6 == (p.Family == V6) }

// pathTo finds the path to a port among those that share an address: the one
// whose port it is, else the first of the family; nil if there is none.
func pathTo(sharing []*path, port uint16, v6 bool) (found *path) {
	for _, p := range sharing {
		switch {
		case !p.has(v6):
		case p.Port == port:
			return p
		case found == nil:
			found = p
		}
	}
	return found
}

func (p *path) nextOutside(v6 bool) addrKey {
	p.nat++
	return poolAddr(int(p.nat%poolSize), v6)
}

// serverPort translates a port as clients see it to the listener behind it.
// Ports other than the path's own lead to whatever listens there.
func (p *path) serverPort(server uint8, port uint16) uint16 {
	if to, ok := p.proxied[port]; ok {
		return to
	}
	if port == p.Port && len(p.servers) > 0 {
		return p.servers[server]
	}
	return port
}

// addrs returns address n of the path, the invalid address for a family it
// does not have.
func (p *path) addrs(n int, ipv6 bool) (v4, v6 netip.Addr) {
	if p.has(false) {
		v4 = pathAddr4(p.block, n)
	}
	if p.has(true) && ipv6 {
		v6 = pathAddr6(p.block, n)
	}
	return v4, v6
}

// place gives every path its blocks of addresses.
func place(catalogue []Path) ([]*path, error) {
	var placed []*path
	seen := map[string]bool{}
	at := map[string][]*path{}
	next := 0
	for _, c := range catalogue {
		p := &path{Path: c, block: next}
		if p.Hosts == 0 {
			p.Hosts = defaultHosts
		}
		if p.At == "" {
			p.At = p.Name
		}
		p.rules = make([]atomic.Uint64, len(p.Rules))
		switch {
		case p.Name == "" || seen[p.Name]:
			return nil, fmt.Errorf("path name %q is empty or taken", p.Name)
		case len(p.Servers) == 0:
			return nil, fmt.Errorf("path %s has no server", p.Name)
		}
		if sharing := at[p.At]; len(sharing) > 0 {
			if err := p.join(sharing); err != nil {
				return nil, err
			}
		} else if next += p.blocks(); next > blockCount {
			return nil, fmt.Errorf("path %s: no addresses left in %s", p.Name, pathPrefix4)
		}
		seen[p.Name] = true
		at[p.At] = append(at[p.At], p)
		placed = append(placed, p)
	}
	return placed, nil
}

// blocks is the number of blocks the path's addresses need.
func (p *path) blocks() int { return p.Hosts/blockSize + 1 }

// join puts the path onto the addresses of others. Within a family they must
// differ in port, which tells the client's frames apart, and in listener, whose
// port tells the server's.
func (p *path) join(sharing []*path) error {
	p.block = sharing[0].block
	for _, q := range sharing {
		if p.Hosts != q.Hosts {
			return fmt.Errorf("path %s: %d addresses at %s, where %s has %d", p.Name, p.Hosts, p.At, q.Name, q.Hosts)
		}
		if p.Family != BothFamilies && q.Family != BothFamilies && p.Family != q.Family {
			continue
		}
		if p.Port == q.Port || p.Proxy == nil && q.Proxy == nil && slices.ContainsFunc(p.Servers, func(s Server) bool { return slices.Contains(q.Servers, s) }) {
			return fmt.Errorf("path %s has the port or a server of path %s, and both are at %s", p.Name, q.Name, p.At)
		}
	}
	return nil
}

// Placed is a path of a running lab as a survey sees it.
type Placed struct {
	Path
	Host string     // a name that the lab's resolver knows
	V4   netip.Addr // the first address; invalid if the path has none of the family
	V6   netip.Addr
}

// Addrs4 lists the first n IPv4 addresses of the path.
func (p Placed) Addrs4(n int) []netip.Addr { return following(p.V4, min(n, p.Hosts)) }

// Addrs6 lists the first n IPv6 addresses of the path.
func (p Placed) Addrs6(n int) []netip.Addr { return following(p.V6, min(n, p.Hosts)) }

// HostN is the name of address n of the path, counted from 1.
func (p Placed) HostN(n int) string { return strconv.Itoa(n) + "." + p.Host }

func following(a netip.Addr, n int) []netip.Addr {
	var as []netip.Addr
	for ; a.IsValid() && len(as) < n; a = a.Next() {
		as = append(as, a)
	}
	return as
}
