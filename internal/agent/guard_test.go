package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/agent/policy"
	"tfofleet/internal/measure"
)

// TestGuard: the operator's policy is asked for every target, what it refuses is
// a result, and what it lets through is in its log before it is started.
func TestGuard(t *testing.T) {
	dir := t.TempDir()
	file, contacts := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "contacts")
	text := "ports:\n  allow: [443]\nbudget:\n  attempts: 5\n  window: 1h\ncontact_log:\n  path: " + contacts + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	guard, err := policy.Open(file, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	logged := ""
	runner := &agenttest.Runner{Took: func(measure.Target) time.Duration {
		b, err := os.ReadFile(contacts)
		if err != nil {
			t.Error(err)
		}
		logged = string(b)
		return 0
	}}
	runner.Permit = Permit(guard) // asked five times
	b := newBench(t, runner, func(c *Config) { c.Guard = guard })
	b.give(b.lease(spec(),
		measure.Target{Addr: addr("8.8.8.8"), Port: 443},
		measure.Target{Addr: addr("8.8.8.8"), Port: 80},
		measure.Target{Addr: addr("127.0.0.1"), Port: 443},
	))
	got := b.all(3)
	for i, want := range []measure.Condition{"", policy.Port.Condition(), policy.SpecialPurpose.Condition()} {
		m := got[i]
		if want == "" && m.Outcome != measure.OutcomeMeasured || want != "" && (m.Outcome != measure.OutcomeRefused || m.Conditions[0] != want) {
			t.Errorf("target %d: %v %v, want %q", i, m.Outcome, m.Conditions, want)
		}
	}
	if strings.Count(logged, "\n") != 1 || !strings.Contains(logged, "8.8.8.8") {
		t.Errorf("when the measurement began the log of contacts was %q", logged)
	}
	// Another survey does not know the address, but the budget does.
	next := b.lease(spec(), measure.Target{Addr: addr("8.8.8.8"), Port: 443})
	next.Ref.Survey = "another"
	b.give(next)
	if m := b.all(1)[0]; m.Outcome != measure.OutcomeRefused || m.Conditions[0] != policy.Budget.Condition() {
		t.Errorf("beyond the budget: %v %v", m.Outcome, m.Conditions)
	}
}

// TestTurns: surveys begin targets one after the other.
func TestTurns(t *testing.T) {
	executorOf := func() *executor {
		e := &executor{}
		e.ctx, e.cancel = context.WithCancel(t.Context())
		return e
	}
	turn := turns{freed: make(chan struct{})}
	first, second, stopped := executorOf(), executorOf(), executorOf()
	turn.take(first)
	turn.take(first) // its next lease
	stopped.cancel()
	turn.take(stopped) // gives its targets back; it has no turn
	turn.leave(stopped)
	came := make(chan struct{})
	go func() { turn.take(second); close(came) }()
	select {
	case <-came:
		t.Fatal("two surveys at a time")
	case <-time.After(20 * time.Millisecond):
	}
	turn.leave(first)
	<-came
	turn.leave(first) // not its turn
	if turn.owner != second {
		t.Error("the second survey has lost its turn")
	}
}
