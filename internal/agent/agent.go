package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"tfofleet/internal/agent/policy"
	"tfofleet/internal/agent/spool"
	"tfofleet/internal/measure"
	"tfofleet/internal/targets"
	pb "tfofleet/proto/tfofleet/v1"
)

// Runner makes measurements. It is measure.Runner but for tests.
type Runner interface {
	// Submit queues one target, whose address is known. done is called exactly
	// once, from a goroutine of the engine, and must not block.
	Submit(t measure.Target, done func(measure.Measurement))
	// Stop interrupts what is running and returns when the last done has
	// returned. What was never started comes back with Outcome 0, what was
	// running with OutcomeInterrupted.
	Stop()
}

// Config is what an Agent needs. All fields without a default are required.
type Config struct {
	Name    string
	Version string
	Host    *pb.Host
	// Session and Results are connections to the controller. They should be
	// two: heartbeats must not wait behind results.
	Session, Results grpc.ClientConnInterface
	// NewRunner makes the engine for a survey. Its error refuses the lease.
	NewRunner func(*pb.SurveySpec) (Runner, error)
	Policy    targets.Policy
	// Guard is the policy of the probe's operator, asked instead of Policy;
	// nil: there is none.
	Guard *policy.Guard
	// Spool keeps what must outlive the process; nil: nothing does. Leases are
	// those that it was opened with: what was started is reported as
	// interrupted, the rest is measured.
	Spool  *spool.Spool
	Leases []spool.Held
	// OnWelcome is told of every session that begins, OnEnd why a stream did.
	// Neither may block; nil: nobody is told.
	OnWelcome func(*pb.Welcome)
	OnEnd     func(error)
	// DialDNS makes the connections to DNS servers, for another server or from
	// another network namespace; nil means net.Dialer.
	DialDNS func(ctx context.Context, network, address string) (net.Conn, error)
	// Flush is how long Run waits, after its context is over, for results to
	// be acknowledged; default 30 s.
	Flush time.Duration
	// Finish is how long targets that are with the engine then have to come to
	// their end; 0: they are interrupted at once.
	Finish time.Duration
	// Backoff bounds the first pause before a reconnect; default 1 s. Later
	// pauses are up to 120 times as long.
	Backoff time.Duration
	Logger  hclog.Logger
}

// Agent is a probe.
type Agent struct {
	cfg      Config
	log      hclog.Logger
	instance string // random per process: who comes back with another one has forgotten everything
	uplink   *uplink
	turn     turns
	poke     chan struct{} // the credit may have changed

	unfinished atomic.Int64 // targets in hand without an outcome
	enough     atomic.Int64 // below this many, more are asked for

	mu        sync.Mutex
	draining  bool
	works     map[string]*work // by reference
	executors map[string]*executor
	size      int // of the newest lease
}

// New makes a probe that does nothing before Run.
func New(cfg Config) *Agent {
	if cfg.Flush == 0 {
		cfg.Flush = 30 * time.Second
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = time.Second
	}
	a := &Agent{
		cfg: cfg, log: cfg.Logger.Named("agent"), instance: rand.Text(), poke: make(chan struct{}, 1),
		works: make(map[string]*work), executors: make(map[string]*executor),
	}
	if cfg.OnWelcome == nil {
		a.cfg.OnWelcome = func(*pb.Welcome) {}
	}
	if cfg.OnEnd == nil {
		a.cfg.OnEnd = func(error) {}
	}
	a.turn.freed = make(chan struct{})
	a.uplink = newUplink(a)
	return a
}

// Run takes and does work until ctx is over. Then it interrupts what is running,
// gives back what was not started, waits for results to be acknowledged, and
// returns nil. Otherwise it returns why no controller will ever take it.
func (a *Agent) Run(ctx context.Context) error {
	life, end := context.WithCancel(context.Background())
	defer end()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end() // before Wait
	failed := make(chan error, 1)
	a.recover()
	wg.Go(func() { a.uplink.run(life) })
	wg.Go(func() {
		if err := a.sessions(life); err != nil {
			failed <- err
		}
	})
	select {
	case err := <-failed:
		a.drain()
		return err
	case <-ctx.Done():
	}
	a.drain()
	late := time.After(a.cfg.Flush)
	for {
		n, acked := a.uplink.unacked()
		if n == 0 && a.inHand() == 0 {
			return nil
		}
		select {
		case <-acked:
		case <-late:
			a.log.Warn("results were not acknowledged in time", "batches", n)
			return nil
		}
	}
}

// inHand is how many leases have not come to their end.
func (a *Agent) inHand() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.works)
}

// drain ends all work: every lease in hand comes to its end.
func (a *Agent) drain() {
	a.mu.Lock()
	a.draining = true
	executors := make([]*executor, 0, len(a.executors))
	for _, e := range a.executors {
		executors = append(executors, e)
	}
	clear(a.executors)
	a.mu.Unlock()
	a.poked()
	var wg sync.WaitGroup
	for _, e := range executors {
		wg.Go(func() { e.finish(a.cfg.Finish) })
	}
	wg.Wait()
}

func (a *Agent) poked() {
	select {
	case a.poke <- struct{}{}:
	default:
	}
}

// maxLeases bounds the leases in hand. Stragglers keep leases open long after
// most of their targets are done, so there may be many.
const maxLeases = 1024

// wanted is how many more leases the probe takes now: as many as it needs to
// have four times as many targets in hand as it measures at a time, so that
// neither a slow lease nor a slow controller lets the engine stand still.
func (a *Agent) wanted() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining || a.cfg.Spool != nil && !a.cfg.Spool.Credit() {
		return 0
	}
	n := 2 - len(a.works)
	if missing := a.enough.Load() - a.unfinished.Load(); missing > 0 {
		n = max(n, (int(missing)+a.size-1)/a.size)
	}
	return uint64(max(0, min(n, maxLeases-len(a.works))))
}

// accept takes a lease into hand, or says why not.
func (a *Agent) accept(l *pb.Lease) (pb.RefusalReason, error) {
	w, err := newWork(a, l)
	if err != nil {
		return pb.RefusalReason_REFUSAL_REASON_UNSUPPORTED, err
	}
	if a.inHandAlready(w.name) {
		return 0, nil
	}
	if err := a.record(w, l); err != nil {
		return pb.RefusalReason_REFUSAL_REASON_BUSY, err
	}
	reason, err := a.begin(w, l)
	if err != nil {
		a.forget(w)
	}
	return reason, err
}

func (a *Agent) inHandAlready(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.works[name]
	return ok
}

// begin hands the targets of a lease to the executor of its survey.
func (a *Agent) begin(w *work, l *pb.Lease) (pb.RefusalReason, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining {
		return pb.RefusalReason_REFUSAL_REASON_DRAINING, errors.New("the probe is stopping")
	}
	e, ok := a.executors[w.ref.GetSurvey()]
	if !ok {
		runner, err := a.cfg.NewRunner(l.GetSpec())
		if err != nil {
			return pb.RefusalReason_REFUSAL_REASON_UNSUPPORTED, err
		}
		e = newExecutor(a, w.ref.GetSurvey(), l.GetSpec(), runner)
		a.executors[w.ref.GetSurvey()] = e
	}
	a.works[w.name] = w
	a.size = len(w.targets)
	a.enough.Store(4 * int64(l.GetSpec().GetConcurrency()))
	a.unfinished.Add(int64(len(w.targets)))
	e.add(w)
	return 0, nil
}

// finished forgets a lease whose last batch was acknowledged.
func (a *Agent) finished(w *work) {
	a.mu.Lock()
	delete(a.works, w.name)
	a.mu.Unlock()
	a.poked()
}

// cancel ends a lease, and with it its survey here: all leases of a survey are
// cancelled together. One to be forgotten belongs to somebody else by now.
func (a *Agent) cancel(c *pb.Cancel) {
	name := refName(c.GetRef())
	a.mu.Lock()
	w, ok := a.works[name]
	var e *executor
	if ok && c.GetForget() {
		delete(a.works, name)
	} else if ok {
		e = a.executors[w.ref.GetSurvey()]
		delete(a.executors, w.ref.GetSurvey())
	}
	a.mu.Unlock()
	if !ok {
		return
	}
	if c.GetForget() {
		w.withdraw()
		a.forget(w)
		a.poked()
	}
	if e != nil {
		go e.stop()
	}
}

// retire stops an executor that had nothing to do for long.
func (a *Agent) retire(e *executor) {
	a.mu.Lock()
	idle := e.idle() && a.executors[e.survey] == e
	if idle {
		delete(a.executors, e.survey)
	}
	a.mu.Unlock()
	if idle {
		e.stop()
	}
}

// held lists the leases in hand, by name.
func (a *Agent) held() []*pb.HeldLease {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := make([]*pb.HeldLease, 0, len(a.works))
	for _, w := range a.works {
		held = append(held, &pb.HeldLease{Ref: w.ref, Taken: w.takenBefore()})
	}
	slices.SortFunc(held, func(x, y *pb.HeldLease) int { return int(int64(x.Ref.GetChunk()) - int64(y.Ref.GetChunk())) })
	return held
}
