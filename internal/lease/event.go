package lease

import "time"

// Event is what can happen to a chunk. Events that name a probe and an epoch
// come from that probe; the caller has made sure of who it is.
type Event interface{ event() }

type (
	// Offer gives a pending chunk to a probe.
	Offer struct{ Probe, Instance string }
	// Accept: the probe has accepted the offer, durably. From Accept or Renew on
	// the lease holds for TTL, or for Rules.TTL when it is 0.
	Accept struct {
		Probe string
		Epoch uint64
		TTL   time.Duration
	}
	// Refuse: the probe does not take the offer. Busy is no fault of the
	// chunk and does not count towards MaxOffers.
	Refuse struct {
		Probe string
		Epoch uint64
		Busy  bool
	}
	// StreamLost: the session over which an offer went to the probe ended.
	StreamLost struct{ Probe string }
	// Renew: the probe says, in Hello or a heartbeat, that it holds the lease.
	// The lease's targets before index Taken may have been started, or will be as
	// soon as the probe knows that this was heard. None from there on was.
	Renew struct {
		Probe string
		Epoch uint64
		Taken int
		TTL   time.Duration
	}
	// Forgotten: the probe lists what it holds, and this lease is not there.
	Forgotten struct{ Probe string }
	// Results: a batch. Returned targets were never started and are given back.
	// It renews the lease for as long as it was held for.
	Results struct {
		Probe    string
		Epoch    uint64
		Items    []ItemResult
		Returned []uint32 // index in the chunk
	}
	// Expire: time has passed. No TTL lapses before FrozenUntil.
	Expire struct{ FrozenUntil time.Time }
	// Cancel: the survey was cancelled.
	Cancel struct{}
	// GiveUp: nobody is left who may measure what the chunk still lacks.
	GiveUp struct{}
)

// ItemResult is the outcome of one target: Measured, Refused or Interrupted.
type ItemResult struct {
	Index  uint32 // in the chunk
	Result Item
}

func (Offer) event()      {}
func (Accept) event()     {}
func (Refuse) event()     {}
func (StreamLost) event() {}
func (Renew) event()      {}
func (Forgotten) event()  {}
func (Results) event()    {}
func (Expire) event()     {}
func (Cancel) event()     {}
func (GiveUp) event()     {}

// Effect is what the caller has to do after the new state is durable.
type Effect uint8

const (
	// Send the unfinished targets that are Out to State.Probe.
	Send Effect = iota + 1
	// Drop: tell the probe that the event came from to let go of its lease.
	Drop
	// Stop: tell State.Probe to return what it has not started.
	Stop
	// Keep the batch of the event.
	Keep
	// KeepLate: keep the batch; it came under an older epoch.
	KeepLate
	// KeepAside: keep the batch although the chunk is over; it knows of
	// targets for which there is no result.
	KeepAside
	// Reject the batch: its probe never had that lease.
	Reject
	// Requeue: targets wait for a probe again.
	Requeue
	// Finish: the chunk is Done or Poisoned; write it.
	Finish
)
