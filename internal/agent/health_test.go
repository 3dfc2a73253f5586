package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/agent/policy"
	"tfofleet/internal/agent/spool"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestReadiness: whatever keeps a probe from its work is told with a reason, no
// lease is asked for, and when it has gone there is credit again.
func TestReadiness(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) {
		t.Helper()
		if err := writeFile(filepath.Join(dir, name), text); err != nil {
			t.Fatal(err)
		}
	}
	file("policy.yaml", "kill_switch: stop")
	guard, err := policy.Open(filepath.Join(dir, "policy.yaml"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	s, _, err := spool.Open(spool.Config{Path: filepath.Join(dir, "spool.db"), Limit: 2000, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var bits atomic.Int32
	bits.Store(1)
	d := newDesk(t)
	a := d.probe(&agenttest.Runner{}, func(c *Config) {
		c.Guard, c.Spool = guard, s
		c.LookAtHost = func() (*pb.Host, error) { return &pb.Host{TcpFastopen: bits.Load()}, nil }
	})
	d.run(a)
	is := func(want pb.Readiness, reason string) {
		t.Helper()
		d.until(want.String(), func() bool {
			st := d.last()
			ready := want == pb.Readiness_READINESS_READY
			return st.GetReadiness() == want && strings.Contains(st.GetReason(), reason) && (st.GetReason() == "") == ready && d.now != nil && (d.now.credit > 0) == ready
		})
	}
	is(pb.Readiness_READINESS_READY, "")

	file("stop", "")
	is(pb.Readiness_READINESS_POLICY, "kill switch")
	if err := os.Remove(filepath.Join(dir, "stop")); err != nil {
		t.Fatal(err)
	}
	is(pb.Readiness_READINESS_READY, "")

	file("policy.yaml", "kill_switch: stop\nrates: 1")
	if guard.Reload() == nil {
		t.Fatal("reloaded")
	}
	is(pb.Readiness_READINESS_POLICY, "rates")
	file("policy.yaml", "kill_switch: stop\nrate: 1")
	if err := guard.Reload(); err != nil {
		t.Fatal(err)
	}
	a.PolicyReloaded()
	is(pb.Readiness_READINESS_READY, "")

	bits.Store(2)
	a.lookAtHost()
	is(pb.Readiness_READINESS_CLIENT_OFF, "net.ipv4.tcp_fastopen=3")
	bits.Store(1)
	a.lookAtHost()
	is(pb.Readiness_READINESS_READY, "")

	a.health.mu.Lock()
	a.health.host.BlackholeTimeoutS = 3600
	a.health.mu.Unlock()
	a.counted(measure.Measurement{Conditions: []measure.Condition{measure.CondVantagePaused}})
	is(pb.Readiness_READINESS_BLACKHOLE_TIMEOUT, "blackhole_timeout")
	a.health.mu.Lock()
	a.health.paused = time.Now()
	a.health.mu.Unlock()
	is(pb.Readiness_READINESS_READY, "")

	d.mu.Lock()
	d.hush = func(*pb.ReportResultsRequest) bool { return true }
	d.mu.Unlock()
	for i := range 5 {
		if err := s.Append(spool.Record{Kind: spool.KindResult, Items: []uint32{uint32(i)}, Data: make([]byte, 500)}); err != nil {
			t.Fatal(err)
		}
	}
	is(pb.Readiness_READINESS_SPOOL_FULL, "full")
	d.until("events", func() bool {
		return slices.ContainsFunc(d.events(), func(e string) bool { return strings.HasPrefix(e, "PROBE_EVENT_KIND_POLICY_RELOAD "+guard.Digest()) })
	})
}

// TestNearPath: with a reflector there is no work before the self-test passed;
// what it finds near the probe is on every result.
func TestNearPath(t *testing.T) {
	s, _ := openSpool(t, filepath.Join(t.TempDir(), "spool.db"))
	d := newDesk(t)
	d.welcome = func(_ *pb.Hello, w *pb.Welcome) error { w.Reflectors = []string{"192.0.2.1:1"}; return nil }
	answers := make(chan error)
	d.queue = append(d.queue, lease("s", 0, 2, spec()))
	a := d.probe(&agenttest.Runner{}, func(c *Config) {
		c.Spool = s
		c.SelfTest = func(ctx context.Context, _ []string) (pb.NearPath, string, error) {
			select {
			case err := <-answers:
				return pb.NearPath_NEAR_PATH_STRIPS_OPTION, "kind 34 is gone", err
			case <-ctx.Done():
				return 0, "", ctx.Err()
			}
		}
	})
	d.run(a)
	is := func(reason string) {
		t.Helper()
		d.until(reason, func() bool {
			return d.last().GetReadiness() == pb.Readiness_READINESS_SELF_TEST && strings.Contains(d.last().GetReason(), reason) && d.now.credit == 0
		})
	}
	is("under way")
	answers <- errors.New("no route")
	is("no route")
	a.reflect([]string{"192.0.2.2:1"}) // another session has others
	answers <- nil
	d.until("it works", func() bool { return len(d.outcomes) == 2 })
	d.mu.Lock()
	defer d.mu.Unlock()
	if st := d.last(); st.GetNearPath() != pb.NearPath_NEAR_PATH_STRIPS_OPTION || st.GetNearPathDetail() != "kind 34 is gone" {
		t.Errorf("status %v", st)
	}
	for _, r := range d.results {
		if len(r.GetMeasurements()) == 0 {
			continue
		}
		ms, err := measure.DecodeBatch(r.GetMeasurements())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			if !slices.Contains(m.Conditions, measure.CondNearPathStripsOption) || !slices.IsSorted(m.Conditions) {
				t.Errorf("conditions %v", m.Conditions)
			}
		}
	}
	if want := []string{"PROBE_EVENT_KIND_SELF_TEST failed: no route", "PROBE_EVENT_KIND_SELF_TEST " + string(measure.CondNearPathStripsOption) + ": kind 34 is gone"}; !slices.Equal(d.events()[1:], want) {
		t.Errorf("events %v", d.events())
	}
}

// TestSelfTestTimes: every 30 minutes, soon after a failure, at once for other
// reflectors, and never without.
func TestSelfTestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Duration
		var failing atomic.Bool
		begun := time.Now()
		b := newBench(t, nil, func(c *Config) {
			c.SelfTest = func(context.Context, []string) (pb.NearPath, string, error) {
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Since(begun))
				if failing.Load() {
					return 0, "", errors.New("no")
				}
				return pb.NearPath_NEAR_PATH_CLEAN, "", nil
			}
		})
		ctx, stop := context.WithCancel(t.Context())
		go b.selfTests(ctx)
		count := func(want int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(at) != want {
				t.Errorf("tests at %v, want %d", at, want)
			}
		}
		time.Sleep(2 * time.Hour)
		count(0)
		b.reflect([]string{"a:1"})
		count(1)
		time.Sleep(61 * time.Minute)
		count(3)
		b.reflect([]string{"b:1"})
		count(4)
		failing.Store(true)
		time.Sleep(30 * time.Minute)
		count(5)
		time.Sleep(67 * time.Second)
		count(6)
		b.reflect(nil)
		if r, _ := b.readiness(); r != pb.Readiness_READINESS_READY {
			t.Errorf("without reflectors: %v", r)
		}
		time.Sleep(2 * time.Hour)
		count(6)
		stop()
		synctest.Wait()
	})
}

// TestClock: a step of the clock is a jump, a drift is not, and the offset from
// the controller's follows both.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead := time.Duration(0)
		c := newClock(func() time.Time { return time.Now().Add(ahead) }, nil)
		if _, known := c.off(); known {
			t.Error("known before anything was heard")
		}
		asked := time.Now()
		time.Sleep(200 * time.Millisecond)
		c.heard(time.Now().Add(-100*time.Millisecond-3*time.Second), asked) // halfway, and the controller is 3 s behind
		off := func(want time.Duration) {
			t.Helper()
			if got, known := c.off(); !known || got != want {
				t.Errorf("off by %v, want %v", got, want)
			}
		}
		off(3 * time.Second)
		for range 100 {
			time.Sleep(time.Second)
			ahead += 10 * time.Millisecond
			if j := c.look(); j != 0 {
				t.Fatalf("a drift is a jump of %v", j)
			}
		}
		off(3 * time.Second) // until it is heard again
		for _, jump := range []time.Duration{time.Hour, -2 * time.Hour, 600 * time.Millisecond} {
			time.Sleep(time.Second)
			ahead += jump
			if j := c.look(); j != jump {
				t.Errorf("a jump of %v, want %v", j, jump)
			}
			if j := c.look(); j != 0 {
				t.Errorf("twice: %v", j)
			}
		}
		off(3*time.Second - time.Hour + 600*time.Millisecond)

		// The controller is heard between a jump and the look that notes it, as when
		// NTP sets the clock while the probe connects: the jump counts once.
		ahead = 5 * time.Hour
		c.heard(time.Now().Add(ahead-time.Second), time.Now())
		if j := c.look(); j == 0 {
			t.Error("no jump")
		}
		off(time.Second)
	})
}

// TestClockJump: it is recorded.
func TestClockJump(t *testing.T) {
	s, _ := openSpool(t, filepath.Join(t.TempDir(), "spool.db"))
	ahead := time.Duration(0)
	b := newBench(t, nil, func(c *Config) { c.Spool, c.Wall = s, func() time.Time { return time.Now().Add(ahead) } })
	b.look()
	ahead = -time.Hour
	b.look()
	b.look()
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	records, err := s.Next(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var jumps []string
	for _, r := range records {
		if e, err := spool.ParseEvent(r.Data); err == nil && e.Kind == spool.EventClockJump {
			jumps = append(jumps, e.Detail)
		}
	}
	if len(jumps) != 1 || !strings.HasPrefix(jumps[0], "the clock was set by -3") {
		t.Errorf("jumps %q", jumps)
	}
}

// TestKillSwitchInTheMiddle: on loopback with the real engine, a kill switch
// that is thrown while a target is measured stops its next SYN. Every SYN was
// charged to the budget once.
func TestKillSwitchInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	text := "kill_switch: stop\nnets: {allow: [127.0.0.0/8]}\nports: {allow: [1-65535]}\nbudget: {attempts: 20, window: 1h}"
	if err := writeFile(filepath.Join(dir, "policy.yaml"), text); err != nil {
		t.Fatal(err)
	}
	guard, err := policy.Open(filepath.Join(dir, "policy.yaml"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	var accepted atomic.Int32
	var once sync.Once
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if accepted.Add(1) == 2 {
				once.Do(func() { writeFile(filepath.Join(dir, "stop"), "") })
			}
			// Long enough for the file to be looked for between two attempts.
			time.AfterFunc(150*time.Millisecond, func() { c.Write([]byte("hello")); c.Close() })
		}
	}()
	b := newBench(t, nil, func(c *Config) {
		c.Guard = guard
		c.NewRunner = func(*pb.SurveySpec) (Runner, error) {
			return measure.NewRunner(measure.Settings{Plan: measure.Standard, Payload: measure.PayloadAuto, Timeout: 5 * time.Second, Permit: Permit(guard)},
				tfo.Config{Concurrency: 1, Capture: tfo.CaptureOff})
		}
	})
	b.give(b.lease(spec(), measure.Target{Addr: at.Addr(), Port: at.Port()}))
	m := b.all(1)[0]
	if m.Outcome != measure.OutcomeInterrupted || len(m.Attempts) != 2 || accepted.Load() != 2 || !slices.Equal(m.Conditions, []measure.Condition{policy.KillSwitch.Condition()}) {
		t.Errorf("%v %v after %d attempts, %d connections", m.Outcome, m.Conditions, len(m.Attempts), accepted.Load())
	}
	b.drain()
	if err := os.Remove(filepath.Join(dir, "stop")); err != nil {
		t.Fatal(err)
	}
	left := 0
	for now := time.Now().Add(time.Second); ; left++ {
		if _, ok := guard.Check(at.Addr(), at.Port(), now); !ok {
			break
		}
	}
	if left != 18 {
		t.Errorf("%d of 20 attempts are left after 2", left)
	}
}

// TestPause: a cancel gives back what was not started and leaves what was to
// its end. The survey can come back meanwhile: it begins when that has ended, so
// that no address is measured by two at a time.
func TestPause(t *testing.T) {
	var old, next agenttest.Runner
	release := make(chan struct{})
	old.Concurrency, next.Concurrency = 2, 2
	old.Script = func(x measure.Target) measure.Measurement { <-release; return agenttest.Healthy(x) }
	runners := []*agenttest.Runner{&old, &next}
	b := newBench(t, nil, func(c *Config) {
		c.Finish = time.Minute
		c.NewRunner = func(*pb.SurveySpec) (Runner, error) {
			r := runners[0]
			runners = runners[1:]
			return r, nil
		}
	})
	sp := spec()
	sp.Concurrency = 2
	one, two := lease("s", 0, 100, sp), lease("s", 1, 3, sp)
	b.give(one)
	b.give(two)
	for old.Counts().Submitted < 68 { // all slots are taken
		time.Sleep(time.Millisecond)
	}
	b.cancel(&pb.Cancel{Ref: one.GetRef()})
	// 32 of the first lease and the second come back at once.
	back := 0
	for back < 35 {
		req, ms := b.next()
		if len(ms) > 0 {
			t.Fatalf("measured %v", ms)
		}
		back += len(req.GetReturned())
	}
	if n := old.Counts().Interrupted; n > 0 || back != 35 {
		t.Errorf("%d interrupted, %d given back", n, back)
	}
	// Resumed: the same targets under another epoch. The late cancel of the
	// second lease has nothing to do with them.
	again := lease("s", 0, 100, sp)
	again.Ref.Epoch = 2
	b.give(again)
	b.cancel(&pb.Cancel{Ref: two.GetRef()})
	time.Sleep(20 * time.Millisecond) // for one that does not wait for its turn
	if c := next.Counts(); c.Submitted != 0 {
		t.Errorf("two measure: %+v", c)
	}
	close(release)
	measured := 0
	for measured < 168 {
		req, ms := b.next()
		measured += len(ms)
		for _, m := range ms {
			if m.Outcome != measure.OutcomeMeasured {
				t.Errorf("%v became %v", m.Target, m.Outcome)
			}
		}
		if len(req.GetReturned()) > 0 {
			t.Errorf("given back: %v", req.GetReturned())
		}
	}
	if n := len(next.Counts().Started); n != 100 {
		t.Errorf("the second time %d of 100 were measured", n)
	}
	b.drain()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.running) > 0 {
		t.Errorf("%d executors are left", len(b.running))
	}
}

// TestPauseIsBounded: what does not come to its end in time is interrupted.
func TestPauseIsBounded(t *testing.T) {
	runner := &agenttest.Runner{Took: func(measure.Target) time.Duration { return time.Hour }}
	b := newBench(t, runner, func(c *Config) { c.Finish = 10 * time.Millisecond })
	l := lease("s", 0, 3, spec())
	b.give(l)
	for runner.Counts().Running == 0 {
		time.Sleep(time.Millisecond)
	}
	b.cancel(&pb.Cancel{Ref: l.GetRef()})
	var outcomes []pb.Outcome
	for got := 0; got < 3; {
		req, _ := b.next()
		got += len(req.GetIndexes()) + len(req.GetReturned())
		outcomes = append(outcomes, req.GetOutcomes()...)
	}
	if !slices.Equal(outcomes, []pb.Outcome{pb.Outcome_OUTCOME_INTERRUPTED}) {
		t.Errorf("outcomes %v", outcomes)
	}
	b.drain()
}
