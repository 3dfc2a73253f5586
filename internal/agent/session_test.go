package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/agent/policy"
	"tfofleet/internal/agent/spool"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestHello: the full state of the probe is in it.
func TestHello(t *testing.T) {
	d := newDesk(t)
	s, _ := openSpool(t, filepath.Join(t.TempDir(), "spool.db"))
	d.run(d.probe(&agenttest.Runner{}, func(c *Config) { c.Spool, c.BootID = s, "boot" }))
	d.until("a heartbeat", func() bool {
		return slices.ContainsFunc(d.said, func(m *pb.SessionRequest) bool { return m.GetHeartbeat() != nil })
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	h, st := d.hellos[0], s.Status()
	if h.GetBootId() != "boot" || len(h.GetCapabilities()) == 0 || h.GetInstance() == "" || h.GetStatus().GetReadiness() != pb.Readiness_READINESS_READY ||
		h.GetStatus().GetSpool().GetId() != st.ID.String() || h.GetStatus().GetSpool().GetLimit() != 1<<30 {
		t.Errorf("Hello is %v", h)
	}
	if off := d.last().GetClockOffset(); off == nil || off.AsDuration().Abs() > time.Second {
		t.Errorf("the clock of this machine is off itself by %v", off)
	}
}

// TestRenewal: a session that has reached its age is followed by another, which
// is opened before it ends; no lease gets lost on the way, and none is measured
// twice, whatever is under way at that moment.
func TestRenewal(t *testing.T) {
	d := newDesk(t)
	d.welcome = func(_ *pb.Hello, w *pb.Welcome) error {
		w.MaxAge, w.HeartbeatInterval = durationpb.New(60*time.Millisecond), durationpb.New(2*time.Second)
		return nil
	}
	d.late, d.slow = true, 2*time.Millisecond
	sp := spec()
	const leases, each = 100, 5
	for i := range leases {
		d.queue = append(d.queue, lease("s", uint32(i), each, sp))
	}
	runner := &agenttest.Runner{Concurrency: 4, Took: func(measure.Target) time.Duration { return time.Millisecond }}
	d.run(d.probe(runner, nil))
	d.until("all is measured, over some sessions", func() bool { return len(d.outcomes) == leases*each && len(d.held) == 0 && len(d.hellos) >= 4 })
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.alone != 1 {
		t.Errorf("%d of %d sessions began when there was no other", d.alone, len(d.hellos))
	}
	if len(d.missed) > 0 {
		t.Errorf("leases that a Hello did not know: %v", d.missed)
	}
	if len(d.dropped) > 0 {
		t.Errorf("leases of which only the probe knew that it has them: %v", d.dropped)
	}
	for _, h := range d.hellos {
		if h.GetInstance() != d.hellos[0].GetInstance() {
			t.Error("another instance")
		}
	}
	for at, n := range runner.Counts().Started {
		if n != 1 || len(d.outcomes[at]) != 1 {
			t.Errorf("%v was measured %d times and reported %v", at, n, d.outcomes[at])
		}
	}
	t.Logf("%d sessions", len(d.hellos))
}

// TestRenewalIsRefused: the session that is there goes on.
func TestRenewalIsRefused(t *testing.T) {
	d := newDesk(t)
	tries := 0
	d.welcome = func(_ *pb.Hello, w *pb.Welcome) error {
		w.MaxAge = durationpb.New(10 * time.Millisecond)
		d.mu.Lock()
		defer d.mu.Unlock()
		if tries++; tries > 1 && tries < 6 {
			d.happened()
			return status.Error(codes.Unavailable, "not now")
		}
		return nil
	}
	runner := &agenttest.Runner{}
	d.run(d.probe(runner, nil))
	d.until("some tries", func() bool { return tries >= 4 })
	d.mu.Lock()
	if d.now == nil || len(d.ends) > 0 || d.alone != 1 {
		t.Errorf("the session has ended: %v", d.ends)
	}
	d.queue = append(d.queue, lease("s", 0, 3, spec()))
	d.mu.Unlock()
	d.until("it works", func() bool { return len(d.outcomes) == 3 && len(d.hellos) > 1 })
}

// TestDrainOfController: the probe takes no more work, comes back no sooner than
// it was told to, and goes to the alternates first.
func TestDrainOfController(t *testing.T) {
	for _, cut := range []bool{false, true} { // whether the stream ends before
		d := newDesk(t)
		var mu sync.Mutex
		var preferred []string
		a := d.probe(&agenttest.Runner{}, func(c *Config) {
			c.Prefer = func(all []string) {
				mu.Lock()
				defer mu.Unlock()
				preferred = append(preferred, all...)
			}
		})
		d.run(a)
		begun := time.Now()
		d.tell(&pb.SessionResponse{Message: &pb.SessionResponse_Drain{Drain: &pb.Drain{ReconnectAfter: durationpb.New(150 * time.Millisecond), Alternates: []string{"b:1"}}}})
		d.until("no credit", func() bool {
			return slices.ContainsFunc(d.said, func(m *pb.SessionRequest) bool { return m.GetCredit() != nil && m.GetCredit().GetLeases() == 0 })
		})
		if cut {
			d.mu.Lock()
			d.now.stop()
			d.mu.Unlock()
		}
		d.until("it is back", func() bool { return len(d.hellos) == 2 })
		d.mu.Lock()
		if after := d.times[1].Sub(begun); after < 150*time.Millisecond {
			t.Errorf("back after %v", after)
		}
		if want := map[bool]int{false: 1, true: 2}[cut]; d.alone != want {
			t.Errorf("cut %v: %d sessions began alone", cut, d.alone)
		}
		d.mu.Unlock()
		mu.Lock()
		if !slices.Equal(preferred, []string{"b:1"}) {
			t.Errorf("preferred %v", preferred)
		}
		mu.Unlock()
	}
}

// TestDrainingIsSaid: before anything ends, and the session is closed in good
// order after the last result.
func TestDrainingIsSaid(t *testing.T) {
	d := newDesk(t)
	release := make(chan struct{})
	runner := &agenttest.Runner{Script: func(x measure.Target) measure.Measurement { <-release; return agenttest.Healthy(x) }}
	d.queue = append(d.queue, lease("s", 0, 1, spec()))
	a := d.probe(runner, func(c *Config) { c.Finish = time.Minute })
	stop := d.run(a)
	d.until("the lease is taken", func() bool { return len(d.held) == 1 && runner.Counts().Running == 1 })
	go stop()
	d.until("Draining, and a heartbeat that says so", func() bool {
		return slices.ContainsFunc(d.said, func(m *pb.SessionRequest) bool { return m.GetDraining() != nil }) && d.last().GetReadiness() == pb.Readiness_READINESS_DRAINING
	})
	d.mu.Lock()
	if len(d.results) > 0 {
		t.Errorf("it was cut: %v", d.results)
	}
	d.mu.Unlock()
	close(release)
	stop()
	d.until("the result, and a good end", func() bool { return len(d.results) == 1 && len(d.ends) == 1 && d.ends[0] == nil })
	if o := d.results[0].GetOutcomes(); len(o) != 1 || o[0] != pb.Outcome_OUTCOME_MEASURED {
		t.Errorf("outcomes %v", o)
	}
}

// TestLimits: of the rates of survey, operator and controller the least holds,
// from the moment it changes, for the engine that runs.
func TestLimits(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		if err := writeFile(file, text); err != nil {
			t.Fatal(err)
		}
	}
	write("rate: 30")
	guard, err := policy.Open(file, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	d := newDesk(t)
	d.welcome = func(_ *pb.Hello, w *pb.Welcome) error { w.Limits = &pb.Limits{Rate: 25}; return nil }
	runner := &agenttest.Runner{Took: func(measure.Target) time.Duration { return time.Hour }}
	sp := spec()
	sp.Rate = 50
	d.queue = append(d.queue, lease("s", 0, 1, sp))
	a := d.probe(runner, func(c *Config) { c.Guard = guard })
	d.run(a)
	rate := func(want float64) {
		t.Helper()
		d.until(fmt.Sprintf("rate %v", want), func() bool {
			r := runner.Counts().Rates
			return len(r) > 0 && r[len(r)-1] == want
		})
	}
	rate(25)
	d.limits(10)
	rate(10)
	d.limits(100)
	rate(30)
	write("rate: 5")
	if err := guard.Reload(); err != nil {
		t.Fatal(err)
	}
	a.PolicyReloaded()
	rate(5)
	d.limits(0)
	write("rate: 1000")
	if err := guard.Reload(); err != nil {
		t.Fatal(err)
	}
	a.PolicyReloaded()
	rate(50)
	// Without a policy the controller's holds as well.
	b := newBench(t, &agenttest.Runner{}, nil)
	b.tighten(&pb.Limits{Rate: 7})
	for asked, want := range map[float64]float64{0: 7, 3: 3, 70: 7} {
		if got := b.rateFor(&pb.SurveySpec{Rate: asked}); got != want {
			t.Errorf("asked for %v, got %v, want %v", asked, got, want)
		}
	}
}

// TestSkew: where there is no common version, there is nothing to try again.
func TestSkew(t *testing.T) {
	told, err := status.New(codes.FailedPrecondition, "no").WithDetails(&errdetails.ErrorInfo{
		Reason: SkewReason, Domain: "tfofleet", Metadata: map[string]string{"protocol_min": "2", "protocol_max": "4"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		welcome func(*pb.Hello, *pb.Welcome) error
		want    SkewError
		say     string
	}{
		"refused":              {func(*pb.Hello, *pb.Welcome) error { return told.Err() }, SkewError{2, 4}, "older than its controller"},
		"a version of its own": {func(_ *pb.Hello, w *pb.Welcome) error { w.Protocol = 9; return nil }, SkewError{9, 9}, "older"},
		"none":                 {func(_ *pb.Hello, w *pb.Welcome) error { w.Protocol = 0; return nil }, SkewError{}, "no protocol that is known here, this probe 1 to 1"},
	} {
		d := newDesk(t)
		d.welcome = c.welcome
		err := d.probe(&agenttest.Runner{}, nil).Run(t.Context())
		var skew *SkewError
		if !errors.As(err, &skew) || *skew != c.want || !strings.Contains(err.Error(), c.say) || status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v", name, err)
		}
		if n := len(d.hellos); n > 1 {
			t.Errorf("%s: %d hellos", name, n)
		}
	}
}

// TestReflectors: an empty host is the one that was dialled.
func TestReflectors(t *testing.T) {
	d := newDesk(t)
	d.welcome = func(_ *pb.Hello, w *pb.Welcome) error {
		w.Reflectors = []string{":7777", "r.example:1", "[2001:db8::1]:2"}
		return nil
	}
	got := make(chan []string, 1)
	d.run(d.probe(&agenttest.Runner{}, func(c *Config) {
		c.SelfTest = func(_ context.Context, all []string) (pb.NearPath, string, error) {
			got <- all
			return pb.NearPath_NEAR_PATH_CLEAN, "", nil
		}
	}))
	if all := <-got; !slices.Equal(all, []string{"127.0.0.1:7777", "r.example:1", "[2001:db8::1]:2"}) {
		t.Errorf("tested %v", all)
	}
}

// TestEvents: what happened to the probe itself comes to the controller, under a
// key of its own, and goes when it is acknowledged.
func TestEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s, _ := openSpool(t, path)
	before := s.Status().ID.String()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = openSpool(t, path)
	d := newDesk(t)
	d.run(d.probe(&agenttest.Runner{}, func(c *Config) { c.Spool = s }))
	d.until("start, stop, start", func() bool {
		return slices.Equal(d.events(), []string{"PROBE_EVENT_KIND_START first start", "PROBE_EVENT_KIND_STOP ", "PROBE_EVENT_KIND_START after a stop"})
	})
	d.mu.Lock()
	for i, r := range d.results {
		want := before
		if i == 2 {
			want = s.Status().ID.String()
		}
		if r.GetSpool() != want || r.GetSequence() != uint64(i+1) || r.GetLease() != nil || time.Since(r.GetEvent().GetAt().AsTime()).Abs() > time.Minute {
			t.Errorf("event %d is %v, want it of spool %s", i, r, want)
		}
	}
	d.mu.Unlock()
	for s.Status().Depth > 0 {
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGaps: what was dropped for want of room is told, and its targets end as
// interrupted, so that their leases come to an end.
func TestGaps(t *testing.T) {
	s, _, err := spool.Open(spool.Config{Path: filepath.Join(t.TempDir(), "spool.db"), Limit: 60_000, OnFull: spool.DropOldest, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := newDesk(t)
	// Half of it is with the controller already, and never acknowledged.
	deaf := true
	d.hush = func(*pb.ReportResultsRequest) bool { return deaf }
	b := newBench(t, &agenttest.Runner{Concurrency: 8}, func(c *Config) {
		c.Spool, c.Session, c.Results, c.Flush, c.Backoff = s, d.conn, d.conn, 20*time.Second, 5*time.Millisecond
	})
	const leases, each = 10, 50
	for i := range leases {
		l := lease("s", uint32(i), each, spec())
		d.held[refName(l.GetRef())] = l
		b.give(l)
	}
	stop := d.run(b.Agent)
	d.until("the spool has overflown", func() bool {
		d.happenedSoon()
		return d.now != nil && s.Status().Dropped > 0 && b.unfinished.Load() == 0
	})
	d.mu.Lock()
	deaf = false
	d.now.stop()
	d.mu.Unlock()
	b.uplink.restart()
	d.until("every target has an outcome", func() bool { return len(d.outcomes) == leases*each })
	d.until("every lease is over at the probe as well", func() bool {
		d.happenedSoon()
		return len(b.inHand()) == 0
	})
	stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	interrupted := 0
	for _, r := range d.results {
		for _, o := range r.GetOutcomes() {
			if o == pb.Outcome_OUTCOME_INTERRUPTED {
				interrupted++
				if len(r.GetMeasurements()) > 0 {
					t.Error("it has a body")
				}
			}
		}
	}
	if all := d.events(); interrupted == 0 || !slices.ContainsFunc(all, func(e string) bool { return strings.HasPrefix(e, "PROBE_EVENT_KIND_DROPPED ") }) {
		t.Errorf("%d interrupted, events %v", interrupted, all)
	}
}

// TestRestored: a machine that was put back in time finds out from the
// controller. What it has not started may have been started, and what it sends
// has a key that was never given.
func TestRestored(t *testing.T) {
	s, _ := openSpool(t, filepath.Join(t.TempDir(), "spool.db"))
	before := s.Status().ID.String()
	d := newDesk(t)
	d.welcome = func(h *pb.Hello, w *pb.Welcome) error {
		if h.GetStatus().GetSpool().GetId() == before {
			w.AckedThrough = 1000
		}
		return nil
	}
	// What it sent before is not acknowledged: it has another key now.
	d.hush = func(r *pb.ReportResultsRequest) bool { return r.GetSpool() == before }
	release := make(chan struct{})
	runner := &agenttest.Runner{Concurrency: 1, Script: func(x measure.Target) measure.Measurement { <-release; return agenttest.Healthy(x) }}
	b := newBench(t, runner, func(c *Config) {
		c.Spool, c.Session, c.Results, c.Backoff, c.Finish = s, d.conn, d.conn, 5*time.Millisecond, time.Minute
	})
	sp := spec()
	sp.Concurrency = 1
	l := lease("s", 0, 200, sp)
	d.held[refName(l.GetRef())] = l
	b.give(l)
	for runner.Counts().Submitted < 17 { // all that are marked at a time
		time.Sleep(time.Millisecond)
	}
	d.run(b.Agent)
	d.until("it has found out", func() bool {
		d.happenedSoon()
		b.mu.Lock()
		w := b.works[refName(l.GetRef())]
		b.mu.Unlock()
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.doubtful && slices.ContainsFunc(d.events(), func(e string) bool { return strings.HasPrefix(e, "PROBE_EVENT_KIND_RESTORED") })
	})
	close(release)
	d.until("every target has an outcome, and nothing is left", func() bool {
		d.happenedSoon()
		return len(d.outcomes) == 200 && s.Status().Depth == 0
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	counts := map[pb.Outcome]int{}
	for at, all := range d.outcomes {
		counts[all[0]]++
		if len(all) != 1 {
			t.Errorf("%v has outcomes %v", at, all)
		}
	}
	if counts[pb.Outcome_OUTCOME_MEASURED] != 17 || counts[pb.Outcome_OUTCOME_INTERRUPTED] != 183 {
		t.Errorf("outcomes %v", counts)
	}
	after := s.Status().ID.String()
	for _, r := range d.results {
		if r.GetLease() != nil && r.GetSpool() != after {
			t.Errorf("a result of spool %s, want %s", r.GetSpool(), after)
		}
	}
	if after == before {
		t.Error("the spool has its old id")
	}
}

// TestClockIsFar: a clock that is far from the controller's keeps the probe from
// being ready; when it comes near, it is.
func TestClockIsFar(t *testing.T) {
	d := newDesk(t)
	var mu sync.Mutex
	ahead := time.Hour
	a := d.probe(&agenttest.Runner{}, func(c *Config) {
		c.Wall = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(ahead)
		}
	})
	d.welcome = func(_ *pb.Hello, w *pb.Welcome) error { w.ServerTime = timestamppb.Now(); return nil }
	d.run(a)
	d.until("not ready", func() bool {
		st := d.last()
		return st.GetReadiness() == pb.Readiness_READINESS_CLOCK && strings.Contains(st.GetReason(), "+3600.0 s") && st.GetClockOffset().AsDuration() > 59*time.Minute
	})
	if n := a.wanted(); n != 0 {
		t.Errorf("%d leases wanted", n)
	}
	mu.Lock()
	ahead = 0
	mu.Unlock()
	d.until("ready", func() bool { return d.last().GetReadiness() == pb.Readiness_READINESS_READY && d.now.credit > 0 })
}
