package mesh

import (
	"math/rand/v2"
	"net/netip"
	"slices"
)

// Listening is a probe's open listeners: where others may reach it.
type Listening struct {
	Probe string
	Ports []uint16
	// V4 and V6 are its addresses, the likeliest first. With none of a family it
	// is not measured over it.
	V4, V6 []netip.Addr
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

// Plan is every ordered pair of a client and a server, by port and family. The
// order is random by the seed, so that not all clients come to one server at
// once; a pair's index is its place. A client that has no address of a family
// is not known to have none: it tries.
func Plan(clients []string, servers []Listening, families []bool, seed uint64) []Pair {
	var all []Pair
	for _, client := range clients {
		for _, s := range servers {
			if s.Probe == client {
				continue
			}
			for _, v6 := range families {
				addrs := s.V4
				if v6 {
					addrs = s.V6
				}
				if len(addrs) == 0 {
					continue
				}
				for _, port := range s.Ports {
					all = append(all, Pair{Client: client, Server: s.Probe, Port: port, V6: v6, Address: addrs})
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
