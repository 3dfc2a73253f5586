package mesh

import (
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// Ends is what both ends of a pair recorded.
type Ends struct {
	Plan    measure.Plan
	Payload measure.PayloadKind
	Nonce   measure.Nonce
	// Client is the client's measurement; nil when it was lost.
	Client *measure.Measurement
	// Arrivals and Alarms are the server's, also of other pairs.
	Arrivals []*tfo.Arrival
	Alarms   []tfo.Alarm
	// ServerLost: it vanished before it had reported all.
	ServerLost bool
}

// Judge is the joint verdict of a pair.
func Judge(e Ends) measure.Judgement {
	s := measure.Sides{
		Plan: e.Plan, Nonce: e.Nonce, Arrivals: e.Arrivals, Alarms: e.Alarms,
		ClientLost: e.Client == nil || e.Client.Outcome != measure.OutcomeMeasured, ListenerLost: e.ServerLost,
	}
	if e.Client != nil {
		s.Attempts = e.Client.Attempts
		s.Payload = func(attempt int) []byte {
			return measure.TaggedPayload(e.Payload, nil, e.Client.Target, measure.Tag{Nonce: e.Nonce, Attempt: attempt}).Bytes
		}
	}
	return measure.Joint(s)
}
