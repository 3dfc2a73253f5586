// Package mesh is work with two ends: every probe listens for TCP Fast Open, and
// every other one measures its listeners.
//
//	Plan     ordered pairs of probes, by port and family
//	Worker   at the probe: opens listeners, measures those of others, reports
//	Judge    both ends of a measurement -> joint verdict
//
// A task lives as long as the mesh it is of, at the longest for the time it was
// given. What a probe cannot do it says; what it did and could not report is
// lost with it, and the other end is told so by its verdict.
//
// What may not enter: sessions and leases; the control plane brings tasks here
// and takes reports away.
package mesh
