package agenttest

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// Fleet is many probes without engine, spool and policy. Each speaks a probe's
// part of the protocol over its own two connections, and has the results of a
// lease the moment it gets it. So what it costs is the protocol, and the
// controller is what is measured. Set Ahead before the first probe runs.
//
// A cancelled survey is no part of it: what was leased is reported.
type Fleet struct {
	// Ahead is how many leases a probe asks for beyond those whose last batch
	// was acknowledged.
	Ahead int

	connected atomic.Int64
	welcomes  atomic.Int64
	acked     atomic.Int64

	mu      sync.Mutex
	batches func(*pb.Lease) []*pb.ReportResultsRequest
	gate    chan struct{} // results may be sent once it is closed
	since   time.Time     // leases were there to be had
	count   FleetCounts
	waits   []time.Duration
	gaps    []Gap
	replies []time.Duration
	err     error
}

// FleetCounts is what happened to a Fleet since the last Begin.
type FleetCounts struct {
	Leases   int // leases that came
	Again    int // of these, not the first of their chunk
	Dropped  int // leases that were not the probe's any more
	Rejected int // batches
	// Idle is how long probes had nothing to send and had asked for a lease,
	// summed up.
	Idle time.Duration
}

// Gap is the time between two heartbeats of a session as the controller saw
// them, and the interval it asked for.
type Gap struct{ Between, Interval time.Duration }

// NewFleet makes a fleet without probes. Its results may be sent.
func NewFleet(ahead int) *Fleet {
	f := &Fleet{Ahead: ahead, gate: make(chan struct{})}
	close(f.gate)
	return f
}

// Probe makes a probe of the fleet; it does nothing before its Run.
func (f *Fleet) Probe(name string, session, results grpc.ClientConnInterface) *FleetProbe {
	return &FleetProbe{
		fleet: f, name: name, session: session, results: results, instance: randomName(),
		poke: make(chan struct{}, 1), more: make(chan struct{}, 1), leases: make(map[string]*held), flying: make(map[uint64]*outgoing),
	}
}

// Begin forgets what was counted. Leases are there to be had from now on: no
// wait began earlier. Batches are the results of a lease, as they are sent but
// for Probe, Lease, Spool and Sequence; they must name every target of the lease.
func (f *Fleet) Begin(batches func(*pb.Lease) []*pb.ReportResultsRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches = batches
	f.since, f.count, f.waits, f.gaps, f.replies = time.Now(), FleetCounts{}, nil, nil, nil
	f.acked.Store(0)
}

// Hold keeps all results back until Release.
func (f *Fleet) Hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gate = make(chan struct{})
}

// Release ends Hold.
func (f *Fleet) Release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.gate)
}

// Connected is how many probes have a session.
func (f *Fleet) Connected() int { return int(f.connected.Load()) }

// Welcomes is how many sessions began, ever.
func (f *Fleet) Welcomes() int { return int(f.welcomes.Load()) }

// Acked is how many targets' results were acknowledged since Begin.
func (f *Fleet) Acked() int { return int(f.acked.Load()) }

// Counts is what happened since Begin.
func (f *Fleet) Counts() FleetCounts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// Waits is how long each lease took from the credit that asked for it.
func (f *Fleet) Waits() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Duration(nil), f.waits...)
}

// Heartbeats is the gaps between heartbeats, and how long each took until it
// was answered.
func (f *Fleet) Heartbeats() (gaps []Gap, replies []time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Gap(nil), f.gaps...), append([]time.Duration(nil), f.replies...)
}

// Err is why the last stream ended, nil when none did.
func (f *Fleet) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *Fleet) ended(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *Fleet) results(l *pb.Lease) []*pb.ReportResultsRequest {
	f.mu.Lock()
	batches := f.batches
	f.mu.Unlock()
	return batches(l)
}

func (f *Fleet) opened() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gate
}

// leased counts a lease. asked and idle are zero when nobody waited.
func (f *Fleet) leased(l *pb.Lease, asked, idle, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count.Leases++
	if l.GetAttempt() > 0 || l.GetRef().GetEpoch() > 1 {
		f.count.Again++
	}
	later := func(t time.Time) time.Time {
		if t.Before(f.since) {
			return f.since
		}
		return t
	}
	if !asked.IsZero() {
		f.waits = append(f.waits, now.Sub(later(asked)))
	}
	if !idle.IsZero() {
		f.count.Idle += now.Sub(later(idle))
	}
}

func (f *Fleet) counted(change func(*FleetCounts)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.count)
}

func (f *Fleet) beat(reply time.Duration, gap Gap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replies = append(f.replies, reply)
	if gap.Between > 0 {
		f.gaps = append(f.gaps, gap)
	}
}

// FleetBatch is how many results a batch has, as a probe sends them.
const FleetBatch = 128

// Thorough is Healthy with a sixth attempt, as a target gets it that was looked
// at once more.
func Thorough(t measure.Target) measure.Measurement {
	m := Healthy(t)
	m.Attempts = append(m.Attempts, m.Attempts[len(m.Attempts)-2])
	return m
}
