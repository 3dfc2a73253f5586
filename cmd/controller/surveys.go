package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "tfofleet/proto/tfofleet/v1"
)

func (a *app) surveysCommand() *cobra.Command {
	return group("surveys", "Look after the surveys of a fleet", a.surveysList(), a.surveysShow(), a.surveysWatch(), a.surveysPause(), a.surveysResume(), a.surveysCancel())
}

func (a *app) surveysList() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "list", Short: "List the surveys, and meshes that have ended, oldest first", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				resp, err := c.ListSurveys(cmd.Context(), &pb.ListSurveysRequest{})
				if err != nil {
					return err
				}
				return list(a.stdout, o.format.value, resp.GetSurveys(), "ID STATE CREATED DONE PLANNED NAME", func(s *pb.SurveyState) []string {
					return []string{s.GetSurvey(), phase(s), date(s.GetCreated()), count(done(s)), count(s.GetPlanned()), dash(s.GetName())}
				})
			})
		},
	}
	o.addTo(cmd, true)
	return cmd
}

// phase is the word for where a survey stands.
func phase(s *pb.SurveyState) string {
	if s.GetPaused() && s.GetPhase() == pb.SurveyPhase_SURVEY_PHASE_RUNNING {
		return "paused"
	}
	return strings.ToLower(strings.TrimPrefix(s.GetPhase().String(), "SURVEY_PHASE_"))
}

func (a *app) surveysShow() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show how far a survey is", Args: one("survey's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				resp, err := c.GetSurvey(cmd.Context(), &pb.GetSurveyRequest{Survey: args[0]})
				if err != nil {
					return err
				}
				return a.writeState(resp.GetState(), o.format.value)
			})
		},
	}
	o.addTo(cmd, true)
	return cmd
}

// writeState writes one survey: every planned target is in one line.
func (a *app) writeState(s *pb.SurveyState, format string) error {
	if format == "json" {
		return list(a.stdout, format, []*pb.SurveyState{s}, "", nil)
	}
	fmt.Fprintf(a.stdout, "survey %s is %s: %s of %s in %s\n", s.GetSurvey(), phase(s), count(done(s)), counted(s.GetPlanned(), "target"), clock(s.GetElapsed().AsDuration()))
	for _, f := range tally(s) {
		fmt.Fprintf(a.stdout, "  %-24s %s\n", f.name, count(f.n))
	}
	if n := s.GetPending(); n > 0 {
		fmt.Fprintf(a.stdout, "  %-24s %s\n", "pending", count(n))
	}
	if n := len(s.GetProbes()); n > 0 {
		fmt.Fprintf(a.stdout, "  %-24s %s, each target by %d\n", "selected", counted(uint64(n), "probe"), s.GetCopies())
	}
	if why := s.GetReason(); why != "" {
		fmt.Fprintln(a.stdout, why)
	}
	for _, why := range hindered(s) {
		fmt.Fprintln(a.stdout, why)
	}
	return nil
}

// hindered says why a survey does not go on, or not as it should.
func hindered(s *pb.SurveyState) (why []string) {
	if s.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_RUNNING {
		return nil
	}
	if s.GetPaused() {
		why = append(why, "paused")
	}
	if stalled := s.GetStalled(); stalled != "" {
		why = append(why, stalled)
	}
	if missing := s.GetMissing(); len(missing) > 0 {
		why = append(why, "waits for "+strings.Join(missing, ", ")+": not connected")
	}
	return why
}

func (a *app) surveysWatch() *cobra.Command {
	var (
		o     operator
		quiet bool
	)
	cmd := &cobra.Command{
		Use: "watch ID", Short: "Follow a survey to its end", Args: one("survey's id"),
		Long: "Follow a survey to its end. Ctrl-C ends the watching, not the survey.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				s, err := a.follow(cmd.Context(), c, o, args[0], quiet)
				if err != nil {
					return err
				}
				return a.writeState(s, o.format.value)
			})
		},
	}
	o.addTo(cmd, true)
	cmd.Flags().BoolVar(&quiet, "quiet", false, "show no progress")
	return cmd
}

func (a *app) surveysPause() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "pause ID", Short: "Hand out no more of a survey; what was started is finished", Args: one("survey's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				_, err := c.PauseSurvey(cmd.Context(), &pb.PauseSurveyRequest{Survey: args[0]})
				return err
			})
		},
	}
	o.addTo(cmd, false)
	return cmd
}

func (a *app) surveysResume() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "resume ID", Short: "Go on with a paused survey", Args: one("survey's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				_, err := c.ResumeSurvey(cmd.Context(), &pb.ResumeSurveyRequest{Survey: args[0]})
				return err
			})
		},
	}
	o.addTo(cmd, false)
	return cmd
}

func (a *app) surveysCancel() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "cancel ID", Short: "End a survey; what was measured is kept", Args: one("survey's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				_, err := c.CancelSurvey(cmd.Context(), &pb.CancelSurveyRequest{Survey: args[0]})
				return err
			})
		},
	}
	o.addTo(cmd, false)
	return cmd
}

// follow shows a survey of a fleet until it has ended, and returns how it did. An
// interrupt detaches.
func (a *app) follow(ctx context.Context, c pb.ControlServiceClient, o operator, id string, quiet bool) (*pb.SurveyState, error) {
	if _, err := c.GetSurvey(ctx, &pb.GetSurveyRequest{Survey: id}); ctx.Err() != nil {
		return nil, a.detached(o, id)
	} else if err != nil {
		return nil, err // before it is waited for
	}
	states := make(chan *pb.SurveyState)
	lost := make(chan error, 1)
	go func() { lost <- watchStates(ctx, c, id, states) }()
	show := &progress{term: a.term, quiet: quiet}
	again := time.NewTicker(time.Second)
	defer again.Stop()
	var s *pb.SurveyState
	for s.GetPhase() <= pb.SurveyPhase_SURVEY_PHASE_RUNNING {
		select {
		case s = <-states:
		case <-again.C:
			if s == nil {
				continue
			}
		case err := <-lost:
			if ctx.Err() == nil {
				return nil, err
			}
			return nil, a.detached(o, id)
		case <-ctx.Done():
			return nil, a.detached(o, id)
		}
		show.update(s, time.Now())
	}
	show.end(s, time.Now())
	if s.GetPhase() == pb.SurveyPhase_SURVEY_PHASE_FAILED {
		return nil, fail(exitFailure, errors.New(s.GetReason()))
	}
	return s, nil
}

// detached is the ending for who leaves a survey that goes on.
func (a *app) detached(o operator, id string) *ending {
	return fail(exitInterrupted, fmt.Errorf("detached: survey %s goes on", id), a.comeBack(o, id), a.surveysLine("cancel", o, id)+" ends it")
}

// comeBack is the command that watches a survey.
func (a *app) comeBack(o operator, id string) string { return a.surveysLine("watch", o, id) }

func (a *app) surveysLine(what string, o operator, id string) string {
	line := fmt.Sprintf("%s surveys %s %s", a.program, what, id)
	if o.controller != socketIn(dataDir) {
		line += " --controller " + quote(o.controller)
	}
	return line
}
