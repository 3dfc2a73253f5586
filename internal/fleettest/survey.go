package fleettest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// Survey is a survey of the fleet.
type Survey struct {
	ID      string
	f       *Fleet
	targets int
}

// State is where the survey stands. At every moment, each target it planned has
// one outcome.
func (s *Survey) State() (st *pb.SurveyState) {
	s.f.t.Helper()
	s.f.ask("the survey", func(ctx context.Context, c pb.ControlServiceClient) error {
		resp, err := c.GetSurvey(ctx, &pb.GetSurveyRequest{Survey: s.ID})
		st = resp.GetState()
		return err
	})
	if sum := st.GetMeasured() + st.GetRefused() + st.GetInterrupted() + st.GetCancelled() + st.GetLost() + st.GetPending(); st.GetPlanned() != sum {
		s.f.t.Errorf("%d planned is not the sum %d of the outcomes: %v", st.GetPlanned(), sum, st)
	}
	return st
}

// Measured waits until that many are measured, or the survey is over.
func (s *Survey) Measured(n uint64) (over bool) {
	s.f.t.Helper()
	s.f.Await("enough measured", Patience, func() bool {
		st := s.State()
		over = st.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_RUNNING
		return over || st.GetMeasured() >= n
	})
	return over
}

// Done waits for the end of the survey.
func (s *Survey) Done(within time.Duration) (st *pb.SurveyState) {
	s.f.t.Helper()
	s.f.Await("the end of the survey", within, func() bool {
		st = s.State()
		return st.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_RUNNING
	})
	if st.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_DONE || st.GetPending() != 0 || st.GetLost() != 0 {
		s.f.t.Errorf("the survey ended as %v", st)
	}
	return st
}

// Check compares a survey that is over with its dataset, and both with what the
// probes say whom they contacted. A target has as many results as copies, from a
// probe each, and none was contacted twice by one probe. Nor was it by more probes
// than copies, but where a result says that it may be a repetition; twice is how
// many were.
func (s *Survey) Check(place string, copies int) (twice int) {
	t := s.f.t
	t.Helper()
	st := s.State()
	type key struct {
		item  uint64
		probe string
	}
	seen, results := make(map[key]bool), make(map[uint64]int)
	var measured, interrupted uint64
	addrs, again := make(map[netip.Addr]bool), make(map[netip.Addr]bool)
	for rec, err := range dataset.Read(place) {
		if err != nil {
			t.Fatal(err)
		}
		k := key{rec.Item, rec.Probe}
		if seen[k] {
			t.Errorf("item %d is there twice from %s", rec.Item, rec.Probe)
		}
		seen[k] = true
		results[rec.Item]++
		addrs[rec.Target.Addr] = true
		if slices.Contains(rec.Conditions, measure.CondVantageRepeated) {
			again[rec.Target.Addr] = true
		}
		switch rec.Outcome {
		case measure.OutcomeMeasured:
			measured++
			if rec.Verdict != measure.Supported {
				t.Errorf("%v is %v", rec.Target, rec.Verdict)
			}
		case measure.OutcomeInterrupted:
			interrupted++
		default:
			t.Errorf("%v has outcome %v", rec.Target, rec.Outcome)
		}
	}
	if st.GetPlanned() != uint64(s.targets*copies) || len(results) != s.targets || measured != st.GetMeasured() || interrupted != st.GetInterrupted() {
		t.Errorf("the dataset has %d targets, %d measured and %d interrupted; the survey says %v", len(results), measured, interrupted, st)
	}
	for item, n := range results {
		if n != copies {
			t.Errorf("item %d has %d results, want %d", item, n, copies)
		}
	}
	contacted := make(map[netip.Addr]int)
	for _, p := range s.f.Probes {
		for addr, n := range p.Contacts() {
			if !addrs[addr] {
				continue // of another survey
			}
			contacted[addr]++
			if n > 1 {
				t.Errorf("%s measured %v %d times", p.Name, addr, n)
			}
		}
	}
	var contacts uint64
	for addr, n := range contacted {
		contacts += uint64(n)
		if n > copies {
			twice++
		}
		if n > copies && !again[addr] {
			t.Errorf("%v was measured by %d probes, want %d, and no result says so", addr, n, copies)
		}
	}
	if contacts < measured {
		t.Errorf("%d contacts for %d measured", contacts, measured)
	}
	return twice
}

// Contacts is how often each address was measured, as the probe's log has it.
func (p *Probe) Contacts() map[netip.Addr]int {
	p.f.t.Helper()
	times := make(map[netip.Addr]int)
	data, err := os.ReadFile(p.contacts())
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it had nothing to do
		p.f.t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var c struct{ Addr netip.Addr }
		if err := json.Unmarshal(line, &c); err != nil {
			p.f.t.Fatalf("%q: %v", line, err)
		}
		times[c.Addr]++
	}
	return times
}
