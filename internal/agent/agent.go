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
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// Runner makes measurements. It is measure.Runner but for tests.
type Runner interface {
	// Submit queues one target, whose address is known. begun is called when its
	// turn has come, before its first SYN, done exactly once, at its end; both by a
	// goroutine of the engine, which they must not block.
	Submit(t measure.Target, begun func(), done func(measure.Measurement))
	// SetRate bounds new connections per second from now on; 0: they are not
	// bounded. It may be called at any time.
	SetRate(rate float64)
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
	BootID  string // of the kernel; may be empty
	// LookAtHost reads Host again, while the probe runs; nil: it does not change.
	LookAtHost func() (*pb.Host, error)
	// Session and Results are connections to the controller. They should be
	// two: heartbeats must not wait behind results.
	Session, Results grpc.ClientConnInterface
	// NewRunner makes the engine for a survey. Its error refuses the lease. The
	// rate is set by the Agent.
	NewRunner func(*pb.SurveySpec) (Runner, error)
	Policy    targets.Policy
	// Guard is the policy of the probe's operator, asked instead of Policy;
	// nil: there is none. It is asked before a target is begun; a Runner has to
	// ask it before every SYN, see [Permit].
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
	// Prefer is told which controllers to try first, host:port, before the next
	// connection is made: the one that was there drains. Nil: there is no choice.
	Prefer func(addresses []string)
	// SelfTest measures the controller's own TFO listeners, host:port, and says
	// what the way there does to TCP Fast Open, with a detail for people. The
	// error says why nothing could be found out, and keeps the probe from being
	// ready. It runs when there are reflectors, again when they change, and every
	// 30 minutes. Nil: there is none, and the probe is ready without.
	SelfTest func(ctx context.Context, reflectors []string) (pb.NearPath, string, error)
	// Tasks does what has two ends; nil: such work is refused.
	Tasks Tasks
	// Wall is the wall clock; nil means time.Now. Durations never come from it.
	Wall func() time.Time
	// SinceBoot is a clock that nobody sets and that goes on while the machine
	// sleeps; nil means tfo.SinceBoot.
	SinceBoot func() time.Duration
	// DialDNS makes the connections to DNS servers, for another server or from
	// another network namespace; nil means net.Dialer.
	DialDNS func(ctx context.Context, network, address string) (net.Conn, error)
	// Flush is how long Run waits, after its context is over, for results to
	// be acknowledged; default 30 s.
	Flush time.Duration
	// Finish is how long targets that are with the engine then have to come to
	// their end; 0: they are interrupted at once.
	Finish time.Duration
	// Backoff bounds the first pause before a reconnect. Later pauses are up to
	// 120 times as long. Default half of the controller's heartbeat, 1 to 10 s,
	// and 2 min.
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
	clock    *clock
	health   health

	poke    chan struct{} // the credit may have changed
	beat    chan struct{} // a heartbeat is due at once
	retreat *retreat

	unfinished atomic.Int64 // targets in hand without an outcome
	enough     atomic.Int64 // below this many, more are asked for
	active     atomic.Int64 // targets with a runner
	interval   atomic.Int64 // of heartbeats, as the last controller wants it
	rest       atomic.Int64 // first pause before a reconnect, as the last controller's heartbeat makes it; 0: none was heard of
	done       atomic.Uint64
	refused    atomic.Uint64 // of done, by the policy

	mu        sync.Mutex
	draining  bool
	works     map[string]*work // by reference
	executors map[string]*executor
	running   map[*executor]bool // these, and those that come to their end
	ending    sync.WaitGroup     // the latter
	ended     chan struct{}      // closed by the next end of a lease
	size      int                // of the newest lease
	limit     float64            // the controller's, of connections per second; 0: none
}

// New makes a probe that does nothing before Run.
func New(cfg Config) *Agent {
	if cfg.Flush == 0 {
		cfg.Flush = 30 * time.Second
	}
	if cfg.OnWelcome == nil {
		cfg.OnWelcome = func(*pb.Welcome) {}
	}
	if cfg.OnEnd == nil {
		cfg.OnEnd = func(error) {}
	}
	if cfg.Prefer == nil {
		cfg.Prefer = func([]string) {}
	}
	if cfg.Wall == nil {
		cfg.Wall = time.Now
	}
	if cfg.SinceBoot == nil {
		cfg.SinceBoot = tfo.SinceBoot
	}
	a := &Agent{
		cfg: cfg, log: cfg.Logger.Named("agent"), instance: rand.Text(), clock: newClock(cfg.Wall, cfg.SinceBoot), retreat: newRetreat(),
		poke: make(chan struct{}, 1), beat: make(chan struct{}, 1), ended: make(chan struct{}),
		works: make(map[string]*work), executors: make(map[string]*executor), running: make(map[*executor]bool),
	}
	a.health.host, a.health.reflectors = cfg.Host, make(chan []string, 1)
	a.turn.freed = make(chan struct{})
	a.uplink = newUplink(a)
	if cfg.Spool != nil {
		cfg.Spool.OnFinished(func(l spool.Lease) { a.finished(l.String()) })
	}
	return a
}

// Run takes and does work until ctx is over. Then it says so, lets what is
// running come to its end for a while, gives back what was not started, waits
// for results to be acknowledged, and returns nil. Otherwise it returns why no
// controller will ever take it.
func (a *Agent) Run(ctx context.Context) error {
	life, end := context.WithCancel(context.Background())
	defer end()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end() // before Wait
	defer a.retreat.leave()
	failed, over := make(chan error, 1), make(chan struct{})
	a.recover()
	wg.Go(func() { a.uplink.run(life) })
	wg.Go(func() { a.watch(life) })
	wg.Go(func() { a.selfTests(life) })
	wg.Go(func() {
		defer close(over)
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
	a.retreat.announce()
	a.drain()
	a.flush()
	if a.cfg.Tasks != nil {
		a.cfg.Tasks.Close()
	}
	a.retreat.leave()
	await(over)
	return nil
}

// flush waits until every lease is over and its last result acknowledged.
func (a *Agent) flush() {
	late := time.After(a.cfg.Flush)
	for {
		a.mu.Lock()
		n, ended := len(a.works), a.ended
		a.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-ended:
		case <-late:
			a.log.Warn("results were not acknowledged in time", "leases", n)
			return
		}
	}
}

// drain ends all work: every lease in hand comes to its end.
func (a *Agent) drain() {
	a.mu.Lock()
	a.draining = true
	for _, e := range a.executors {
		a.wind(e)
	}
	a.mu.Unlock()
	a.look()
	a.ending.Wait()
}

// wind lets an executor come to its end: it begins nothing any more. It is
// called with the lock held.
func (a *Agent) wind(e *executor) {
	if a.executors[e.survey] != e {
		return // it does already
	}
	delete(a.executors, e.survey)
	a.ending.Go(func() {
		e.finish(a.cfg.Finish)
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.running, e)
	})
}

func (a *Agent) poked() { signalTo(a.poke) }

// signalTo leaves a signal, if there is none.
func signalTo(c chan struct{}) {
	select {
	case c <- struct{}{}:
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
	if r, _ := a.readiness(); r != pb.Readiness_READINESS_READY {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
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
		a.executors[w.ref.GetSurvey()], a.running[e] = e, true
		e.setRate(a.rateFor(l.GetSpec()))
	}
	w.executor = e
	a.works[w.name] = w
	a.size = len(w.targets)
	a.enough.Store(4 * int64(l.GetSpec().GetConcurrency()))
	a.unfinished.Add(int64(len(w.targets)))
	e.add(w)
	return 0, nil
}

// finished forgets a lease whose last batch was acknowledged.
func (a *Agent) finished(name string) {
	a.mu.Lock()
	delete(a.works, name)
	close(a.ended)
	a.ended = make(chan struct{})
	a.mu.Unlock()
	a.poked()
}

// cancel ends a lease. One to be forgotten belongs to somebody else by now.
// With another, all leases end that its survey has now, for they are cancelled
// together: what was not started is given back, what was comes to its end. The
// survey may come back before that, and gets an executor of its own, which has
// to wait for its turn: no address is measured by two at a time.
func (a *Agent) cancel(c *pb.Cancel) {
	name := refName(c.GetRef())
	a.mu.Lock()
	w, ok := a.works[name]
	if ok && c.GetForget() {
		delete(a.works, name)
	} else if ok && w.executor != nil && !a.draining {
		a.wind(w.executor)
	}
	a.mu.Unlock()
	if ok && c.GetForget() {
		w.withdraw()
		a.forget(w)
		a.poked()
	}
}

// retire stops an executor that had nothing to do for long.
func (a *Agent) retire(e *executor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.idle() && !a.draining {
		a.wind(e)
	}
}

// held lists the leases in hand, by name, and how far the probe goes in each.
func (a *Agent) held() ([]*pb.HeldLease, announcement) {
	n := announcement{asked: time.Now(), at: a.clock.boot()}
	a.mu.Lock()
	defer a.mu.Unlock()
	for e := range a.running {
		e.announce()
	}
	held := make([]*pb.HeldLease, 0, len(a.works))
	for _, w := range a.works {
		said, before := w.announced()
		held = append(held, &pb.HeldLease{Ref: w.ref, Taken: before})
		n.promises = append(n.promises, promise{w, said})
	}
	slices.SortFunc(held, func(x, y *pb.HeldLease) int { return int(int64(x.Ref.GetChunk()) - int64(y.Ref.GetChunk())) })
	return held, n
}
