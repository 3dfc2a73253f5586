package mesh

import (
	"math/rand/v2"
	"net/netip"
	"slices"
)

// Member is a probe of a mesh: where others may reach it.
type Member struct {
	Probe string
	Ports []uint16 // of its open listeners
	// V4 and V6 are its addresses, the likeliest first. With none of a family it
	// is not measured over it, nor does it measure over it. Of one that has none
	// at all they are not known: it tries.
	V4, V6 []netip.Addr
}

func (m *Member) addresses(v6 bool) []netip.Addr {
	if v6 {
		return m.V6
	}
	return m.V4
}

// may reports whether the probe can connect over a family, as far as is known.
func (m *Member) may(v6 bool) bool {
	return len(m.addresses(v6)) > 0 || len(m.V4)+len(m.V6) == 0
}

// Pair is one measurement: a probe connects to another one's listener.
type Pair struct {
	Index   int
	Client  string
	Server  string
	Port    uint16
	V6      bool
	Address []netip.Addr // of the server
}

// Plan is every ordered pair of a client and a server, by port and by the
// families that both have. The order is random by the seed, so that not all
// clients come to one server at once; a pair's index is its place.
func Plan(probes []Member, families []bool, seed uint64) []Pair {
	var all []Pair
	for i := range probes {
		client := &probes[i]
		for j := range probes {
			s := &probes[j]
			if i == j {
				continue
			}
			for _, v6 := range families {
				if !client.may(v6) || len(s.addresses(v6)) == 0 {
					continue
				}
				for _, port := range s.Ports {
					all = append(all, Pair{Client: client.Probe, Server: s.Probe, Port: port, V6: v6, Address: s.addresses(v6)})
				}
			}
		}
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i := range all {
		all[i].Index = i
	}
	return all
}

// Of is the pairs of a client.
func Of(pairs []Pair, client string) []Pair {
	return slices.DeleteFunc(slices.Clone(pairs), func(p Pair) bool { return p.Client != client })
}
