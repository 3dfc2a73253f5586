package store

import (
	"context"
	"errors"
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
	Phase   Phase
	// Cancel: it was cancelled, and is Running until its leases are over.
	Cancel  bool
	Reason  string // why it failed, or what went wrong without failing it
	Created time.Time
	Ended   time.Time // zero while it runs
}

// Key names a chunk. Chunks from List.Chunks() on are the rests of others, see
// Settle.
type Key struct {
	Survey string
	Chunk  uint32
}

// Chunk is a chunk and its lease.
type Chunk struct {
	Key
	Source uint32 // the chunk of the list that its items are from
	lease.State
}

// Batch is a batch of results, opaque. (Key, Epoch, Sequence) names it for
// ever: storing it a second time changes nothing.
type Batch struct {
	Epoch    uint64
	Sequence uint64
	Probe    string
	Late     bool // it came when its lease was over
	Body     []byte
}

// Probe is what a probe said of itself.
type Probe struct {
	Name    string
	Version string
	Host    *pb.Host
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
	// Tally counts the targets of a survey by how they ended.
	Tally(ctx context.Context, id string) (lease.Tally, error)

	// PutProbe records what a probe says of itself.
	PutProbe(ctx context.Context, p Probe) error
	// Probes are the probes that were ever offered a lease of the survey.
	Probes(ctx context.Context, survey string) ([]Probe, error)

	// Claim offers the next pending chunk, of the oldest survey first, to a
	// probe. It is ErrNotFound when there is none.
	Claim(ctx context.Context, probe, instance string) (Chunk, error)
	// Apply runs an event through the lease machine of a chunk and stores the
	// batch, which may be nil, if the machine keeps it. It returns the state
	// after the event, and what to do.
	Apply(ctx context.Context, k Key, e lease.Event, b *Batch) (Chunk, []lease.Effect, error)
	// Due are the chunks with a deadline that has passed.
	Due(ctx context.Context) ([]Key, error)
	// HeldBy are the chunks whose newest lease is the probe's, or may be.
	HeldBy(ctx context.Context, probe string) ([]Chunk, error)
	// Open are the chunks of a survey whose leases are not over.
	Open(ctx context.Context, survey string) ([]Key, error)

	// Unwritten are the chunks of all surveys that are over and not written.
	Unwritten(ctx context.Context) ([]Key, error)
	// Batches are the batches that were kept for a chunk, in the order of
	// arrival.
	Batches(ctx context.Context, k Key) (Chunk, []Batch, error)
	// Written records that a chunk that is over is in the dataset, with these
	// items, and drops its batches. What was written stays as it is. It
	// reports whether no chunk of the survey is left to write.
	Written(ctx context.Context, k Key, items []lease.Item) (last bool, err error)
	// Settle divides the survey's pending chunks that are partly measured:
	// what was measured is over and can be written, the rest becomes a chunk
	// with a new number.
	Settle(ctx context.Context, survey string) error

	Close() error
}
