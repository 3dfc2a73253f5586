package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "tfofleet/proto/tfofleet/v1"
)

// upload freezes a list of n targets. They are of 198.18.0.0/15, which is for
// benchmarks (RFC 2544), and nobody contacts them.
func upload(ctx context.Context, f *fleet, n int) (list string, err error) {
	stream, err := f.process.ctl.AddTargets(ctx)
	if err != nil {
		return "", err
	}
	const block = 1 << 17 // addresses
	for i := 0; i < n && ctx.Err() == nil; {
		req := &pb.AddTargetsRequest{Seed: 7}
		for ; i < n && len(req.Targets) < 1000; i++ {
			a := i % block
			req.Targets = append(req.Targets, &pb.Target{Address: []byte{198, byte(18 + a>>16), byte(a >> 8), byte(a)}, Port: uint32(443 + i/block)})
		}
		if err := stream.Send(req); err != nil {
			if errors.Is(err, io.EOF) {
				break // the answer has the reason
			}
			return "", err
		}
	}
	resp, err := stream.CloseAndRecv()
	if err == nil && resp.GetTargets() != uint64(n) {
		err = fmt.Errorf("%d targets of %d are in the list", resp.GetTargets(), n)
	}
	return resp.GetTargetsId(), err
}

// create starts a survey.
func create(ctx context.Context, f *fleet, list string, mode pb.SurveyMode) (id string, err error) {
	req := &pb.CreateSurveyRequest{RequestId: rand.Text(), Name: "bench", TargetsId: list, Mode: mode, Spec: &pb.SurveySpec{
		Plan: pb.Plan_PLAN_STANDARD, Family: pb.Family_FAMILY_ANY, Payload: pb.Payload_PAYLOAD_HTTP,
		Concurrency: 256, Timeout: durationpb.New(5 * time.Second), Hold: durationpb.New(time.Second),
	}}
	if mode == pb.SurveyMode_SURVEY_MODE_EVERY {
		req.Probes = &pb.ProbeSelector{} // all
	}
	resp, err := f.process.ctl.CreateSurvey(ctx, req)
	return resp.GetSurvey(), err
}

// wait waits for the end of a survey, calling tell now and then, and returns how
// it ended.
func (f *fleet) wait(ctx context.Context, id string, tell func()) (st *pb.SurveyState, err error) {
	asked := time.Time{}
	err = errors.Join(f.await(ctx, "the end of the survey", time.Hour, func() bool {
		if time.Since(asked) < 50*time.Millisecond { // an operator may ask so often and no more
			return false
		}
		asked = time.Now()
		tell()
		var resp *pb.GetSurveyResponse
		resp, err = f.process.ctl.GetSurvey(ctx, &pb.GetSurveyRequest{Survey: id})
		st = resp.GetState()
		return err != nil || st.GetPhase() > pb.SurveyPhase_SURVEY_PHASE_RUNNING
	}), err)
	return st, err
}

// equation is what became of the targets of a survey.
func equation(st *pb.SurveyState) string {
	s := fmt.Sprintf("%d planned = %d measured + %d refused + %d interrupted + %d cancelled + %d lost + %d pending",
		st.GetPlanned(), st.GetMeasured(), st.GetRefused(), st.GetInterrupted(), st.GetCancelled(), st.GetLost(), st.GetPending())
	if why := st.GetReason() + st.GetStalled(); why != "" {
		s += ": " + why
	}
	return s
}
