package reflector

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// Ask brings a nonce to the mirror, and back what it saw.
type Ask func(ctx context.Context, nonce measure.Nonce) (*pb.ArrivalBatch, error)

const (
	timeout = 5 * time.Second
	// The mirror reports an arrival at its end, which may be a moment later than
	// the probe's, and of a connection that died when its patience is over: it is
	// asked again, each time after twice the rest, for 6 s in all.
	askAgain = 200 * time.Millisecond
	askTimes = 6
)

// ErrUnreachable: a plain connection to the mirror failed.
var ErrUnreachable = errors.New("the controller's listener cannot be reached")

// Test measures the mirror at the address and says what is near the probe, with
// a detail for people. The error says why that cannot be told; it wraps
// ErrUnreachable where there is no way at all.
func Test(ctx context.Context, mirror netip.AddrPort, ns tfo.NetNS, ask Ask) (measure.NearPath, string, error) {
	nonce := measure.NewNonce()
	m, err := run(ctx, mirror, ns, nonce)
	if err != nil {
		return 0, "", err
	}
	if m.Outcome != measure.OutcomeMeasured {
		return 0, "", fmt.Errorf("the self-test came to no end: %w", context.Cause(ctx))
	}
	if m.Verdict == measure.Offline {
		return 0, "", fmt.Errorf("%w at %s", ErrUnreachable, mirror)
	}
	rest := askAgain
	for try := 1; ; try++ {
		j, err := judge(ctx, &m, nonce, ask)
		if err != nil {
			return 0, "", err
		}
		near, detail := measure.NearPathOf(&j)
		if near != measure.NearPathUnknown && j.Unmatched == 0 || try == askTimes {
			return told(near, detail, &j)
		}
		select {
		case <-time.After(rest):
			rest *= 2
		case <-ctx.Done():
			return 0, "", ctx.Err()
		}
	}
}

// told makes a result of the last judgement. One that names nothing is an error:
// a listener that gives no cookies, or a path that loses too much.
func told(near measure.NearPath, detail string, j *measure.Judgement) (measure.NearPath, string, error) {
	if near == measure.NearPathUnknown {
		return near, detail, fmt.Errorf("the self-test tells nothing: %s", detail)
	}
	return near, detail, nil
}

// run makes the measurement, with an engine of its own.
func run(ctx context.Context, mirror netip.AddrPort, ns tfo.NetNS, nonce measure.Nonce) (measure.Measurement, error) {
	r, err := measure.NewRunner(measure.Settings{
		Plan: measure.Standard, Payload: measure.PayloadHTTP, Timeout: timeout, Nonce: func(measure.Target) measure.Nonce { return nonce },
	}, tfo.Config{Concurrency: 1, Shards: 1, NetNS: ns})
	if err != nil {
		return measure.Measurement{}, err
	}
	defer r.Stop()
	defer context.AfterFunc(ctx, r.Stop)()
	done := make(chan measure.Measurement, 1)
	r.Submit(target(mirror), nil, func(m measure.Measurement) { done <- m })
	return <-done, nil
}

func target(mirror netip.AddrPort) measure.Target {
	return measure.Target{Addr: mirror.Addr().Unmap(), Port: mirror.Port()}
}

// judge joins the measurement with what the mirror has of it by now.
func judge(ctx context.Context, m *measure.Measurement, nonce measure.Nonce, ask Ask) (measure.Judgement, error) {
	batch, err := ask(ctx, nonce)
	if err != nil {
		return measure.Judgement{}, fmt.Errorf("the controller does not say what its listener saw: %w", err)
	}
	s := measure.Sides{
		Plan: measure.Standard, Nonce: nonce, Attempts: m.Attempts,
		Payload: func(attempt int) []byte {
			return measure.TaggedPayload(measure.PayloadHTTP, nil, m.Target, measure.Tag{Nonce: nonce, Attempt: attempt}).Bytes
		},
	}
	for _, w := range batch.GetArrivals() {
		a, err := measure.ArrivalFromWire(w)
		if err != nil {
			return measure.Judgement{}, err
		}
		s.Arrivals = append(s.Arrivals, a)
	}
	for _, w := range batch.GetAlarms() {
		a, err := measure.AlarmFromWire(w)
		if err != nil {
			return measure.Judgement{}, err
		}
		s.Alarms = append(s.Alarms, a)
	}
	return measure.Joint(s), nil
}
