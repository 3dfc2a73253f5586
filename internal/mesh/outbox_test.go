package mesh

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// compress makes what all outboxes compress with: a bubble could not share it.
func compress(t *testing.T) {
	b, err := measure.EncodeArrivals(&pb.ArrivalBatch{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := measure.DecodeArrivals(b); err != nil {
		t.Fatal(err)
	}
}

func boxFor(ctx context.Context, report Report) (*outbox, *task) {
	t := &task{end: make(chan struct{})}
	return newOutbox(ctx, "t", report, t, hclog.NewNullLogger()), t
}

func ended(t *task) bool {
	select {
	case <-t.end:
		return true
	default:
		return false
	}
}

// Everything that was put in comes out once, in order, whatever the sizes, and
// the last part comes when all has.
func TestOutboxLosesNothing(t *testing.T) {
	compress(t)
	synctest.Test(t, func(t *testing.T) {
		var items []uint64
		arrivals, alarms, parts, lasts := 0, 0, uint32(0), 0
		o, task := boxFor(t.Context(), func(_ context.Context, req *pb.ReportTaskRequest) (bool, error) {
			if req.GetPart() != parts || lasts > 0 {
				t.Errorf("part %d after %d parts, %d of them the last", req.GetPart(), parts, lasts)
			}
			parts++
			if req.GetLast() {
				lasts++
			}
			if b := req.GetMeasurements(); b != nil {
				ms, err := measure.DecodeBatch(b)
				if err != nil || len(ms) > partSize {
					t.Error(len(ms), err)
				}
				for _, m := range ms {
					items = append(items, m.Item)
				}
			}
			if b := req.GetArrivals(); b != nil {
				as, als, err := measure.DecodeArrivals(b)
				if err != nil || len(as) > partSize {
					t.Error(len(as), err)
				}
				arrivals, alarms = arrivals+len(as), alarms+len(als)
			}
			return false, nil
		})
		const n = 3*partSize + 7
		for i := range uint64(n) {
			o.measured(measure.Measurement{Target: measure.Target{Item: i}, Outcome: measure.OutcomeMeasured})
			o.arrived(&tfo.Arrival{})
			o.alarm(tfo.Alarm{Kind: tfo.AlarmQueueNear})
			if i == partSize/2 {
				time.Sleep(2 * partAge) // a part that is not full goes when it is old
				synctest.Wait()
				if len(items) != partSize/2+1 {
					t.Errorf("%d measurements sent after %v", len(items), 2*partAge)
				}
			}
		}
		o.close()
		for i, item := range items {
			if item != uint64(i) {
				t.Fatalf("measurement %d at %d", item, i)
			}
		}
		if len(items) != n || arrivals != n || alarms != n || lasts != 1 {
			t.Errorf("%d measurements, %d arrivals, %d alarms of %d, %d last parts", len(items), arrivals, alarms, n, lasts)
		}
		if ended(task) {
			t.Error("the task was ended")
		}
	})
}

// A task that has nothing to say asks now and then whether it is still wanted:
// the end may have been said to nobody, and the controller may be gone.
func TestOutboxQuiet(t *testing.T) {
	compress(t)
	for _, tt := range []struct {
		name   string
		answer func(part uint32) (bool, error)
		ended  time.Duration // at the latest
	}{
		{"nobody wants it any more", func(part uint32) (bool, error) { return part == 3, nil }, 4 * (quietTime + partAge)},
		{"the controller is gone", func(uint32) (bool, error) { return false, errors.New("away") }, quietTime + reportTime + 6*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, next := time.Now(), uint32(0)
				o, task := boxFor(t.Context(), func(_ context.Context, req *pb.ReportTaskRequest) (bool, error) {
					over, err := tt.answer(req.GetPart())
					if err == nil {
						if req.GetPart() != next || req.GetLast() || time.Since(begun) < time.Duration(next+1)*quietTime {
							t.Errorf("part %v after %v", req, time.Since(begun))
						}
						next++
					}
					return over, err
				})
				<-task.end
				if took := time.Since(begun); took > tt.ended {
					t.Errorf("ended after %v", took)
				}
				o.close()
			})
		})
	}
}

// Where something is lost, the last part says so or never comes: the controller
// must not take what it has for all there is.
func TestOutboxIncomplete(t *testing.T) {
	compress(t)
	for _, tt := range []struct {
		name   string
		report Report
		stop   bool // the probe is stopping
		put    int
		over   time.Duration // when the outbox is through, at the latest
		ended  bool
	}{
		{"the controller is away for good", func(context.Context, *pb.ReportTaskRequest) (bool, error) { return false, errors.New("away") }, false, 1, reportTime + 6*time.Second, true},
		{"it is away, and the probe stops", func(context.Context, *pb.ReportTaskRequest) (bool, error) { return false, errors.New("away") }, true, 1, stopTime + 6*time.Second, true},
		{"it hangs", func(ctx context.Context, _ *pb.ReportTaskRequest) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		}, false, 1, reportTime + time.Second, true},
		{"nobody wants it", func(context.Context, *pb.ReportTaskRequest) (bool, error) { return true, nil }, false, 1, time.Second, true},
		{"more came than has room", func(context.Context, *pb.ReportTaskRequest) (bool, error) { return false, nil }, false, roomFor + 1, time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stopping, stop := context.WithCancel(t.Context())
				defer stop()
				taken := 0
				var failed []string // what the last part said
				hold := make(chan struct{})
				o, task := boxFor(stopping, func(ctx context.Context, req *pb.ReportTaskRequest) (bool, error) {
					<-hold
					over, err := tt.report(ctx, req)
					if err == nil {
						taken++
					}
					if req.GetLast() {
						failed = append(failed, req.GetFailed())
					}
					return over, err
				})
				o.put(func() { o.alarms = append(o.alarms, &pb.ListenerAlarm{}) })
				time.Sleep(partAge + time.Millisecond)
				synctest.Wait() // the first part is held
				for range tt.put {
					o.put(func() { o.alarms = append(o.alarms, &pb.ListenerAlarm{}) })
				}
				begun := time.Now()
				close(hold)
				if tt.stop {
					stop()
				}
				o.close()
				if took := time.Since(begun); took > tt.over {
					t.Errorf("took %v", took)
				}
				if ended(task) != tt.ended {
					t.Errorf("the task has ended: %v", ended(task))
				}
				if tt.name == "more came than has room" {
					if len(failed) != 1 || !strings.Contains(failed[0], "1 records are lost") {
						t.Errorf("the last part: %q", failed)
					}
				} else if len(failed) > 0 {
					t.Errorf("a last part: %q", failed)
				}
				if tt.name == "nobody wants it" && taken != 1 {
					t.Errorf("%d parts were sent to nobody", taken)
				}
			})
		})
	}
}
