// Package lab is an emulated internet on one Linux machine: a client, a path
// and servers, each in a network namespace of its own, joined by veth pairs.
// Between the pairs a middlebox, the box, reads and writes Ethernet frames
// itself (AF_PACKET) and does to TCP Fast Open what middleboxes of the real
// internet do: it strips, rewrites or drops the option, the payload, the flow
// or the client, per target. Every path says what it does ([Path]), what a
// survey must therefore find ([Path.Truth]), and counts that its fault in fact
// struck ([Lab.Counters]).
//
//	client ──box0── [path: the box] ──box0── servers
//	   └────────────direct0─────────────────────┘
//
// The servers are real Linux listeners. They answer on whole prefixes, so a
// path costs the same with one address or a thousand. What no Linux listener
// does, a scripted peer behind the box plays ([Script]); a proxy may answer in
// the servers' place ([Path.Proxy]); and whoever builds a lab may listen
// himself ([Yours]). Ports and families of one address may be paths of their
// own ([Path.At]). The direct link passes no box and is for clean, fast tests.
//
// A [Mesh] is a lab of equal hosts, for what two ends show together: each is a
// client and may listen, and every ordered pair of them has a path of its own,
// with the words of [measure.Joint] for its truth.
//
// What may not enter: anything that knows how a target is measured. The lab
// knows frames, flows and listeners, and the words of internal/measure for the
// verdicts; a lab that shared code with what it checks would be no oracle.
// Outside its own namespaces it touches names in /run/netns and /run/tfolab,
// nothing else.
package lab
