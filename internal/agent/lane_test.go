package agent

import (
	"context"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// slow is a runner that begins a target when it is told to.
type slow struct {
	mu    sync.Mutex
	queue []func(begin bool)
	taken int
}

func (r *slow) Submit(t measure.Target, begun func(), done func(measure.Measurement)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken++
	r.queue = append(r.queue, func(begin bool) {
		m := measure.Measurement{Target: t}
		if begin {
			begun()
			m.Outcome = measure.OutcomeMeasured
		}
		done(m)
	})
}

func (r *slow) SetRate(float64) {}

func (r *slow) begin(n int) {
	r.mu.Lock()
	now := r.queue[:n]
	r.queue = r.queue[n:]
	r.mu.Unlock()
	for _, f := range now {
		f(true)
	}
}

func (r *slow) Stop() {
	r.mu.Lock()
	left := r.queue
	r.queue = nil
	r.mu.Unlock()
	for _, f := range left {
		f(false)
	}
}

// TestLowRate: at a low rate few targets are marked as started before their turn,
// so that little is interrupted by a crash, little comes after a pause, and the log
// of contacts is not far ahead of the contacts.
func TestLowRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := openSpool(t, filepath.Join(t.TempDir(), "spool.db"))
		r := &slow{}
		b := newBench(t, &agenttest.Runner{}, func(c *Config) {
			c.Spool = s
			c.NewRunner = func(*pb.SurveySpec) (Runner, error) { return r, nil }
		})
		sp := spec()
		sp.Concurrency, sp.Rate = 512, 5
		var ts []measure.Target
		for i := range 400 {
			ts = append(ts, measure.Target{Addr: netip.AddrFrom4([4]byte{8, 0, byte(i >> 8), byte(i)}), Port: 443})
		}
		b.give(b.lease(sp, ts...))
		ahead := func(want int) {
			t.Helper()
			time.Sleep(time.Minute)
			synctest.Wait()
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.queue) != want {
				t.Errorf("%d are ahead, want %d", len(r.queue), want)
			}
		}
		ahead(leastAhead)
		r.begin(5)
		ahead(leastAhead)
		b.tighten(&pb.Limits{Rate: 2})
		ahead(leastAhead)
		for e := range b.running {
			e.setRate(100)
		}
		ahead(50)
		for e := range b.running {
			e.setRate(0)
		}
		ahead(512/2 + 16)
		for e := range b.running {
			e.setRate(5)
		}
		r.begin(260)
		ahead(512/2 + 16 - 260)
		r.begin(6)
		ahead(leastAhead)
		for e := range b.running {
			e.stop()
		}
	})
}

// TestLaneEnds: who waits for a place goes when there is none to come.
func TestLaneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(0)
		for range 16 {
			if !l.enter(t.Context()) {
				t.Fatal("no place")
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		said := make(chan bool, 2)
		go func() { said <- l.enter(ctx) }()
		synctest.Wait()
		stop()
		if <-said {
			t.Error("a place that is not there")
		}
		go func() { said <- l.enter(t.Context()) }()
		synctest.Wait()
		l.leave()
		if !<-said {
			t.Error("no place when one was given back")
		}
	})
}
