package mesh

import (
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// Ends is what both ends of a pair recorded.
type Ends struct {
	Plan    measure.Plan
	Payload measure.PayloadKind
	Nonce   measure.Nonce
	// Client is the client's measurement; nil when it was lost.
	Client *measure.Measurement
	// Arrivals and Alarms are the server's: those that [Heard.Of] gives, or all.
	Arrivals []*tfo.Arrival
	Alarms   []tfo.Alarm
	// ServerLost: it vanished before it had reported all. What is not among the
	// arrivals before the last part of a ListenTask is not known not to be.
	ServerLost bool
}

// Judge is the joint verdict of a pair.
func Judge(e Ends) measure.Judgement {
	s := measure.Sides{
		Plan: e.Plan, Nonce: e.Nonce, ListenerLost: e.ServerLost,
		ClientLost: e.Client == nil || e.Client.Outcome == measure.OutcomeInterrupted,
		Refused:    e.Client != nil && e.Client.Outcome == measure.OutcomeRefused,
	}
	s.Arrivals, s.Alarms = Hear(e.Arrivals, e.Alarms).Of(e.Nonce, e.Client)
	if e.Client != nil {
		s.Attempts, s.Payload = e.Client.Attempts, e.offered
	}
	return measure.Joint(s)
}

// tlsHandshake is the type of a record that begins with a ClientHello.
const tlsHandshake = 22

// offered is the payload of an attempt; nil where it is not known: in a
// ClientHello is a key that its client alone knows.
func (e Ends) offered(attempt int) []byte {
	b := measure.TaggedPayload(e.Payload, nil, e.Client.Target, measure.Tag{Nonce: e.Nonce, Attempt: attempt}).Bytes
	if len(b) > 0 && b[0] == tlsHandshake {
		return nil
	}
	return b
}

// Evidence is what Judge looks at of the server's, as the dataset keeps it; nil
// when that is nothing.
func (e Ends) Evidence() ([]byte, error) {
	arrivals, alarms := Hear(e.Arrivals, e.Alarms).Of(e.Nonce, e.Client)
	if len(arrivals)+len(alarms) == 0 {
		return nil, nil
	}
	batch := &pb.ArrivalBatch{}
	for _, a := range arrivals {
		batch.Arrivals = append(batch.Arrivals, measure.ArrivalToWire(a))
	}
	for _, a := range alarms {
		batch.Alarms = append(batch.Alarms, measure.AlarmToWire(a))
	}
	return measure.EncodeArrivals(batch)
}
