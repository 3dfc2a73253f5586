package controller_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"tfofleet/internal/controller"
	"tfofleet/internal/dataset"
	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// endings is a store with something before each end of a survey.
type endings struct {
	store.Store
	before func(id string) error
}

func (s *endings) SetPhase(ctx context.Context, id string, p store.Phase, reason string) (store.Survey, error) {
	if p >= store.Done {
		if err := s.before(id); err != nil {
			return store.Survey{}, err
		}
	}
	return s.Store.SetPhase(ctx, id, p, reason)
}

// TestFinalBeforeTold: survey.json is final when the store says that the survey
// has ended, whoever else writes it in between; and an end that was cut short
// there is made good.
func TestFinalBeforeTold(t *testing.T) {
	t.Parallel()
	dir, rules := t.TempDir(), lease.DefaultRules(10*time.Second)
	db := sqlite(t, dir, store.Options{Rules: rules})
	var r *rig
	ends := 0
	st := &endings{db, func(id string) error {
		ends++
		// A probe has just come, and is named in survey.json.
		if err := r.server.Refresh(id); err != nil {
			t.Error(err)
		}
		if doc, err := dataset.ReadSurvey(dir); err != nil || doc.State != dataset.StateCancelled {
			t.Errorf("about to be told, survey.json says %v, %v", doc, err)
		}
		if ends == 1 {
			return errors.New("cut short")
		}
		return nil
	}}
	r = serveFor(t, controller.Config{Dir: dir, Dataset: func(string) string { return dir }, Store: st, Heartbeat: 10 * time.Second, TTL: rules.TTL})
	id := r.survey(t, 3, spec())
	if _, err := r.ctl.CancelSurvey(ctx, &pb.CancelSurveyRequest{Survey: id}); err != nil {
		t.Fatal(err)
	}
	if st := r.watch(t, id, ended); st.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_CANCELLED {
		t.Errorf("ended as %v", st)
	}
	if doc, err := dataset.ReadSurvey(dir); err != nil || doc.State != dataset.StateCancelled {
		t.Errorf("survey.json says %v, %v", doc, err)
	}
	if ends != 2 {
		t.Errorf("%d ends, want one that was cut short and another", ends)
	}
}
