// Package reflector is the self-test of a probe, both its ends.
//
//	Mirror   at the controller: a TFO listener that remembers for a while what arrived
//	Test     at the probe: measures it, asks what arrived, and joins both
//
// What is found between the two is near the probe, and must not be charged to
// its targets. A mirror answers whoever comes, and tells what it saw to who
// knows the nonce in it.
//
// What may not enter: the control plane; whoever uses the package brings the
// question to the mirror and its answer back.
package reflector
