package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/store"
	"tfofleet/internal/targets"
	pb "tfofleet/proto/tfofleet/v1"
)

// surveyRun is one survey, from what is asked for to where it stands.
type surveyRun struct {
	site   site
	limits limits // what site was made from
	quiet  bool
	again  string // the command that goes on with it, but for the directory
	// Scratch: the dataset is not kept.
	scratch bool

	// A new survey.
	name string
	spec *pb.SurveySpec
	// share is how a fleet divides the targets; nil: this machine has them all.
	share *pb.CreateSurveyRequest
	out   string
	read  func(emit func(measure.Target) error) (targets.ReadStats, error)

	dir   string // of the dataset; given where a survey is resumed
	lines targets.ReadStats
	id    string
	state *pb.SurveyState // the last one seen
}

// conduct runs a survey to its end, has it summed up, and says how it ended.
func (a *app) conduct(ctx context.Context, r *surveyRun, sumUp func() (*report.Summary, error)) error {
	host, err := a.lookAround(r.site)
	if err != nil {
		return err
	}
	begin := a.begin
	if r.dir != "" {
		begin = a.resume
	}
	l, err := begin(ctx, r)
	if err != nil {
		return err
	}
	show := &progress{term: a.term, quiet: r.quiet}
	cut := a.watch(ctx, l, r, show)
	state, err := l.end(r.id)
	if state != nil {
		r.state = state
	}
	show.end(r.state, time.Now())
	summary, sumErr := sumUp()
	if r.lines.Bad > 0 {
		fmt.Fprintf(a.term, "controller: %s skipped, of %s\n", counted(uint64(r.lines.Bad), "bad line"), count(uint64(r.lines.Lines)))
	}
	if !r.scratch {
		fmt.Fprintf(a.term, "controller: dataset in %s\n", r.dir)
	}
	switch {
	case r.state.GetPhase() == pb.SurveyPhase_SURVEY_PHASE_FAILED:
		return fail(exitFailure, errors.New(r.state.GetReason()))
	case r.state.GetPhase() == pb.SurveyPhase_SURVEY_PHASE_RUNNING:
		return r.unfinished(errors.Join(cut, err))
	case errors.Join(err, sumErr) != nil:
		return errors.Join(err, sumErr)
	}
	if err := removeState(r.dir); err != nil {
		return err
	}
	return r.judge(host, summary)
}

// begin makes the dataset and starts a survey of the list. When it fails,
// nothing is left behind.
func (a *app) begin(ctx context.Context, r *surveyRun) (l *local, err error) {
	if r.dir, err = makeOut(r.out); err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		if l != nil {
			l.close()
		}
		os.RemoveAll(r.dir)
		if ctx.Err() != nil {
			err = fail(exitInterrupted, errors.New("interrupted before the first target; nothing was kept"))
		}
	}()
	if l, err = startLocal(ctx, r.dir, r.site, a.log); err == nil {
		err = r.limits.remember(r.dir)
	}
	if err != nil {
		return l, unwritable(r.dir, err)
	}
	list, err := uploadOrGiveUp(ctx, l.control, r)
	if err != nil {
		return l, err
	}
	if !r.quiet {
		r.announce(a.term, list)
	}
	created, err := l.control.CreateSurvey(ctx, &pb.CreateSurveyRequest{RequestId: rand.Text(), Name: r.name, TargetsId: list.GetTargetsId(), Spec: r.spec})
	if err != nil {
		return l, r.stored(err)
	}
	r.id = created.GetSurvey()
	return l, nil
}

// announce says what is about to be measured.
func (r *surveyRun) announce(w io.Writer, list *pb.AddTargetsResponse) {
	line := counted(list.GetTargets(), "target") + " from " + r.name
	if n := list.GetDuplicates(); n > 0 {
		line += ", " + counted(n, "duplicate")
	}
	if n := uint64(r.lines.Bad); n > 0 {
		line += ", " + counted(n, "bad line")
	}
	line += fmt.Sprintf(", seed %d", r.spec.GetSeed())
	if !r.scratch {
		line += ", into " + r.dir
	}
	fmt.Fprintln(w, "controller: "+line)
}

// uploadOrGiveUp sends the list. An interrupt does not wait for a list that is
// typed in.
func uploadOrGiveUp(ctx context.Context, control pb.ControlServiceClient, r *surveyRun) (*pb.AddTargetsResponse, error) {
	type answer struct {
		list *pb.AddTargetsResponse
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		list, err := r.upload(ctx, control)
		answered <- answer{list, err}
	}()
	select {
	case a := <-answered:
		return a.list, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *surveyRun) upload(ctx context.Context, control pb.ControlServiceClient) (*pb.AddTargetsResponse, error) {
	var readErr error
	list, err := upload(ctx, control, r.spec.GetSeed(), func(emit func(measure.Target) error) error {
		if r.lines, readErr = r.read(emit); readErr == nil && r.lines.Targets == 0 {
			readErr = r.noTargets()
		}
		return readErr
	})
	var bad *targets.LineError
	switch {
	case errors.As(readErr, &bad):
		return nil, fail(exitBadLine, readErr, "correct the line, or leave out --strict to skip it")
	case readErr != nil && !errors.Is(readErr, errUpload):
		return nil, unreadable(readErr)
	case err != nil:
		return nil, r.stored(err)
	}
	return list, nil
}

// noTargets says why a list gave nothing to measure.
func (r *surveyRun) noTargets() error {
	switch s := r.lines; {
	case s.Bad > 0:
		return fail(exitOnlyBadLines, fmt.Errorf("no line of %s can be used: %s bad", r.name, count(uint64(s.Bad))),
			"a line is a host, an address or a CIDR block, with or without :port; README.md shows every form")
	case s.OtherFamily > 0:
		return fail(exitEmptyList, fmt.Errorf("%s holds no address of the family asked for", r.name), "leave out --family")
	}
	return fail(exitEmptyList, fmt.Errorf("%s holds no target", r.name), "put one target per line into it, such as example.com")
}

// stored is the ending for an answer of the controller that something cannot
// be stored.
func (r *surveyRun) stored(err error) error {
	if r.dir != "" && status.Code(err) == codes.ResourceExhausted {
		return diskFull(r.dir)
	}
	return err
}

// resume goes on with the survey in a dataset.
func (a *app) resume(ctx context.Context, r *surveyRun) (*local, error) {
	s, err := dataset.ReadSurvey(r.dir)
	if err != nil {
		return nil, fail(exitNoDataset, err, "give the directory of a survey that was interrupted: it holds survey.json")
	}
	if !hasState(r.dir) {
		if s.State == dataset.StateRunning || s.State == dataset.StateInterrupted {
			return nil, fail(exitNoDataset, fmt.Errorf("%s has lost what is needed to go on with its survey", r.dir),
				"what was measured is there: controller report "+quote(r.dir), "start a new survey for the rest")
		}
		return nil, fail(exitUsage, fmt.Errorf("the survey in %s is %s: nothing is left to measure", r.dir, s.State), "controller report "+quote(r.dir))
	}
	l, err := startLocal(ctx, r.dir, r.site, a.log)
	if err == nil {
		err = r.limits.remember(r.dir)
	}
	if err != nil {
		if l != nil {
			l.close()
		}
		if errors.Is(err, store.ErrInUse) {
			return nil, fail(exitCannotWrite, fmt.Errorf("another controller is at work in %s", r.dir), "wait for it to end")
		}
		return nil, unwritable(r.dir, err)
	}
	r.id, r.name = s.ID, s.Name
	return l, nil
}

// patience is how long a survey may stand still for want of storage before it
// is given up for now.
const patience = 3 * time.Second

// watch follows the survey to its end and shows how far it is. It returns why
// it ended before: an interrupt, or what keeps it from going on.
func (a *app) watch(ctx context.Context, l *local, r *surveyRun, show *progress) error {
	calls, cancel := context.WithCancel(context.Background())
	defer cancel()
	states := make(chan *pb.SurveyState)
	lost := make(chan error, 1)
	go func() { lost <- watchStates(calls, l.control, r.id, states) }()

	second := time.NewTicker(time.Second)
	defer second.Stop()
	var since time.Time // it stands still
	for {
		select {
		case r.state = <-states:
			if r.state.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_RUNNING {
				return nil
			}
		case <-second.C:
			if r.state == nil {
				continue
			}
		case err := <-lost:
			return err
		case err := <-l.died:
			return err
		case <-ctx.Done():
			if !r.quiet {
				fmt.Fprintln(a.term, "controller: interrupted, putting what was measured in order (again: end at once)")
			}
			return ctx.Err()
		}
		now := time.Now()
		show.update(r.state, now)
		switch stalled := r.state.GetStalled(); {
		case stalled == "":
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) > patience:
			return &stall{stalled}
		}
	}
}

// stall is why a survey could not go on, in the controller's words.
type stall struct{ reason string }

func (s *stall) Error() string { return s.reason }

// full reports whether the disk is.
func (s *stall) full() bool {
	for _, err := range []error{store.ErrFull, syscall.ENOSPC, syscall.EDQUOT} {
		if strings.Contains(s.reason, err.Error()) {
			return true
		}
	}
	return false
}

// watchStates sends every state of a survey, the last one when it has ended.
func watchStates(ctx context.Context, control pb.ControlServiceClient, id string, states chan<- *pb.SurveyState) error {
	for {
		stream, err := control.WatchSurvey(ctx, &pb.WatchSurveyRequest{Survey: id})
		for err == nil {
			var msg *pb.WatchSurveyResponse
			if msg, err = stream.Recv(); err == nil {
				select {
				case states <- msg.GetState():
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		// Unavailable: it is about to end, and will have at the next look.
		if status.Code(err) != codes.Unavailable {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
