package report

import (
	"strings"
	"testing"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
)

// Each note has a dataset that calls for it, and one beside it that does not.
func TestAttention(t *testing.T) {
	ok := func(n int) []measure.Measurement { return times(n, measured(measure.Unsupported, at(4, 443))) }
	state := func(state dataset.State, planned uint64) *dataset.Survey {
		s := testSurvey()
		s.State, s.Counts.Planned = state, planned
		return s
	}
	sysctls := func(bits, timeout int) *dataset.Survey {
		s := testSurvey()
		s.Probes[0].TCPFastOpen, s.Probes[0].BlackholeTimeoutS = &bits, &timeout
		return s
	}
	counted := func(n uint64) *dataset.Survey {
		s := state(dataset.StateDone, n)
		s.Counts.Measured = n
		return s
	}
	failed := state(dataset.StateFailed, 0)
	failed.Reason = "no space left on device"
	for _, c := range []struct {
		name   string
		survey *dataset.Survey
		ms     []measure.Measurement
		code   string // empty: nothing calls for attention
		text   string
		count  uint64
	}{
		{"sound", testSurvey(), ok(100), "", "", 0},
		{"empty", testSurvey(), nil, "", "", 0},
		{"running", state(dataset.StateRunning, 5), ok(2), NoteUnfinished, "3 targets are not in the dataset. Resume it", 3},
		{"cancelled", state(dataset.StateCancelled, 3), ok(2), NoteUnfinished, "was cancelled: 1 target is not in the dataset. Measure what is missing in a new survey.", 1},
		{"killed at the end", state(dataset.StateRunning, 2), ok(2), NoteUnfinished, "still runs or was killed.", 0},
		{"failed", failed, ok(2), NoteUnfinished, "has failed (no space left on device).", 0},
		{"files are gone", counted(5), ok(2), NoteMissing, "3 targets are counted in survey.json and not in the dataset", 3},
		{"all files are there", counted(2), ok(2), "", "", 0},
		{"sysctl off", sysctls(2, 0), ok(2), NoteProbeSysctl, "tcp_fastopen = 2", 0},
		{"sysctl on", sysctls(3, 0), ok(2), "", "", 0},
		{"blackhole pause", sysctls(1, 3600), ok(2), NoteProbeSysctl, "blackhole_timeout_sec = 3600", 0},
		{"vantage", testSurvey(), append(ok(99), measured(measure.Inconclusive, at(4, 443), measure.CondVantagePaused)), NoteVantage, "tcp_fastopen_blackhole_timeout_sec to 0", 1},
		{"vantage, new", testSurvey(), append(ok(99), measured(measure.Supported, at(4, 443), "tfo.vantage.enobufs")), NoteVantage, "tfo.vantage.enobufs. The cause is on the probe's own host", 1},
		{"near path", testSurvey(), append(ok(99), measured(measure.Supported, at(4, 443), measure.CondNearPathChangesAddress)), NoteVantage, "near_path.changes_address. The probe's self-test found it", 1},
		{"late", testSurvey(), append(ok(99), measured(measure.Supported, at(4, 443), measure.CondVantageLate)), NoteVantage, "1 target carries tfo.vantage.late. Results that come", 1},
		{"all offline", testSurvey(), times(3, measured(measure.Offline, at(4, 443))), NoteAllOffline, "all 3 are offline", 3},
		{"two offline", testSurvey(), times(2, measured(measure.Offline, at(4, 443))), "", "", 0},
		{"ipv6 offline", testSurvey(), append(ok(9), times(3, measured(measure.Offline, at(6, 443)))...), NoteAllOffline, "over IPv6: all 3", 3},
		{"names offline", testSurvey(), append(ok(9), times(3, measured(measure.Offline, at(0, 443)))...), "", "", 0},
		{"inconclusive", testSurvey(), append(ok(90), times(10, measured(measure.Inconclusive, at(4, 443), measure.CondTriesDisagree))...), NoteInconclusive, "10.0% of the measured. Most carry tfo.tries.disagree (100.0%)", 10},
		{"few inconclusive", testSurvey(), append(ok(97), times(3, measured(measure.Inconclusive, at(4, 443)))...), "", "", 0},
		{"one fault", testSurvey(), append(ok(30), times(10, measured(measure.DataDropped, at(4, 443)))...), NoteOneFault, "25.0% of what probe local measured is data_dropped", 10},
		{"many faults", testSurvey(), append(append(ok(30), times(7, measured(measure.DataDropped, at(4, 443)))...), times(7, measured(measure.Reset, at(4, 443)))...), "", "", 0},
		{"refused", testSurvey(), append(ok(3), measure.Measurement{Target: at(4, 443), Outcome: measure.OutcomeRefused}), NoteRefused, "1 target was refused by the probe's policy, nothing was sent. To measure what is yours, allow it: by --allow", 1},
		{"interrupted", testSurvey(), append(ok(3), times(2, measure.Measurement{Target: at(4, 443), Outcome: measure.OutcomeInterrupted})...), NoteInterrupted, "2 targets were started", 2},
		{"later version", testSurvey(), append(ok(3), measured(99, at(4, 443)), measure.Measurement{Outcome: 9}), NoteUnknown, "2 targets have", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := aggregated(t, c.survey, c.ms)
			if c.code == "" {
				if len(s.Attention) > 0 {
					t.Fatalf("%+v", s.Attention)
				}
				return
			}
			if len(s.Attention) != 1 || s.Attention[0].Code != c.code || s.Attention[0].Count != c.count || !strings.Contains(s.Attention[0].Text, c.text) {
				t.Fatalf("%+v, want %s %d %q", s.Attention, c.code, c.count, c.text)
			}
		})
	}
}

// One fault at many targets is the vantage side's until other probes agree.
func TestOneFaultOfTargets(t *testing.T) {
	ms := func(faults int) []measure.Measurement {
		return append(times(faults, measured(measure.DataDropped, at(4, 443))), times(40-faults, measured(measure.Unsupported, at(4, 443)))...)
	}
	for _, c := range []struct {
		name   string
		probes map[string][]measure.Measurement
		notes  int
		text   string
	}{
		{"all agree", map[string][]measure.Measurement{"fra": ms(10), "nyc": ms(10)}, 2, "The other probes agree"},
		{"other targets", map[string][]measure.Measurement{"fra": ms(10), "nyc": append(times(10, measured(measure.Unsupported, at(4, 443))), ms(10)[:30]...)}, 2, "suspect the probe's own network"},
		{"one does not", map[string][]measure.Measurement{"fra": ms(10), "nyc": ms(10), "sin": ms(0)}, 2, "suspect the probe's own network"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Aggregate(write(t, testSurvey(), c.probes))
			if err != nil {
				t.Fatal(err)
			}
			notes := 0
			for _, n := range s.Attention {
				if n.Code != NoteOneFault {
					continue
				}
				if notes++; !strings.Contains(n.Text, c.text) {
					t.Errorf("%q, want %q", n.Text, c.text)
				}
			}
			if notes != c.notes {
				t.Errorf("%d notes, want %d: %+v", notes, c.notes, s.Attention)
			}
		})
	}
}

// What has no row in the dataset is in the line of targets all the same.
func TestUnmeasured(t *testing.T) {
	v := testSurvey()
	v.State, v.Counts = dataset.StateCancelled, dataset.Counts{Planned: 9, Measured: 2, Cancelled: 1234, Lost: 3}
	var b strings.Builder
	if err := RenderTable(&b, aggregated(t, v, times(2, measured(measure.Unsupported, at(4, 443)))), Options{Width: 80}); err != nil {
		t.Fatal(err)
	}
	if want := "targets  2 measured, 1,234 cancelled, 3 lost\n"; !strings.Contains(b.String(), want) {
		t.Errorf("no %q in\n%s", want, &b)
	}
}

func TestText(t *testing.T) {
	for got, want := range map[string]string{
		number(0): "0", number(999): "999", number(1000): "1,000", number(1234567): "1,234,567",
		percent(0, 10): "0.0%", percent(10, 10): "100.0%", percent(1, 3): "33.3%", percent(1, 10000): "<0.1%", percent(9999, 10000): ">99.9%", percent(0, 0): "-",
		millis(1500): "1.50 ms", millis(-31_500): "-31.5 ms", millis(1_234_567): "1235 ms",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
