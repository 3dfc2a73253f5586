package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "tfofleet/proto/tfofleet/v1"
)

func state(planned, pending uint64, counts ...*pb.VerdictCount) *pb.SurveyState {
	return &pb.SurveyState{Planned: planned, Pending: pending, Measured: planned - pending, Counts: counts, Elapsed: durationpb.New(90 * time.Second)}
}

func measured(v pb.Verdict, n uint64) *pb.VerdictCount {
	return &pb.VerdictCount{Outcome: pb.Outcome_OUTCOME_MEASURED, Verdict: v, Count: n}
}

// A frame that is wider than the terminal wraps, and then the lines that are
// erased are not those that were drawn.
func TestFrameFitsEveryWidth(t *testing.T) {
	s := state(123_456_789, 3_456_789)
	for v := pb.Verdict_VERDICT_SUPPORTED; v <= pb.Verdict_VERDICT_INCONCLUSIVE; v++ {
		s.Counts = append(s.Counts, measured(v, 10_000_000))
	}
	for width := 20; width < 200; width++ {
		for _, line := range frame(s, 12_345, time.Hour, width, false) {
			if n := utf8.RuneCountInString(line); n >= width && strings.Contains(line, "  ") {
				t.Errorf("width %d: %d columns: %q", width, n, line)
			}
		}
	}
}

func TestFrameSaysEverything(t *testing.T) {
	got := strings.Join(frame(state(1000, 250, measured(pb.Verdict_VERDICT_UNSUPPORTED, 700), measured(pb.Verdict_VERDICT_RESET, 50)), 50, 5*time.Second, 100, false), "\n")
	want := "██████████████████████████████░░░░░░░░░░   75%  750/1,000  50/s  1m30s  5.0s left\nunsupported 700  reset 50"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestHindered: a survey that does not go on says why, until it is over.
func TestHindered(t *testing.T) {
	s := state(1000, 250)
	s.Phase, s.Paused, s.Stalled, s.Missing = pb.SurveyPhase_SURVEY_PHASE_RUNNING, true, "the disk is full", []string{"a", "b"}
	for _, want := range []string{"paused", "the disk is full", "waits for a, b: not connected"} {
		if got := strings.Join(frame(s, 50, 0, 100, false), "\n"); !strings.Contains(got, "\n"+want) {
			t.Errorf("a frame without %q:\n%s", want, got)
		}
		if got := plainLine(s, 50, 0); !strings.Contains(got, "; "+want) {
			t.Errorf("a line without %q: %s", want, got)
		}
	}
	if got := phase(s); got != "paused" {
		t.Errorf("it is %s", got)
	}
	s.Phase = pb.SurveyPhase_SURVEY_PHASE_CANCELLED
	if got := strings.Join(append(frame(s, 50, 0, 100, false), plainLine(s, 50, 0), phase(s)), "\n"); strings.Contains(got, "paused") || strings.Contains(got, "disk") {
		t.Errorf("when it is over: %s", got)
	}
}

// NO_COLOR forbids colour; it does not forbid a bar.
func TestColorOnlyWhenWanted(t *testing.T) {
	s := state(10, 5, measured(pb.Verdict_VERDICT_RESET, 5))
	if plain := strings.Join(frame(s, 1, 0, 80, false), "\n"); strings.Contains(plain, "\x1b") {
		t.Errorf("escapes without color: %q", plain)
	}
	if colored := strings.Join(frame(s, 1, 0, 80, true), "\n"); !strings.Contains(colored, "\x1b[31mreset 5\x1b[0m") {
		t.Errorf("a fault is not red: %q", colored)
	}
}

// A survey of nothing has no share, no rate and no time left; none is NaN.
func TestFrameOfNothing(t *testing.T) {
	for _, s := range []*pb.SurveyState{{}, state(5, 5)} {
		if got := strings.Join(frame(s, 0, 0, 80, false), "\n"); strings.Contains(got, "NaN") || strings.Contains(got, "left") {
			t.Errorf("got %q", got)
		}
	}
}

// Progress in a log file: no escape sequences, no line per update.
func TestPipedProgress(t *testing.T) {
	var out bytes.Buffer
	p := &progress{term: newTerminal(&out)}
	start := time.Unix(1e9, 0)
	for i := range 301 { // 30 s, ten updates a second
		p.update(state(301, 300-uint64(i), measured(pb.Verdict_VERDICT_SUPPORTED, uint64(i)+1)), start.Add(time.Duration(i)*100*time.Millisecond))
	}
	p.end(state(301, 0, measured(pb.Verdict_VERDICT_SUPPORTED, 301)), start.Add(60*time.Second))
	want := "controller: 101 of 301 targets (34%) in 1m30s, 10/s, 20s left: supported 101\n" +
		"controller: 201 of 301 targets (67%) in 1m30s, 10/s, 10s left: supported 201\n" +
		"controller: 301 of 301 targets (100%) in 1m30s, 10/s: supported 301\n" +
		"controller: 301 of 301 targets (100%) in 1m30s, 5.0/s: supported 301\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestQuietProgress(t *testing.T) {
	var out bytes.Buffer
	p := &progress{term: newTerminal(&out), quiet: true}
	p.update(state(1, 1), time.Unix(0, 0))
	p.update(state(1, 1), time.Unix(60, 0))
	p.end(state(1, 0), time.Unix(61, 0))
	if out.Len() > 0 {
		t.Errorf("--quiet wrote %q", out.String())
	}
}

// The pace is that of the last seconds, not of the whole survey.
func TestPaceForgets(t *testing.T) {
	var p pace
	var done uint64
	for i := range 120 {
		p.add(time.Unix(int64(i), 0), done)
		if i < 60 {
			done += 100
		} else {
			done += 10
		}
	}
	if got := p.perSecond(); got != 10 {
		t.Errorf("%v per second, want 10", got)
	}
	if len(p.at) > 20 {
		t.Errorf("keeps %d samples", len(p.at))
	}
}

func TestClock(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0s", 449 * time.Millisecond: "0.4s", 9960 * time.Millisecond: "10s", 59 * time.Second: "59s", 61 * time.Second: "1m01s",
		59*time.Minute + 59600*time.Millisecond: "1h00m", 25*time.Hour + 3*time.Minute: "25h03m",
	} {
		if got := clock(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
