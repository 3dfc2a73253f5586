package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tfofleet/internal/lease"
	pb "tfofleet/proto/tfofleet/v1"
)

var (
	// ErrNotFound: there is no such survey, chunk or list.
	ErrNotFound = errors.New("not found")
	// ErrFull: the disk is full. Nothing was stored; the call may be made
	// again when there is room.
	ErrFull = errors.New("the disk is full")
	// ErrInUse: another process has the store open.
	ErrInUse = errors.New("in use by another process")
	// ErrTaken: another process has the probe's session, see TakenError.
	ErrTaken = errors.New("the probe has a session of another process")
)

// Options are those of every store.
type Options struct {
	// Rules of all leases; Repeat comes from the survey's spec.
	Rules lease.Rules
	// Now is the clock; nil means time.Now, for PostgreSQL that of the
	// database, which all controllers share.
	Now func() time.Time
}

// Phase is where a survey stands. The values are stored.
type Phase uint8

const (
	Creating  Phase = 1 // its dataset is not there yet
	Running   Phase = 2
	Done      Phase = 3
	Cancelled Phase = 4
	Failed    Phase = 5
)

// Mode is how the targets of a survey are divided among probes. The values are
// stored.
type Mode uint8

const (
	Shard  Mode = 1 // each target is measured by one probe; 0 is taken for it
	Every  Mode = 2 // each target is measured by every selected probe
	Copies Mode = 3 // each target is measured by Survey.Copies of the selected probes
)

// List is a frozen list of targets.
type List struct {
	ID        string
	Targets   uint64
	ChunkSize int
}

// Chunks is how many chunks the list has.
func (l List) Chunks() uint32 {
	return uint32((l.Targets + uint64(l.ChunkSize) - 1) / uint64(l.ChunkSize))
}

// Survey is a survey's record.
type Survey struct {
	ID      string
	Request string // the idempotency key of its creation
	Name    string
	List    List
	Spec    *pb.SurveySpec
	Mode    Mode
	Copies  int      // probes per target: 1 for Shard, len(Probes) for Every; filled in for both
	Probes  []string // that were selected, sorted; empty: any, only for Shard
	Paused  bool     // nothing of it is offered
	Phase   Phase
	// Cancel: it was cancelled, and is Running until its leases are over.
	Cancel  bool
	Reason  string // why it failed, or what went wrong without failing it
	Created time.Time
	Ended   time.Time // zero while it runs
}

// Key names a chunk: that of copy i of chunk j of the list is
// i*List.Chunks()+j. Chunks from Copies*List.Chunks() on are the rests of
// others, see Settle.
type Key struct {
	Survey string
	Chunk  uint32
}

// Chunk is a chunk and its lease.
type Chunk struct {
	Key
	Source uint32 // the chunk of the list that its items are from
	Copy   uint32 // below Survey.Copies
	Pin    string // the only probe that may measure it; empty: any that was selected
	lease.State
}

// Batch is a batch of results, opaque. (Key, Epoch, Spool, Sequence) names it
// for ever: storing it a second time changes nothing.
type Batch struct {
	Epoch    uint64
	Spool    string // of the probe, where it has one; Sequence is its own then
	Sequence uint64
	Probe    string
	Late     bool // it came when its lease was over
	// Address is the probe's as it was seen when the batch came; empty when
	// there is none.
	Address string
	Body    []byte
}

// Probe is what a probe said of itself, and what an operator said of it.
type Probe struct {
	Name    string
	Version string
	Host    *pb.Host
	Drained bool    // it is offered nothing more
	Rate    float64 // limit of its new connections per second; 0: none
}

// Session is a connection of a probe to a controller. A probe has one, over all
// controllers. Times are by the store's clock.
type Session struct {
	Probe      string
	ID         string
	Instance   string // the process of the probe
	Hostname   string
	Controller string
	Since      time.Time
	Heard      time.Time
	State      []byte // what it said last, opaque
}

// TakenError is the ErrTaken of OpenSession. Session is the one that is there.
type TakenError struct{ Session Session }

func (e *TakenError) Error() string {
	return fmt.Sprintf("probe %s: %v, on host %s", e.Session.Probe, ErrTaken, e.Session.Hostname)
}

// Unwrap makes it an ErrTaken.
func (e *TakenError) Unwrap() error { return ErrTaken }

// ProbeEvent is an event of a probe itself. (Probe, Spool, Sequence) names it.
type ProbeEvent struct {
	Probe    string
	Spool    string
	Sequence uint64
	Event    *pb.ProbeEvent
}

// Store is the durable memory of a controller. All methods may be called from
// several goroutines.
type Store interface {
	// PutList records a frozen list.
	PutList(ctx context.Context, l List) error
	// List is a frozen list, or ErrNotFound.
	List(ctx context.Context, id string) (List, error)

	// CreateSurvey records a survey with its chunks. When there is one with
	// the same Request, that one is returned and nothing changes.
	CreateSurvey(ctx context.Context, s Survey) (Survey, error)
	// Survey is a survey's record, or ErrNotFound.
	Survey(ctx context.Context, id string) (Survey, error)
	// Surveys are the surveys that have not ended, oldest first.
	Surveys(ctx context.Context) ([]Survey, error)
	// AllSurveys are the surveys, those that have ended too, oldest first.
	AllSurveys(ctx context.Context) ([]Survey, error)
	// SetPhase moves a survey on. The first end stands.
	SetPhase(ctx context.Context, id string, p Phase, reason string) (Survey, error)
	// CancelSurvey withdraws a survey from Claim. Its chunks still have to be
	// told.
	CancelSurvey(ctx context.Context, id string) error
	// PauseSurvey withdraws a survey from Claim until it is no longer paused.
	// Leases that are held stay.
	PauseSurvey(ctx context.Context, id string, paused bool) error
	// Missing are the names, at most n, of selected probes that the survey waits
	// for: there are targets that only they may measure, and none of these has
	// a session.
	Missing(ctx context.Context, survey string, n int) ([]string, error)
	// Tally counts the targets of a survey by how they ended.
	Tally(ctx context.Context, id string) (lease.Tally, error)

	// PutProbe records what a probe says of itself: Version and Host.
	PutProbe(ctx context.Context, p Probe) error
	// Probe is the record of a probe, or ErrNotFound.
	Probe(ctx context.Context, name string) (Probe, error)
	// AllProbes are the records of all probes by name.
	AllProbes(ctx context.Context) ([]Probe, error)
	// DrainProbe withdraws a probe from Claim, or readmits it. It may be one
	// that was never heard of.
	DrainProbe(ctx context.Context, name string, drained bool) error
	// LimitProbe sets the rate limit of a probe, in new connections per second; 0
	// is none. It may be one that was never heard of.
	LimitProbe(ctx context.Context, name string, rate float64) error
	// Limits are the rate limits of all probes that have one.
	Limits(ctx context.Context) (map[string]float64, error)
	// PutEvent records an event of a probe, once, and that its spool came so far.
	PutEvent(ctx context.Context, e ProbeEvent) error
	// Events are the newest n events of a probe, oldest first.
	Events(ctx context.Context, probe string, n int) ([]*pb.ProbeEvent, error)
	// SpoolThrough is the highest sequence that came from a spool, by PutEvent
	// or in a batch that was not rejected; 0 when nothing did.
	SpoolThrough(ctx context.Context, spool string) (uint64, error)

	// OpenSession makes s the session of its probe, from now on: Since and Heard
	// are not the caller's. It is a TakenError, and nothing changes, while
	// another instance has a session that was heard of within stale. The same
	// instance takes over.
	OpenSession(ctx context.Context, s Session, stale time.Duration) error
	// Beat says that the probe was heard of, and its state. It is ErrNotFound when
	// the session is no longer the probe's.
	Beat(ctx context.Context, probe, id string, state []byte) error
	// CloseSession ends a session, if it is still the probe's.
	CloseSession(ctx context.Context, probe, id string) error
	// Sessions are those that were heard of within stale, by the name of the
	// probe.
	Sessions(ctx context.Context, stale time.Duration) ([]Session, error)
	// Summon asks probes to go to a controller with these addresses. It is about
	// the sessions that they have now, and over with them.
	Summon(ctx context.Context, probes, addresses []string) error
	// Summoned are the probes with a session at a controller that are to go to
	// another one, and its addresses.
	Summoned(ctx context.Context, controller string) (map[string][]string, error)
	// Freeze keeps every TTL, whichever controller looks at it, from lapsing for d
	// from now on. The latest end counts.
	Freeze(ctx context.Context, d time.Duration) error
	// Probes are the probes that were ever offered a lease of the survey.
	Probes(ctx context.Context, survey string) ([]Probe, error)

	// Claim offers the next pending chunk that the probe may measure, of the
	// oldest survey first, to it. It is ErrNotFound when there is none.
	//
	// A probe that is drained may measure nothing; else what is pinned to it, and
	// what is not pinned in a survey that it was selected for. With Copies, where
	// it is the next source and not the next chunk, a
	// probe that was offered one copy of a source never gets another one, and what
	// is left of a copy that others were offered only when no copy of the source
	// waits for its first probe: else there might be no probe left for it.
	Claim(ctx context.Context, probe, instance string) (Chunk, error)
	// HasWork reports whether Claim might find something for some probe. It is
	// cheap.
	HasWork(ctx context.Context) (bool, error)
	// Apply runs an event through the lease machine of a chunk and stores the
	// batch, which may be nil, if the machine keeps it. It returns the state
	// after the event, and what to do. A Freeze adds to Expire.FrozenUntil.
	Apply(ctx context.Context, k Key, e lease.Event, b *Batch) (Chunk, []lease.Effect, error)
	// Due are the chunks with a deadline that has passed.
	Due(ctx context.Context) ([]Key, error)
	// HeldBy are the chunks whose newest lease is the probe's, or may be.
	HeldBy(ctx context.Context, probe string) ([]Chunk, error)
	// Open are the chunks of a survey whose leases are not over.
	Open(ctx context.Context, survey string) ([]Key, error)
	// Pinned are the chunks of all surveys that are not over and that no other
	// probe may measure, those that are banned left out.
	Pinned(ctx context.Context, probe string) ([]Key, error)

	// Unwritten are the chunks of all surveys that are over and not written.
	Unwritten(ctx context.Context) ([]Key, error)
	// TakeUnwritten are at most limit of them, which are the writer's for d from
	// now on: no other writer gets them.
	TakeUnwritten(ctx context.Context, writer string, d time.Duration, limit int) ([]Key, error)
	// Finished are the running surveys without a chunk that is left to write.
	Finished(ctx context.Context) ([]string, error)
	// Batches are the batches that were kept for a chunk, in the order of
	// arrival.
	Batches(ctx context.Context, k Key) (Chunk, []Batch, error)
	// Written records that a chunk that is over is in the dataset, with these
	// items, and drops its batches. What was written stays as it is. It
	// reports whether no chunk of the survey is left to write.
	Written(ctx context.Context, k Key, items []lease.Item) (last bool, err error)
	// Late are the chunks of all surveys that are in the dataset and for which
	// results have come since, of targets that have none there.
	Late(ctx context.Context) ([]Key, error)
	// LateBatches are these results as the chunk's n-th late file is to have
	// them. It is the same for everybody until LateDone: what comes meanwhile is
	// for the next one. The chunk's items must not be changed.
	LateBatches(ctx context.Context, k Key) (c Chunk, n uint32, bs []Batch, err error)
	// LateWritten records that the n-th late file is in the dataset: with it the
	// items are these. It changes nothing when that file is done.
	LateWritten(ctx context.Context, k Key, n uint32, items []lease.Item) error
	// LateDone drops the batches of the n-th late file, if it was not done before.
	LateDone(ctx context.Context, k Key, n uint32) error
	// Settle divides the survey's pending chunks that are partly measured:
	// what was measured is over and can be written, the rest becomes a chunk
	// with a new number.
	Settle(ctx context.Context, survey string) error

	Close() error
}
