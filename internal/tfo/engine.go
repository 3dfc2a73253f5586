package tfo

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// Attempt asks for one TCP connection.
type Attempt struct {
	Kind    Kind
	Payload []byte // bytes to offer; idempotent by contract, for a SYN may arrive twice (RFC 7413, section 2.1)
	// SynLimit is how many payload bytes to offer for the SYN; the rest follows
	// the handshake. 0 = all.
	SynLimit int
	// Complete reports whether the response read so far is all there is to
	// come. Nil: the first bytes are enough.
	Complete    func(response []byte) bool
	ClearCookie bool          // delete the cookie cache entry of the address first
	Delay       time.Duration // rest before the attempt
	Timeout     time.Duration // for the handshake, and again for the response
}

// Sequence is a series of attempts against one remote address, one after the
// other. The engine calls it from one goroutine at a time; it must not block.
type Sequence interface {
	// Remote is where the attempts go. It does not change.
	Remote() netip.AddrPort
	// Next returns the next attempt, given the evidence of the one before (nil
	// at first), or false when the sequence is over. The evidence is the
	// sequence's to keep.
	Next(last *Evidence) (Attempt, bool)
	// Over is called once, after the last attempt. Cut is true when Stop or its
	// Gate came before Next ended the sequence.
	Over(cut bool)
}

// Gate is a Sequence that is asked again right before every SYN, after all
// rest and pacing: between the choice of an attempt and its SYN the world may
// have changed.
type Gate interface {
	// Permit reports whether the SYN may leave. Otherwise the sequence is over,
	// and cut. It is asked by the goroutine that calls Next.
	Permit() bool
}

// Config describes an engine.
type Config struct {
	// Rate limits new connections per second, over all shards; 0 = no limit.
	Rate float64
	// Concurrency limits the sequences under way at a time.
	Concurrency int
	// Hold is the rest between two sequences of one address.
	Hold time.Duration
	// NetNS is where the connections are made.
	NetNS NetNS
	// Shards is the number of event loops; 0 = one per processor.
	Shards int
	// Capture says whether evidence from the wire is wanted.
	Capture CaptureMode
}

// Engine makes attempts. It runs one epoll loop per shard, without a goroutine
// per connection.
//
// Sequences of one address always run on one shard and never at the same time:
// the kernel keys the cookie cache by address, not by port, so that two ports
// of one address would spoil each other's evidence.
type Engine struct {
	shards  []*shard
	pace    *pacer
	seed    maphash.Seed
	wg      sync.WaitGroup
	capture *capture
}

// NewEngine starts the event loops.
func NewEngine(cfg Config) (*Engine, error) {
	n := cfg.Shards
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	n = min(n, max(1, cfg.Concurrency))
	e := &Engine{pace: newPacer(cfg.Rate), seed: maphash.MakeSeed(), capture: openCapture(cfg.Capture, cfg.NetNS)}
	for i := range n {
		limit := cfg.Concurrency / n
		if i < cfg.Concurrency%n {
			limit++
		}
		s, err := newShard(cfg, max(1, limit), e.pace, e.capture)
		if err != nil {
			e.Stop()
			return nil, fmt.Errorf("attempt engine: %w", err)
		}
		e.shards = append(e.shards, s)
		e.wg.Go(s.run)
	}
	return e, nil
}

// Start queues a sequence. It never blocks; the caller bounds how many are
// queued. After Stop the sequence is cut at once.
func (e *Engine) Start(q Sequence) {
	addr := q.Remote().Addr().Unmap()
	s := e.shards[int(maphash.Comparable(e.seed, addr)%uint64(len(e.shards)))]
	s.submit(q)
}

// SetRate changes the rate of new connections per second, over all shards; 0 =
// no limit. It holds for every SYN from now on, also for those that wait for
// their time already. It may be called from any goroutine, also after Stop.
func (e *Engine) SetRate(rate float64) {
	if !e.pace.set(rate) {
		return
	}
	for _, s := range e.shards {
		s.repace()
	}
}

// Stop cuts every sequence short and waits until the last Over has returned.
func (e *Engine) Stop() {
	for _, s := range e.shards {
		s.stop()
	}
	e.wg.Wait()
	e.capture.close()
}

// Capture tells how the engine's look at the wire does.
func (e *Engine) Capture() CaptureStats { return e.capture.stats() }
