// Package agent is the probe's side: it takes leases from a controller, leads
// their targets to the attempt engine, and brings every result back until it is
// acknowledged.
//
//	session  Hello, credit, leases, heartbeats      one stream, reconnected
//	executor resolve -> policy -> shared -> Runner  one per survey
//	work     results of one lease -> batches
//	uplink   batches, sent again until acked        a stream of its own
//
// A target is never refused, unresolved or measured in silence: each of these is
// a result. What could not be started goes back to the controller by name.
//
// A target is begun when the controller is known to have heard that it may be, and
// not when the time of its lease is over: see fence.go. So a probe that was given
// up does not contact what others have by now, whichever of them is wrong about
// whom.
//
// Memory is bounded by credit: a lease counts until its last batch is
// acknowledged, and while enough is in hand no more is asked for.
//
// Evidence, verdicts and sockets of attempts may not enter: they are the
// Runner's. The policy is checked here, on the address, right before the target
// goes to the engine.
package agent
