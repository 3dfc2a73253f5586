package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

// ofProbes are the flags of a survey that are each probe's own business where
// there is a fleet.
var ofProbes = []string{"lab", "out", "blocklist", "allow", "resume", "resolver", "netns"}

// surveyFleet has the probes of a controller make the survey.
func (a *app) surveyFleet(cmd *cobra.Command, f *surveyFlags) error {
	for _, name := range ofProbes {
		if cmd.Flags().Changed(name) {
			return usage("--%s is for a survey from this machine: leave out --controller", name)
		}
	}
	if len(f.targets) == 0 {
		return fail(exitUsage, errors.New("no targets given"), "--targets FILE for a list")
	}
	f.chooseSeed(cmd.Flags().Changed("seed"))
	spec, err := f.spec()
	if err != nil {
		return err
	}
	// A second run meets a kernel and a path that remember the first: what a
	// probe did not finish is counted as interrupted.
	spec.RepeatInterrupted = false
	share, err := f.share()
	if err != nil {
		return err
	}
	l, err := a.openLists(f)
	if err != nil {
		return err
	}
	defer l.close()
	r := &surveyRun{name: l.name(), read: l.read, spec: spec, scratch: true, quiet: f.quiet, share: share}
	o := operator{controller: f.controller, format: f.format}
	return control(f.controller, func(c pb.ControlServiceClient) error {
		if err := a.create(cmd.Context(), c, r); err != nil {
			return err
		}
		if f.detach {
			if !f.quiet {
				fmt.Fprintf(a.term, "controller: survey %s runs; to watch it: %s\n", r.id, a.comeBack(o, r.id))
			}
			_, err := fmt.Fprintln(a.stdout, r.id)
			return err
		}
		s, err := a.follow(cmd.Context(), c, o, r.id, f.quiet)
		if err != nil {
			return err
		}
		return a.reportSurvey(cmd.Context(), c, s, f.format.value)
	})
}

// reportSurvey fetches the dataset of a survey that has ended, and sums it up.
func (a *app) reportSurvey(ctx context.Context, c pb.ControlServiceClient, s *pb.SurveyState, format string) error {
	dir, err := os.MkdirTemp("", "tfofleet-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := fetch(ctx, c, s.GetSurvey(), dir); err != nil {
		return err
	}
	if _, err := a.report(dir, format); err != nil {
		return err
	}
	if s.GetPlanned() > 0 && s.GetRefused() == s.GetPlanned() {
		return fail(exitAllRefused, errors.New("the policies of the probes refused every target"), "the conditions in the dataset say why: controller export "+s.GetSurvey())
	}
	return nil
}

// create uploads the list and starts the survey.
func (a *app) create(ctx context.Context, c pb.ControlServiceClient, r *surveyRun) error {
	list, err := uploadOrGiveUp(ctx, c, r)
	if ctx.Err() != nil {
		return fail(exitInterrupted, errors.New("interrupted before the survey was started"))
	}
	if err != nil {
		return err
	}
	if !r.quiet {
		r.announce(a.term, list)
	}
	// Under the same id a lost answer can be asked for again.
	req := &pb.CreateSurveyRequest{RequestId: rand.Text(), Name: r.name, TargetsId: list.GetTargetsId(), Spec: r.spec}
	if r.share != nil {
		proto.Merge(req, r.share)
	}
	created, err := c.CreateSurvey(ctx, req)
	if status.Code(err) == codes.FailedPrecondition {
		return fail(exitUsage, errors.New(identity.Why(err)), `"controller probes list" tells which probes there are`)
	}
	r.id = created.GetSurvey()
	return err
}

// share is how the targets are divided among the probes, as far as it was said.
func (f *surveyFlags) share() (*pb.CreateSurveyRequest, error) {
	req := &pb.CreateSurveyRequest{}
	switch f.mode {
	case "shard":
		req.Mode = pb.SurveyMode_SURVEY_MODE_SHARD
	case "every":
		req.Mode = pb.SurveyMode_SURVEY_MODE_EVERY
	default:
		k, err := strconv.ParseUint(f.mode, 10, 16)
		if err != nil || k == 0 {
			return nil, fail(exitUsage, fmt.Errorf("--mode %q: want shard, every, or how many probes are to measure each target", f.mode))
		}
		req.Mode, req.Copies = pb.SurveyMode_SURVEY_MODE_COPIES, uint32(k)
	}
	if f.probes == "" && len(f.maxPer) == 0 {
		return req, nil
	}
	sel := &pb.ProbeSelector{MaxPer: make(map[string]uint32)}
	for word := range strings.SplitSeq(f.probes, ",") {
		switch word = strings.TrimSpace(word); {
		case word == "":
		case strings.Contains(word, "="):
			sel.Labels = append(sel.Labels, word)
		default:
			sel.Names = append(sel.Names, word)
		}
	}
	for _, limit := range f.maxPer {
		key, n, ok := strings.Cut(limit, "=")
		most, err := strconv.ParseUint(n, 10, 32)
		if !ok || key == "" || err != nil || most == 0 {
			return nil, fail(exitUsage, fmt.Errorf("--max-per %q: want LABEL=N", limit))
		}
		sel.MaxPer[key] = uint32(most)
	}
	req.Probes = sel
	return req, nil
}
