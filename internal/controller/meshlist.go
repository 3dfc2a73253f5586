package controller

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// A mesh is in no store: what is left of it is its dataset, and the place of all
// datasets is the same for all controllers. Operators find it there, among the
// surveys.

// meshes are those that have ended, except what is known as a survey.
func (s *Server) meshes(known map[string]bool) (found []*pb.SurveyState, err error) {
	if s.cfg.Datasets == "" {
		return nil, nil
	}
	ids, err := dataset.Dirs(s.cfg.Datasets)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if known[id] {
			continue
		}
		if st := s.mesh(id); st != nil {
			found = append(found, st)
		}
	}
	return found, nil
}

// mesh is a mesh that has ended, or nil. Its dataset does not change any more, and
// is read once.
func (s *Server) mesh(id string) *pb.SurveyState {
	if st, ok := s.ended.Load(id); ok {
		return st.(*pb.SurveyState)
	}
	place, err := s.place(id)
	if err != nil {
		return nil
	}
	doc, err := dataset.ReadSurvey(place)
	if err != nil || !doc.Mesh || doc.State != dataset.StateDone && doc.State != dataset.StateCancelled {
		return nil
	}
	st := meshState(doc)
	s.ended.Store(id, st)
	return st
}

// shown is a survey, or a mesh that has ended.
func (s *Server) shown(ctx context.Context, id string) (*pb.SurveyState, error) {
	st, err := s.state(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		if mesh := s.mesh(id); mesh != nil {
			return mesh, nil
		}
	}
	return st, err
}

func meshState(doc *dataset.Survey) *pb.SurveyState {
	c := doc.Counts
	st := &pb.SurveyState{
		Survey: doc.ID, Name: doc.Name, Phase: pb.SurveyPhase_SURVEY_PHASE_DONE,
		Planned: c.Planned, Measured: c.Measured, Refused: c.Refused, Interrupted: c.Interrupted, Cancelled: c.Cancelled, Lost: c.Lost, Pending: c.Pending,
		Created: timestamppb.New(doc.Created), Elapsed: durationpb.New(doc.Ended.Sub(doc.Created)),
	}
	if doc.State == dataset.StateCancelled {
		st.Phase = pb.SurveyPhase_SURVEY_PHASE_CANCELLED
	}
	add := func(o measure.Outcome, v measure.Verdict, n uint64) {
		if n > 0 {
			st.Counts = append(st.Counts, &pb.VerdictCount{Outcome: pb.Outcome(o), Verdict: pb.Verdict(v), Count: n})
		}
	}
	for name, n := range c.Verdicts {
		if v, err := measure.ParseVerdict(name); err == nil {
			add(measure.OutcomeMeasured, v, n)
		}
	}
	add(measure.OutcomeRefused, 0, c.Refused)
	add(measure.OutcomeInterrupted, 0, c.Interrupted)
	slices.SortFunc(st.Counts, func(a, b *pb.VerdictCount) int {
		return cmp.Or(cmp.Compare(a.GetOutcome(), b.GetOutcome()), cmp.Compare(a.GetVerdict(), b.GetVerdict()))
	})
	return st
}
