package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// CreateSurvey implements ControlService.
func (s *Server) CreateSurvey(ctx context.Context, req *pb.CreateSurveyRequest) (*pb.CreateSurveyResponse, error) {
	if req.GetRequestId() == "" {
		return nil, status.Error(codes.InvalidArgument, "a survey needs a request id")
	}
	if err := validate(req.GetSpec()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	list, err := s.cfg.Store.List(ctx, req.GetTargetsId())
	if err != nil {
		return nil, rpcError(err)
	}
	mode, copies, probes, err := s.share(ctx, req)
	if err != nil {
		return nil, rpcError(err)
	}
	rec, err := s.cfg.Store.CreateSurvey(ctx, store.Survey{
		ID: newID(), Request: req.GetRequestId(), Name: req.GetName(), List: list, Spec: req.GetSpec(), Created: s.cfg.Now().UTC(),
		Mode: mode, Copies: copies, Probes: probes,
	})
	if err != nil {
		return nil, rpcError(err)
	}
	if rec.Phase < store.Done {
		if _, err := s.start(ctx, rec); err != nil {
			return nil, rpcError(err)
		}
		s.work.notify()
	}
	return &pb.CreateSurveyResponse{Survey: rec.ID}, nil
}

func validate(spec *pb.SurveySpec) error {
	if _, ok := pb.Plan_name[int32(spec.GetPlan())]; !ok || spec.GetPlan() == 0 {
		return errors.New("a survey needs a plan")
	}
	if _, ok := familyNames[spec.GetFamily()]; !ok {
		return errors.New("a survey needs an address family: any, 4 or 6")
	}
	if _, ok := payloadNames[spec.GetPayload()]; !ok {
		return errors.New("a survey needs a payload")
	}
	if n := len(spec.GetPayloadBytes()); n > measure.MaxPayload || n == 0 && spec.GetPayload() == pb.Payload_PAYLOAD_BYTES {
		return fmt.Errorf("a payload of %d bytes: want 1 to %d", n, measure.MaxPayload)
	}
	if !(spec.GetRate() >= 0) {
		return fmt.Errorf("rate %v: want 0 (no limit) or more", spec.GetRate())
	}
	if spec.GetConcurrency() == 0 {
		return errors.New("concurrency 0: want 1 or more")
	}
	if spec.GetTimeout().AsDuration() <= 0 {
		return fmt.Errorf("timeout %v: want more than 0", spec.GetTimeout().AsDuration())
	}
	if spec.GetHold().AsDuration() < 0 {
		return fmt.Errorf("hold %v: want 0 or more", spec.GetHold().AsDuration())
	}
	return nil
}

// GetSurvey implements ControlService.
func (s *Server) GetSurvey(ctx context.Context, req *pb.GetSurveyRequest) (*pb.GetSurveyResponse, error) {
	st, err := s.shown(ctx, req.GetSurvey())
	if err != nil {
		return nil, rpcError(err)
	}
	return &pb.GetSurveyResponse{State: st}, nil
}

// ListSurveys implements ControlService.
func (s *Server) ListSurveys(ctx context.Context, _ *pb.ListSurveysRequest) (*pb.ListSurveysResponse, error) {
	all, err := s.cfg.Store.AllSurveys(ctx)
	if err != nil {
		return nil, rpcError(err)
	}
	resp := &pb.ListSurveysResponse{}
	known := make(map[string]bool)
	for _, rec := range all {
		known[rec.ID] = true
		st, err := s.state(ctx, rec.ID)
		if err != nil {
			return nil, rpcError(err)
		}
		resp.Surveys = append(resp.Surveys, st)
	}
	meshes, err := s.meshes(known)
	if err != nil {
		return nil, rpcError(err)
	}
	resp.Surveys = append(resp.Surveys, meshes...)
	slices.SortStableFunc(resp.Surveys, func(a, b *pb.SurveyState) int {
		return a.GetCreated().AsTime().Compare(b.GetCreated().AsTime())
	})
	return resp, nil
}

// watchInterval is the least time between two states sent to one watcher: ten a
// second are enough for eyes.
const watchInterval = 100 * time.Millisecond

// WatchSurvey implements ControlService.
func (s *Server) WatchSurvey(req *pb.WatchSurveyRequest, stream grpc.ServerStreamingServer[pb.WatchSurveyResponse]) error {
	ctx := stream.Context()
	for {
		// Whoever takes the channel while the survey runs hears of its end.
		var changed <-chan struct{}
		v, running := s.running(req.GetSurvey())
		if running {
			changed = v.changed.next()
		}
		st, err := s.shown(ctx, req.GetSurvey())
		if err != nil {
			return rpcError(err)
		}
		if err := stream.Send(&pb.WatchSurveyResponse{State: st}); err != nil {
			return err
		}
		if st.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_RUNNING {
			return nil
		}
		if !running {
			return status.Error(codes.Unavailable, "the survey is about to end or to start")
		}
		if err := s.pause(ctx, v, changed); err != nil {
			return err
		}
	}
}

// pause waits for a change and the watch interval, or for the end.
func (s *Server) pause(ctx context.Context, v *survey, changed <-chan struct{}) error {
	least := time.NewTimer(watchInterval)
	defer least.Stop()
	for {
		select {
		case <-changed:
			changed = nil
		case <-least.C:
			least.C = nil
		case <-v.ended:
			return nil
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-s.drained:
			return errStopping
		case <-s.ctx.Done():
			return errStopping
		}
		if changed == nil && least.C == nil {
			return nil
		}
	}
}

// CancelSurvey implements ControlService.
func (s *Server) CancelSurvey(ctx context.Context, req *pb.CancelSurveyRequest) (*pb.CancelSurveyResponse, error) {
	rec, err := s.cfg.Store.Survey(ctx, req.GetSurvey())
	if err != nil {
		return nil, rpcError(err)
	}
	if rec.Phase < store.Done {
		if err := s.cfg.Store.CancelSurvey(ctx, rec.ID); err != nil {
			return nil, rpcError(err)
		}
		if err := s.cancelChunks(ctx, rec.ID); err != nil {
			return nil, rpcError(err)
		}
	}
	st, err := s.state(ctx, rec.ID)
	if err != nil {
		return nil, rpcError(err)
	}
	return &pb.CancelSurveyResponse{State: st}, nil
}

// PauseSurvey implements ControlService.
func (s *Server) PauseSurvey(ctx context.Context, req *pb.PauseSurveyRequest) (*pb.PauseSurveyResponse, error) {
	st, err := s.setPaused(ctx, req.GetSurvey(), true)
	return &pb.PauseSurveyResponse{State: st}, err
}

// ResumeSurvey implements ControlService.
func (s *Server) ResumeSurvey(ctx context.Context, req *pb.ResumeSurveyRequest) (*pb.ResumeSurveyResponse, error) {
	st, err := s.setPaused(ctx, req.GetSurvey(), false)
	return &pb.ResumeSurveyResponse{State: st}, err
}

func (s *Server) setPaused(ctx context.Context, id string, paused bool) (*pb.SurveyState, error) {
	rec, err := s.cfg.Store.Survey(ctx, id)
	if err != nil {
		return nil, rpcError(err)
	}
	if rec.Phase >= store.Done || rec.Cancel {
		return nil, status.Errorf(codes.FailedPrecondition, "survey %s is over, or about to be", id)
	}
	if err := s.cfg.Store.PauseSurvey(ctx, id, paused); err != nil {
		return nil, rpcError(err)
	}
	// Other controllers see it when they look at the store.
	rec.Paused = paused
	if err := s.adopt(rec); err != nil {
		return nil, rpcError(err)
	}
	s.notifyAll()
	st, err := s.state(ctx, id)
	if err != nil {
		return nil, rpcError(err)
	}
	return st, nil
}

// cancelChunks tells every chunk of a survey that it was cancelled.
func (s *Server) cancelChunks(ctx context.Context, id string) error {
	keys, err := s.cfg.Store.Open(ctx, id)
	if err != nil {
		return err
	}
	return s.applyAll(keys, lease.Cancel{})
}

// applyAll runs an event for many chunks.
func (s *Server) applyAll(keys []store.Key, e lease.Event) error {
	return together(keys, func(k store.Key) error {
		c, effects, err := s.cfg.Store.Apply(s.ctx, k, e, nil)
		if err == nil {
			s.carryOut(c, effects)
		}
		return err
	})
}

// rpcError gives an error the code that callers go by.
func rpcError(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, store.ErrFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Internal, err.Error())
}
