package spool

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	bolt "go.etcd.io/bbolt"
)

// OnFull says what happens when the spool is at its limit.
type OnFull uint8

const (
	Keep       OnFull = iota // nothing new is started
	DropOldest               // the oldest records make room
)

const (
	groupRecords = 64                     // that many records are not kept waiting,
	groupTime    = 200 * time.Millisecond // and none longer than this
	retryAfter   = time.Second            // after a write that failed
)

// Config is what a Spool needs. Path and Logger are required.
type Config struct {
	Path string
	// Limit is in bytes of what is stored; default 1 GiB. The file is larger
	// by what a B+tree wastes (measured: up to a half), and by the results
	// of what was under way when the limit was reached; it never shrinks.
	Limit  int64
	OnFull OnFull
	// BootID tells a restart of the machine from one of the process. The
	// default is the kernel's.
	BootID string
	Logger hclog.Logger
}

// Spool is a journal and a queue in one file. All methods may be called at any
// time from any goroutine.
type Spool struct {
	cfg Config
	log hclog.Logger
	db  *bolt.DB

	wake chan struct{} // there may be something to write
	done chan struct{} // the writer has ended

	// fault, in tests, is asked before every commit.
	fault func() error

	mu      sync.Mutex
	durable *state        // replaced by the writer only
	changed chan struct{} // closed when there are more records to send
	ops     []*op
	fresh   []*pending    // not durable yet, in order
	weight  int64         // of fresh
	acks    map[uint64]ID // not durable yet
	refused uint64        // leases, not counted durably yet
	begun   bool          // the run is durable
	trouble error         // of the last flush
	retry   time.Time     // when the next may be
	broken  error         // nothing works any more
	closing bool
	// finished is told of leases that are over.
	finished func(Lease)
	// ackedSince is when the oldest of acks came, at most.
	ackedSince time.Time
}

// Recovery is what Open found.
type Recovery struct {
	Created  bool // there was no file
	Crashed  bool // the last process did not close the spool
	Rebooted bool // the machine was started since
	// Leases that were accepted and are not over.
	Leases []Held
}

// Held is a lease as the last process left it.
type Held struct {
	Lease Lease
	Offer []byte // as given to Accept
	// Interrupted were started and have no result. They are to be reported so
	// and never to be run again.
	Interrupted []uint32
	// Fresh were never started: they can be measured or given back.
	Fresh []uint32
	// Queued is how many records of the lease were not acknowledged.
	Queued int
}

// Open opens the spool, or creates it. The error is an [ErrLocked], a
// [*CorruptError], or one of the file system.
func Open(cfg Config) (*Spool, *Recovery, error) {
	if cfg.Limit <= 0 {
		cfg.Limit = 1 << 30
	}
	if cfg.BootID == "" {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, nil, err
		}
		cfg.BootID = strings.TrimSpace(string(b))
	}
	db, created, err := openFile(cfg.Path)
	if err != nil {
		return nil, nil, err
	}
	s := &Spool{
		cfg: cfg, log: cfg.Logger.Named("spool"), db: db,
		wake: make(chan struct{}, 1), done: make(chan struct{}), changed: make(chan struct{}), acks: make(map[uint64]ID),
	}
	r, err := s.begin(created)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	go s.write()
	return s, r, nil
}

// OnFinished says who is told, from now on, of every lease that is over: all of
// its targets have a record and all of these were acknowledged. f must not block
// nor call the Spool.
func (s *Spool) OnFinished(f func(Lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = f
}

// begin loads the file and begins a new run.
func (s *Spool) begin(created bool) (*Recovery, error) {
	r := &Recovery{Created: created}
	err := guard(s.cfg.Path, func() error {
		return s.db.View(func(tx *bolt.Tx) (err error) {
			if s.durable, err = load(tx); err != nil {
				return err
			}
			for name, l := range s.durable.leases {
				h := Held{Lease: name, Queued: s.durable.queued[name]}
				if _, h.Offer, err = parseOffer(tx.Bucket(bucketLeases).Get(name.key())); err != nil {
					return err
				}
				h.Interrupted = l.targets.list(func(i uint32) bool { return l.started.has(i) && !l.settled.has(i) })
				h.Fresh = l.targets.list(func(i uint32) bool { return !l.started.has(i) && !l.settled.has(i) })
				r.Leases = append(r.Leases, h)
			}
			return nil
		})
	})
	if err != nil {
		return nil, s.sorted(err)
	}
	slices.SortFunc(r.Leases, func(a, b Held) int {
		return cmp.Or(cmp.Compare(a.Lease.Survey, b.Lease.Survey), cmp.Compare(a.Lease.Chunk, b.Lease.Chunk), cmp.Compare(a.Lease.Epoch, b.Lease.Epoch))
	})
	detail := "first start"
	if n := len(s.durable.runs); n > 0 {
		last := s.durable.runs[n-1]
		r.Crashed, r.Rebooted = !last.Closed, last.Boot != s.cfg.BootID
		detail = "after a stop"
	}
	if r.Crashed {
		detail = fmt.Sprintf("the process ended without closing the spool, with %d leases", len(r.Leases))
		if r.Rebooted {
			detail = fmt.Sprintf("the machine stopped without warning, with %d leases", len(r.Leases))
		}
		s.put(newEvent(EventCrashFound, detail))
		detail = "after a crash"
	}
	s.put(newEvent(EventStart, detail))
	// A disk that is full now does not keep the probe from sending what it
	// has, which makes room.
	s.flush()
	return r, s.broken
}

func newEvent(kind EventKind, detail string) *pending {
	return newPending(Record{Kind: KindEvent, Time: time.Now(), Data: Event{kind, detail}.Data()})
}

// newID is a random id: it cannot have been given before.
func newID() (id ID) {
	rand.Read(id[:]) // never fails
	return id
}

// Close makes everything durable that was appended and closes the file. The
// error says what could not be written: it is lost.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return ErrClosed
	}
	s.put(newEvent(EventStop, ""))
	s.closing = true
	s.mu.Unlock()
	s.poke()
	<-s.done

	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	var err error
	if reason := orElse(s.broken, s.trouble); reason != nil {
		err = fmt.Errorf("%d records are lost: %w", len(s.fresh), reason)
	}
	var corrupt *CorruptError
	if errors.As(s.broken, &corrupt) {
		return err // bbolt may have panicked with its locks held
	}
	return errors.Join(err, s.db.Close())
}
