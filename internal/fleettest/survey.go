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
	"strings"
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
// probe each, and no probe contacted it twice. Where a second probe did, because
// nobody could know that the first one had, the result is that of the first, or
// says that it may be a repetition; twice is how many targets that befell.
func (s *Survey) Check(place string, copies int) (twice int) {
	t := s.f.t
	t.Helper()
	st, records := s.agreed(place)
	contacts := s.contacts()
	type key struct {
		item  uint64
		probe string
	}
	seen, results := make(map[key]bool), make(map[uint64]int)
	var measured, interrupted uint64
	unclear := 0
	for _, rec := range records {
		k := key{rec.Item, rec.Probe}
		if seen[k] {
			t.Errorf("item %d is there twice from %s", rec.Item, rec.Probe)
		}
		seen[k] = true
		results[rec.Item]++
		switch rec.Outcome {
		case measure.OutcomeMeasured:
			measured++
			switch rec.Verdict {
			case measure.Supported:
			case measure.Inconclusive: // a machine that is busy to the last loses a packet now and then
				unclear++
				t.Logf("%v is %v: %v", rec.Target, rec.Verdict, rec.Conditions)
			default:
				t.Errorf("%v is %v: %v", rec.Target, rec.Verdict, rec.Conditions)
			}
			by := contacts[rec.Target.Addr]
			if !slices.ContainsFunc(by, func(c contact) bool { return c.by(rec.Probe) }) {
				t.Errorf("%v was measured by %s, which never contacted it", rec.Target, rec.Probe)
			} else if copies == 1 && !by[0].by(rec.Probe) && !slices.Contains(rec.Conditions, measure.CondVantageRepeated) {
				t.Errorf("%v was measured by %s after %s, and does not say so", rec.Target, rec.Probe, by[0].probe)
			}
		case measure.OutcomeInterrupted:
			interrupted++
		default:
			t.Errorf("%v has outcome %v", rec.Target, rec.Outcome)
		}
	}
	if unclear > s.targets/100 {
		t.Errorf("%d of %d targets are inconclusive, on a clean path", unclear, s.targets)
	}
	if st.GetPlanned() != uint64(s.targets*copies) || len(results) != s.targets || measured != st.GetMeasured() || interrupted != st.GetInterrupted() {
		t.Errorf("the dataset has %d targets, %d measured and %d interrupted; the survey says %v", len(results), measured, interrupted, st)
	}
	for item, n := range results {
		if n != copies {
			t.Errorf("item %d has %d results, want %d", item, n, copies)
		}
	}
	for _, by := range contacts {
		if len(by) > copies {
			twice++
		}
	}
	return twice
}

// agreed is what a survey that is over says, and what its dataset has, as soon as
// both count the same: what comes late is in one a moment before it is in the
// other. Where they never do, it is what they had last.
func (s *Survey) agreed(place string) (st *pb.SurveyState, records []dataset.Record) {
	s.f.t.Helper()
	for end := time.Now().Add(Patience); ; time.Sleep(100 * time.Millisecond) {
		st, records = s.State(), nil
		var measured, interrupted uint64
		for rec, err := range dataset.Read(place) {
			if err != nil {
				s.f.t.Fatal(err)
			}
			records = append(records, rec)
			switch rec.Outcome {
			case measure.OutcomeMeasured:
				measured++
			case measure.OutcomeInterrupted:
				interrupted++
			}
		}
		if measured == st.GetMeasured() && interrupted == st.GetInterrupted() || time.Now().After(end) {
			return st, records
		}
	}
}

// contact is one line of a probe's log of contacts.
type contact struct {
	Time   time.Time
	Addr   netip.Addr
	Survey string
	probe  string
}

// by reports whether the contact was made by the member of that name.
func (c contact) by(member string) bool { return strings.HasPrefix(member, c.probe+"-") }

// contacts are those of the survey, by address, the first one first. No probe
// has contacted an address twice.
func (s *Survey) contacts() map[netip.Addr][]contact {
	t := s.f.t
	t.Helper()
	all := make(map[netip.Addr][]contact)
	for _, p := range s.f.Probes {
		had := make(map[netip.Addr]bool)
		for _, c := range p.Contacts() {
			if c.Survey != s.ID {
				continue
			}
			if had[c.Addr] {
				t.Errorf("%s measured %v twice", p.Name, c.Addr)
			}
			had[c.Addr] = true
			all[c.Addr] = append(all[c.Addr], c)
		}
	}
	for _, by := range all {
		slices.SortFunc(by, func(a, b contact) int { return a.Time.Compare(b.Time) })
	}
	return all
}

// Contacts are all that the probe's log has.
func (p *Probe) Contacts() (all []contact) {
	p.f.t.Helper()
	data, err := os.ReadFile(p.contacts())
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it had nothing to do
		p.f.t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		c := contact{probe: p.Name}
		if err := json.Unmarshal(line, &c); err != nil {
			p.f.t.Fatalf("%q: %v", line, err)
		}
		all = append(all, c)
	}
	return all
}
