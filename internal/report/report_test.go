package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jedib0t/go-pretty/v6/text"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

var update = flag.Bool("update", false, "write the golden files")

func testSurvey() *dataset.Survey {
	bits, timeout := 1, 0
	return &dataset.Survey{
		ID: "0198f1c2", Name: "home", State: dataset.StateDone,
		Created: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Ended: time.Date(2026, 11, 20, 12, 5, 0, 0, time.UTC),
		Spec:   dataset.Spec{Plan: "standard", Family: "any", Payload: "auto", Seed: 1},
		Probes: []dataset.Probe{{Name: "local", Kernel: "6.18.0", Arch: "amd64", TCPFastOpen: &bits, BlackholeTimeoutS: &timeout}},
	}
}

// at is a target of an IP version, 0 for one that did not resolve.
func at(family int, port uint16) measure.Target {
	t := measure.Target{Port: port, Hostname: "www.example"}
	switch family {
	case 4:
		t.Addr = netip.MustParseAddr("192.0.2.1")
	case 6:
		t.Addr = netip.MustParseAddr("2001:db8::1")
	}
	return t
}

func measured(v measure.Verdict, t measure.Target, cs ...measure.Condition) measure.Measurement {
	return measure.Measurement{Target: t, Outcome: measure.OutcomeMeasured, Verdict: v, Conditions: cs}
}

// saving is a supported target whose first byte comes at plain or at fast µs.
func saving(t measure.Target, plain, fast int64) measure.Measurement {
	m := measured(measure.Supported, t, measure.CondWorks, measure.CondCookieReceived, measure.CondSynDataAcked)
	m.Attempts = []tfo.Evidence{
		{Kind: tfo.KindPlain, End: tfo.EndResponse, ConnectNS: plain * 500, FirstByteNS: plain * 1000, TotalNS: plain * 1000},
		{Kind: tfo.KindData, End: tfo.EndResponse, SynBytes: 9, SynAcked: 9, ConnectNS: fast * 500, FirstByteNS: fast * 1000, TotalNS: fast * 1000},
	}
	return m
}

func times(n int, m measure.Measurement) []measure.Measurement {
	ms := make([]measure.Measurement, n)
	for i := range ms {
		ms[i] = m
	}
	return ms
}

// write makes a dataset with a chunk of each probe.
func write(t testing.TB, s *dataset.Survey, probes map[string][]measure.Measurement) string {
	t.Helper()
	w, err := dataset.Create(t.TempDir(), s)
	if err != nil {
		t.Fatal(err)
	}
	for probe, ms := range probes {
		for i := range ms {
			ms[i].Item = uint64(i)
		}
		if err := w.WriteChunk(dataset.ChunkKey{Survey: s.ID, Probe: probe}, ms); err != nil {
			t.Fatal(err)
		}
	}
	return w.Dir()
}

func aggregated(t testing.TB, s *dataset.Survey, ms ...[]measure.Measurement) *Summary {
	t.Helper()
	var all []measure.Measurement
	for _, m := range ms {
		all = append(all, m...)
	}
	got, err := Aggregate(write(t, s, map[string][]measure.Measurement{"local": all}))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// home is a survey as one sees it: mostly unsupported, some of everything else.
func home(t testing.TB) *Summary {
	var ms [][]measure.Measurement
	for i := range 25 {
		ms = append(ms, times(1, saving(at(4, 443), 40_000+int64(i)*1000, 20_000)))
	}
	ms = append(ms,
		times(1, saving(at(6, 443), 15_000, 16_500)),
		times(1180, measured(measure.Unsupported, at(4, 443), measure.CondWorks, measure.CondCookieNotReceived)),
		times(210, measured(measure.Unsupported, at(6, 80), measure.CondWorks, measure.CondCookieNotReceived)),
		times(1, measured(measure.OptionDropped, at(4, 443), measure.CondBroken, measure.CondOptionLost)),
		times(3, measured(measure.BlackholedAfterHandshake, at(4, 80), measure.CondBroken, measure.CondAfterBlackholed)),
		times(41, measured(measure.Offline, at(4, 443), measure.CondOffline, measure.CondOfflineTimeout)),
		times(9, measured(measure.Offline, at(0, 443), measure.CondOffline)),
		times(4, measured(measure.Inconclusive, at(4, 443), measure.CondTriesDisagree)),
		times(2, measure.Measurement{Target: at(4, 22), Outcome: measure.OutcomeRefused}),
		times(1, measure.Measurement{Target: at(4, 443), Outcome: measure.OutcomeInterrupted}),
	)
	return aggregated(t, testSurvey(), ms...)
}

// trouble is one of which nothing is to be believed.
func trouble(t testing.TB) *Summary {
	s := testSurvey()
	s.State, s.Ended, s.Counts.Planned = dataset.StateRunning, time.Time{}, 1000
	off, timeout := 2, 3600
	s.Probes = []dataset.Probe{
		{Name: "fra", Kernel: "6.18.0", Arch: "amd64", TCPFastOpen: &off, BlackholeTimeoutS: &timeout},
		{Name: "a-probe-with-a-long-name-in-another-place", Kernel: "5.15.0"},
	}
	got, err := Aggregate(write(t, s, map[string][]measure.Measurement{
		"fra": append(times(60, measured(measure.Inconclusive, at(4, 443), measure.CondVantageDisabled)), times(7, measured(measure.Offline, at(6, 443), measure.CondOffline, measure.CondVantageNoRoute))...),
		"a-probe-with-a-long-name-in-another-place": append(times(70, measured(measure.OptionDropped, at(4, 443))), times(30, measured(measure.Unsupported, at(4, 443)))...),
	}))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func samples(t testing.TB) map[string]*Summary {
	running := testSurvey()
	running.State, running.Ended, running.Counts.Planned = dataset.StateRunning, time.Time{}, 5
	var every [][]measure.Measurement
	for _, v := range measure.Verdicts() {
		every = append(every, times(1, measured(v, at(4, 443))))
	}
	all := map[string]*Summary{
		"home":    home(t),
		"trouble": trouble(t),
		"empty":   aggregated(t, testSurvey()),
		"running": aggregated(t, running, times(2, saving(at(4, 443), 30_000, 10_000))),
		"every":   aggregated(t, testSurvey(), every...),
	}
	maps.Copy(all, fleets(t))
	return all
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func rendered(t *testing.T, s *Summary, o Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := RenderTable(&b, s, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRenderGolden(t *testing.T) {
	for name, s := range samples(t) {
		golden(t, name+".txt", rendered(t, s, Options{}))
		var b bytes.Buffer
		if err := RenderJSON(&b, s); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".json", b.String())
		for _, format := range []string{"csv", "markdown"} {
			b.Reset()
			if err := Render(&b, s, format, Options{}); err != nil {
				t.Fatal(err)
			}
			golden(t, name+"."+format, b.String())
		}
	}
	golden(t, "fleet.narrow", rendered(t, fleets(t)["fleet"], Options{Width: 60}))
	golden(t, "home.color", rendered(t, home(t), Options{Color: true, Width: 100}))
}

// A page fits its width, and is plain text unless color was asked for. With
// color it says the same.
func TestRenderFits(t *testing.T) {
	for name, s := range samples(t) {
		for _, width := range []int{0, 40, 60, 72, 80, 90, 120, 300} {
			plain := rendered(t, s, Options{Width: width})
			columns := min(max(width, 60), 120)
			if width == 0 {
				columns = 80
			}
			if strings.Contains(plain, "\x1b") {
				t.Errorf("%s: escape codes in plain text", name)
			}
			for line := range strings.Lines(plain) {
				if n := text.StringWidth(strings.TrimSuffix(line, "\n")); n > columns {
					t.Errorf("%s in %d columns: %d in %q", name, width, n, line)
				}
				if strings.HasSuffix(strings.TrimSuffix(line, "\n"), " ") {
					t.Errorf("%s: blanks at the end of %q", name, line)
				}
			}
			colored := rendered(t, s, Options{Width: width, Color: true})
			if !strings.Contains(colored, "\x1b") {
				t.Errorf("%s: no color", name)
			}
			if diff := cmp.Diff(plain, text.StripEscape(colored)); diff != "" {
				t.Errorf("%s: color changes the text: %s", name, diff)
			}
		}
	}
}

// A program finds the same in every summary, also in an empty one.
func TestRenderJSONHasNoNulls(t *testing.T) {
	for name, s := range samples(t) {
		var b bytes.Buffer
		if err := RenderJSON(&b, s); err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		for _, list := range []string{"verdicts", "by_probe", "by_port", "by_family", "by", "conditions", "attention"} {
			if _, ok := got[list].([]any); !ok {
				t.Errorf("%s: %s is %v", name, list, got[list])
			}
		}
	}
}

func TestOptionsFor(t *testing.T) {
	if o := OptionsFor(&bytes.Buffer{}); o != (Options{}) {
		t.Errorf("a buffer is a terminal: %+v", o)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if o := OptionsFor(null); o != (Options{}) {
		t.Errorf("%s is a terminal: %+v", os.DevNull, o)
	}
}

func TestEveryVerdictHasAMeaning(t *testing.T) {
	for _, v := range measure.Verdicts() {
		if n := len(Meaning(v)); n == 0 || n > 35 {
			t.Errorf("%v: a meaning of %d columns", v, n)
		}
	}
	if len(meanings) != len(measure.Verdicts()) {
		t.Errorf("%d meanings of %d verdicts", len(meanings), len(measure.Verdicts()))
	}
}
