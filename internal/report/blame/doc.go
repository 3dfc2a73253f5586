// Package blame says who breaks TCP Fast Open for one target: the target's side,
// a vantage point's side, or a path between them, and when that cannot be told.
//
// # How
//
// A verdict is what one probe saw. Verdicts are ordered by how far Fast Open got
// (rank.go). A vantage point is broken for a verdict when it gives that verdict
// to half of the targets or more, with 95 % confidence, that half of the other
// vantage points or more got further with (vantage.go): what is seen everywhere
// from one place is of that place. [Judge] then takes what is left for each
// target:
//
//   - vantage: what is wrong was seen by vantage points that are broken for it,
//     or whose own self-test found a box near them that explains it
//     (tfo.vantage.near_path.*), and by nobody else;
//   - target: none of the others got further, and most of them, two at least,
//     see one fault;
//   - path: some others see it, some get further;
//   - unknown: anything else. One observation, or one vantage point however
//     often, never blames a target or a path.
//
// Observations that say nothing, of a measurement that was not made, that is
// inconclusive, or that the probe's own host spoilt, do not count at all.
//
// Everything here is pure, and knows of one target at a time and of what one
// vantage point saw of all: memory grows with the number of vantage points.
package blame
