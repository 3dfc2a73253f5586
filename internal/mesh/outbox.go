package mesh

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// partSize is how much goes into a part: an arrival takes about 1 kB.
	partSize = 256
	// partAge is how long something waits for more.
	partAge = 300 * time.Millisecond
	// quietTime is how long nothing is sent where there is nothing to send. A part
	// without content finds out whether the task is still wanted.
	quietTime = 5 * time.Second
	// reportTime is how long a part may take with all its repetitions, stopTime
	// once the probe is stopping; after that the task is lost. A controller that
	// hears nothing for so long gives it up as well.
	reportTime = 20 * time.Second
	stopTime   = 5 * time.Second
	// roomFor is how much may wait; more is a controller that is gone.
	roomFor = 1 << 16
)

// outbox collects what a task brings, and sends it part by part. The last part
// says that all there was has been sent, or why not.
type outbox struct {
	id     string
	report Report
	task   *task
	log    hclog.Logger
	// stopping is done when the probe is.
	stopping context.Context

	mu           sync.Mutex
	arrivals     []*pb.Arrival
	alarms       []*pb.ListenerAlarm
	measurements []measure.Measurement
	dropped      int
	failed       string // why the task was cut short

	// Of the sending goroutine.
	part uint32
	last time.Time // when one was sent
	dead bool      // nobody takes parts any more

	more   chan struct{}
	closed chan struct{}
	over   chan struct{}
}

func newOutbox(stopping context.Context, id string, report Report, t *task, log hclog.Logger) *outbox {
	o := &outbox{stopping: stopping, id: id, report: report, task: t, log: log, more: make(chan struct{}, 1), closed: make(chan struct{}), over: make(chan struct{})}
	go o.send()
	return o
}

// arrived takes an arrival; it never blocks.
func (o *outbox) arrived(a *tfo.Arrival) {
	o.put(func() { o.arrivals = append(o.arrivals, measure.ArrivalToWire(a)) })
}

// alarm takes an alarm; it never blocks.
func (o *outbox) alarm(a tfo.Alarm) {
	o.put(func() { o.alarms = append(o.alarms, measure.AlarmToWire(a)) })
}

// measured takes a measurement; it never blocks.
func (o *outbox) measured(m measure.Measurement) {
	o.put(func() { o.measurements = append(o.measurements, m) })
}

func (o *outbox) put(add func()) {
	o.mu.Lock()
	if o.waiting() < roomFor {
		add()
	} else {
		o.dropped++
	}
	full := o.waiting() >= partSize
	o.mu.Unlock()
	if full {
		select {
		case o.more <- struct{}{}:
		default:
		}
	}
}

func (o *outbox) waiting() int { return len(o.arrivals) + len(o.alarms) + len(o.measurements) }

// cut says that the task ends before its time, and why.
func (o *outbox) cut(why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed == "" {
		o.failed = why.Error()
		o.log.Warn("a task ends before its time", "task", o.id, "reason", why)
	}
}

// close sends what is left, and the end.
func (o *outbox) close() {
	o.mu.Lock()
	dropped := o.dropped
	o.mu.Unlock()
	if dropped > 0 {
		o.cut(fmt.Errorf("it brought more than could be sent: %d records are lost", dropped))
	}
	close(o.closed)
	<-o.over
}

func (o *outbox) send() {
	defer close(o.over)
	o.last = time.Now()
	tick := time.NewTicker(partAge)
	defer tick.Stop()
	for last := false; !last; {
		select {
		case <-o.more:
		case <-tick.C:
		case <-o.closed:
			last = true
		}
		for o.sendPart(false) {
		}
	}
	o.sendPart(true)
}

// sendPart sends the next part, and reports whether more waits. The end is a
// part of its own.
func (o *outbox) sendPart(end bool) (more bool) {
	o.mu.Lock()
	nothing := o.waiting() == 0 && !end && time.Since(o.last) < quietTime
	arrivals, alarms, measurements := first(&o.arrivals), first(&o.alarms), first(&o.measurements)
	more = o.waiting() > 0
	o.mu.Unlock()
	if nothing || o.dead {
		return more
	}
	o.last = time.Now()
	req := &pb.ReportTaskRequest{Id: o.id, Part: o.part, Last: end}
	if end {
		req.Failed = o.failed // nobody puts anything any more
	}
	var err error
	if len(arrivals)+len(alarms) > 0 {
		req.Arrivals, err = measure.EncodeArrivals(&pb.ArrivalBatch{Arrivals: arrivals, Alarms: alarms})
	}
	if err == nil && len(measurements) > 0 {
		req.Measurements, err = measure.EncodeBatch(measurements)
	}
	if err != nil {
		o.log.Error("a part of a task cannot be sent", "task", o.id, "reason", err)
		o.dead = true
		o.task.stop()
		return more
	}
	o.part++
	o.deliver(req)
	return more
}

// first takes the first part of a list.
func first[T any](list *[]T) []T {
	n := min(len(*list), partSize)
	part := (*list)[:n:n]
	*list = (*list)[n:]
	return part
}

// deliver sends a part until it is taken, or nobody wants it.
func (o *outbox) deliver(req *pb.ReportTaskRequest) {
	ctx, cancel := context.WithTimeout(context.Background(), reportTime)
	defer cancel()
	defer context.AfterFunc(o.stopping, func() {
		select {
		case <-time.After(stopTime):
			cancel()
		case <-ctx.Done():
		}
	})()
	pause := 100 * time.Millisecond
	for {
		over, err := o.report(ctx, req)
		if err == nil {
			if over {
				o.dead = true
				o.task.stop()
			}
			return
		}
		if ctx.Err() != nil {
			o.log.Warn("a part of a task was not taken", "task", o.id, "part", req.GetPart(), "reason", err)
			o.dead = true
			o.task.stop()
			return
		}
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
		}
		pause = min(2*pause, 5*time.Second)
	}
}
