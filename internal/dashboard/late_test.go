package dashboard

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// A target whose result came when its chunk was written is there once, with the
// evidence that came late.
func TestLateMeasurement(t *testing.T) {
	dir := t.TempDir()
	w, err := dataset.Create(dir, &dataset.Survey{ID: "s", State: dataset.StateDone, Spec: dataset.Spec{Plan: "standard"}})
	if err != nil {
		t.Fatal(err)
	}
	target := measure.Target{Item: 7, Addr: netip.MustParseAddr("192.0.2.1"), Port: 443}
	cut := measure.Measurement{Target: target, Outcome: measure.OutcomeInterrupted}
	for late, ms := range [][]measure.Measurement{{cut}, {agenttest.Healthy(target)}} {
		if err := w.WriteChunk(dataset.ChunkKey{Survey: "s", Probe: "p", Chunk: 3, Late: uint32(late)}, ms); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, places{"s": dir})
	r.control.SetSurvey(&pb.SurveyState{Survey: "s"})
	code, _, body := r.do("GET", "/surveys/s/measurements")
	var page rowsView
	if err := json.Unmarshal([]byte(body), &page); code != http.StatusOK || err != nil {
		t.Fatalf("%d %s", code, body)
	}
	if len(page.Rows) != 1 || page.Rows[0].Outcome != "measured" || page.Rows[0].Item != 7 || page.Next != "" {
		t.Errorf("the page is %+v", page)
	}
	code, _, body = r.do("GET", "/surveys/s/evidence?chunk=3&probe=p&item=7")
	if code != http.StatusOK || !strings.Contains(body, "supported") {
		t.Errorf("the evidence is %d %s", code, body)
	}
}
