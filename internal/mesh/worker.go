package mesh

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// Config is what a Worker needs.
type Config struct {
	NetNS tfo.NetNS
	// Keys make the cookies of the listeners; those of a file outlive the
	// process.
	Keys []tfo.Key
	// MayListen is the policy: why a listener may not be opened, or nil, and which
	// sources it may answer; none: all that the task names. It is asked again and
	// again while the listener is open. Nil: there is none.
	MayListen func(port uint16, d time.Duration) (answer []netip.Prefix, err error)
	// Permit is the policy of connections, see measure.Settings.
	Permit func(measure.Target) (measure.Condition, bool)
	// Contacted notes a destination before it is contacted; with an error it is
	// not. Nil: nobody keeps that.
	Contacted func(netip.AddrPort) error
	// RateFor is the rate that is allowed where one is asked for; nil: that.
	RateFor func(float64) float64
	// Addresses are this host's, as others may reach it; nil means those of its
	// interfaces.
	Addresses func() ([]netip.Addr, error)
	Logger    hclog.Logger
}

// Report brings a part of a task's outcome to the controller. Over means that
// nobody wants it any more. It is called again with the same part after an
// error.
type Report = func(context.Context, *pb.ReportTaskRequest) (over bool, err error)

// Worker does a probe's tasks.
type Worker struct {
	cfg Config
	log hclog.Logger

	stopping context.Context
	stop     context.CancelFunc

	mu    sync.Mutex
	tasks map[string]*task
	wg    sync.WaitGroup
}

// task is one under way.
type task struct {
	end   chan struct{} // closed: it is to end, and to report what it has
	once  sync.Once
	state *pb.TaskState // how it was taken
}

func (t *task) stop() { t.once.Do(func() { close(t.end) }) }

// NewWorker makes a worker without tasks.
func NewWorker(cfg Config) *Worker {
	w := &Worker{cfg: cfg, log: cfg.Logger.Named("mesh"), tasks: make(map[string]*task)}
	w.stopping, w.stop = context.WithCancel(context.Background())
	return w
}

// Start begins a task and says how it was taken. A task that is known is left as
// it is: then it says so again.
func (w *Worker) Start(t *pb.Task, report Report) *pb.TaskState {
	state := &pb.TaskState{Id: t.GetId()}
	w.mu.Lock()
	defer w.mu.Unlock()
	if known, ok := w.tasks[t.GetId()]; ok {
		return known.state
	}
	if w.stopping.Err() != nil {
		state.Refused = "the probe is stopping"
		return state
	}
	this := &task{end: make(chan struct{}), state: state}
	var run func(out *outbox)
	switch work := t.GetWork().(type) {
	case *pb.Task_Listen:
		listeners, err := w.listen(work.Listen, state)
		if err != nil {
			state.Refused = err.Error()
			return state
		}
		run = func(out *outbox) { w.serve(this, listeners, out) }
	case *pb.Task_Connect:
		c, err := w.connector(work.Connect)
		if err != nil {
			state.Refused = err.Error()
			return state
		}
		run = func(out *outbox) { c.run(this, out) }
	default:
		state.Refused = fmt.Sprintf("a task of kind %T is not known to this probe", work)
		return state
	}
	w.tasks[t.GetId()] = this
	w.wg.Go(func() {
		out := newOutbox(w.stopping, t.GetId(), report, this, w.log)
		run(out)
		out.close()
		w.mu.Lock()
		delete(w.tasks, t.GetId())
		w.mu.Unlock()
	})
	return state
}

// End ends a task; what it has seen is reported.
func (w *Worker) End(id string) {
	w.mu.Lock()
	t, ok := w.tasks[id]
	w.mu.Unlock()
	if ok {
		t.stop()
	}
}

// Active is how many tasks are under way.
func (w *Worker) Active() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.tasks)
}

// Close ends all tasks and waits until they have reported, or nobody takes it.
func (w *Worker) Close() {
	w.mu.Lock()
	w.stop()
	for _, t := range w.tasks {
		t.stop()
	}
	w.mu.Unlock()
	w.wg.Wait()
}
