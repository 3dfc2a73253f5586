package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

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
	l, err := a.openLists(f)
	if err != nil {
		return err
	}
	defer l.close()
	r := &surveyRun{name: l.name(), read: l.read, spec: spec, scratch: true, quiet: f.quiet}
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
		return a.attend(cmd.Context(), c, o, r.id, f.quiet)
	})
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
	created, err := c.CreateSurvey(ctx, req)
	r.id = created.GetSurvey()
	return err
}
