package dataset

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func fullSurvey() *Survey {
	bits, timeout, yes := 1, 3600, true
	return &Survey{
		ID: "0198f1c2", Name: "home", State: StateDone,
		Created: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Ended: time.Date(2026, 11, 20, 12, 5, 0, 0, time.UTC),
		Spec: Spec{
			Plan: "standard", Family: "any", Payload: "bytes", PayloadBytes: []byte("GET"), Seed: 1<<64 - 1,
			Rate: 100, Concurrency: 64, TimeoutUS: 3_000_000, HoldUS: 1_000_000, ChunkSize: 64,
		},
		Versions: map[string]string{"controller": "0.1.0", "go": "go1.26"},
		Counts:   Counts{Planned: 3, Measured: 2, Refused: 1, Verdicts: map[string]uint64{"supported": 2}},
		Probes: []Probe{
			{Name: "local", Version: "0.1.0", Hostname: "host", Kernel: "6.18.0", Arch: "amd64", TCPFastOpen: &bits, BlackholeTimeoutS: &timeout, CanClearCookies: &yes},
			{Name: "other"},
		},
	}
}

// survey.json is an interface: its names are stable.
func TestSurveyGolden(t *testing.T) {
	w, err := Create(t.TempDir(), fullSurvey())
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(w.Dir(), surveyFile))
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", surveyFile)
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
	back, err := ReadSurvey(w.Dir())
	if err != nil {
		t.Fatal(err)
	}
	full := fullSurvey()
	full.Schema = SchemaVersion
	if diff := cmp.Diff(full, back); diff != "" {
		t.Error(diff)
	}
}

func TestReadSurveyErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, surveyFile)
	if _, err := ReadSurvey(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir+" is not a dataset") {
		t.Error(err)
	}
	for _, content := range []string{"", "{", `{"schema":0}`, `{"schema":2}`, `{"schema":1,"id":3}`} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if s, err := ReadSurvey(dir); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %+v, %v", content, s, err)
		}
	}
	// What a later version adds does not hinder.
	if err := os.WriteFile(path, []byte(`{"schema":1,"id":"a","new":[1]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSurvey(dir); err != nil || s.ID != "a" {
		t.Error(s, err)
	}
}
