package browser

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/dashboard"
	"tfofleet/internal/dashboard/dashboardtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/html/htmltest"
	pb "tfofleet/proto/tfofleet/v1"
)

type places map[string]string

func (p places) Dataset(survey string) (string, error) {
	if place, ok := p[survey]; ok {
		return place, nil
	}
	return "", fs.ErrNotExist
}

func state(measured uint64) *pb.SurveyState {
	count := func(v pb.Verdict, n uint64) *pb.VerdictCount {
		return &pb.VerdictCount{Outcome: pb.Outcome_OUTCOME_MEASURED, Verdict: v, Count: n}
	}
	return &pb.SurveyState{
		Survey: "gen3", Name: "top million, ports 80 and 443", Phase: pb.SurveyPhase_SURVEY_PHASE_RUNNING, Planned: 10_000, Measured: measured, Refused: 40, Interrupted: 2, Pending: 10_000 - 42 - measured,
		Counts: []*pb.VerdictCount{
			count(pb.Verdict_VERDICT_SUPPORTED, measured/5), count(pb.Verdict_VERDICT_UNSUPPORTED, measured-measured/5-measured/10-measured/20),
			count(pb.Verdict_VERDICT_OFFLINE, measured/10), count(pb.Verdict_VERDICT_OPTION_DROPPED, measured/20),
		},
		Created: timestamppb.New(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)), Elapsed: durationpb.New(754 * time.Second), Mode: pb.SurveyMode_SURVEY_MODE_EVERY, Copies: 3,
	}
}

func probes(c *dashboardtest.Control) {
	since := timestamppb.New(time.Now().Add(-3 * time.Hour))
	host := &pb.Host{Hostname: "m1", Kernel: "6.18.0", Arch: "amd64"}
	c.SetProbe(&pb.ProbeInfo{Name: "fra1", Labels: map[string]string{"country": "de", "net": "hosting"}, ConnectedSince: since, LastHeard: timestamppb.Now(), LastResult: timestamppb.Now(), Host: host, Status: &pb.ProbeStatus{
		Readiness: pb.Readiness_READINESS_READY, Active: 214, NearPath: pb.NearPath_NEAR_PATH_CLEAN, Done: 5100,
	}})
	c.SetProbe(&pb.ProbeInfo{Name: "nyc2", Labels: map[string]string{"country": "us"}, ConnectedSince: since, LastHeard: timestamppb.Now(), LastResult: timestamppb.New(time.Now().Add(-20 * time.Minute)), Host: host, Status: &pb.ProbeStatus{
		Readiness: pb.Readiness_READINESS_CLIENT_OFF, Reason: "net.ipv4.tcp_fastopen = 0: set bit 0x1", NearPath: pb.NearPath_NEAR_PATH_CLEAN,
	}, Events: []*pb.ProbeEvent{{Kind: pb.ProbeEventKind_PROBE_EVENT_KIND_START, At: since, Detail: "version 1.4"}}})
	c.SetProbe(&pb.ProbeInfo{Name: "sgp3-lte", ConnectedSince: since, Host: host, Status: &pb.ProbeStatus{
		Readiness: pb.Readiness_READINESS_READY, NearPath: pb.NearPath_NEAR_PATH_STRIPS_OPTION, NearPathDetail: "option 34 left and did not arrive",
	}})
	c.SetProbe(&pb.ProbeInfo{Name: "syd1", LastHeard: timestamppb.New(time.Now().Add(-50 * time.Hour))})
}

// TestDashboard walks through the live pages while the fleet behind them
// changes.
func TestDashboard(t *testing.T) {
	dir := t.TempDir()
	if err := htmltest.Write(dir, htmltest.Config{Seed: 3, Targets: 300, Probes: []string{"fra1", "nyc2"}, Plan: measure.Standard, Fault: 0.2, Hosts: hostile}); err != nil {
		t.Fatal(err)
	}
	control, client := dashboardtest.Serve(t)
	control.SetSurvey(&pb.SurveyState{Survey: "old", Name: "first try", Phase: pb.SurveyPhase_SURVEY_PHASE_CANCELLED, Planned: 500, Measured: 100, Cancelled: 400, Counts: []*pb.VerdictCount{{Outcome: 1, Verdict: 5, Count: 100}}})
	control.SetSurvey(state(3000))
	probes(control)
	// Mounted below a path, as a controller may.
	mux := http.NewServeMux()
	mux.Handle("/dashboard/", http.StripPrefix("/dashboard", dashboard.New(dashboard.Config{Control: client, Datasets: places{"gen3": dir}, Every: 20 * time.Millisecond})))
	server := httptest.NewServer(mux)
	t.Cleanup(server.CloseClientConnections) // streams never end by themselves
	t.Cleanup(server.Close)

	b := open(t)
	b.size(1280, 900, false)
	b.visit(server.URL + "/dashboard/")
	b.until(ready)
	b.until(`document.querySelector("[data-key=gen3]")?.textContent.includes("3,042 of 10,000")`)
	b.picture("live-surveys", "")

	// What changes is on the page by itself, and the keyboard stays where it was.
	b.do(`document.querySelector("[data-key=gen3]").focus()`)
	control.SetSurvey(state(4000))
	b.until(`document.querySelector("[data-key=gen3]")?.textContent.includes("4,042 of 10,000")`)
	if !eval[bool](b, `document.activeElement.dataset.key === "gen3"`) {
		t.Error("an update took the focus away")
	}
	b.press("\r")
	b.until(`document.querySelector("[data-survey=gen3] [data-count=measured]")?.textContent.startsWith("4,000")`)
	sum := eval[[]int](b, `["planned", "measured", "refused", "interrupted", "cancelled", "lost", "pending"].map(k => Number(document.querySelector("[data-count=" + k + "] b").textContent.replaceAll(",", "")))`)
	if sum[0] != 10_000 || sum[0] != sum[1]+sum[2]+sum[3]+sum[4]+sum[5]+sum[6] {
		t.Errorf("the equation says %v", sum)
	}
	stalled := state(5000)
	stalled.Stalled, stalled.Missing = "the disk of the controller is full", []string{"syd1"}
	control.SetSurvey(stalled)
	b.until(`document.querySelector("[data-survey=gen3]").textContent.includes("the disk of the controller is full")`)
	b.until(`document.querySelector("[data-survey=gen3]").textContent.includes("Waits for syd1")`)
	b.until(`document.querySelector("#evidence tbody tr")`)
	b.picture("live-survey", "")
	b.fits("survey")

	// Down to the evidence, by keyboard.
	b.do(`document.querySelector("#evidence select").focus()`)
	b.do(`(s => { s.value = "option_dropped"; s.dispatchEvent(new Event("change")) })(document.querySelector("#evidence select"))`)
	b.until(`document.querySelectorAll("#evidence tbody tr").length > 1 && [...document.querySelectorAll("#evidence tbody tr")].every(r => r.textContent.includes("option dropped"))`)
	b.do(`document.querySelector("#evidence tbody tr").focus()`)
	b.press(arrowDown, "\r")
	b.until(`document.querySelector("dialog[open] .sequence")`)
	b.until(`document.querySelector("dialog[open]").textContent.includes("because")`)
	b.picture("live-evidence", "")
	b.press(escape)
	b.until(`!document.querySelector("dialog[open]") && document.activeElement === document.querySelectorAll("#evidence tbody tr")[1]`)

	// Probes: four states, with reasons.
	b.do(`location.hash = "#/probes"`)
	b.until(`document.querySelectorAll("[data-probe]").length === 4`)
	row := eval[string](b, `document.querySelector("[data-probe=nyc2]").innerText`)
	for _, want := range []string{"client off", "net.ipv4.tcp_fastopen = 0", "20 min ago"} {
		if !contains(row, want) {
			t.Errorf("%q says nothing of %q", row, want)
		}
	}
	b.picture("live-probes", "")
	b.dark(true)
	b.picture("live-probes-dark", "")
	b.dark(false)
	control.SetProbe(&pb.ProbeInfo{Name: "syd1", ConnectedSince: timestamppb.Now(), Status: &pb.ProbeStatus{Readiness: pb.Readiness_READINESS_READY, Active: 7}})
	b.until(`document.querySelector("[data-probe=syd1]").innerText.includes("7 targets")`)
	b.do(`location.hash = "#/probe/nyc2"`)
	b.until(`document.querySelector("[data-probe=nyc2]")?.textContent.includes("20 min ago") && document.body.textContent.includes("version 1.4")`)

	b.size(360, 740, true)
	for _, page := range []string{"#/", "#/probes", "#/probe/nyc2", "#/survey/gen3"} {
		b.do(`location.hash = "` + page + `"`)
		b.until(`document.querySelector("#box section")`)
		b.fits(page)
		b.picture("live-phone-"+map[string]string{"#/": "surveys", "#/probes": "probes", "#/probe/nyc2": "probe", "#/survey/gen3": "survey"}[page], "")
	}
	if eval[bool](b, `"hacked" in window`) {
		t.Error("a host name ran as a script")
	}
	b.quiet(server.URL)
}
