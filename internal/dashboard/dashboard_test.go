package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/dashboard/dashboardtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/html"
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

// rig is a dashboard with a fleet behind it.
type rig struct {
	*httptest.Server
	t       *testing.T
	control *dashboardtest.Control
	ctx     context.Context // of every request
	end     context.CancelFunc
}

func newRig(t *testing.T, datasets Datasets) *rig {
	t.Helper()
	control, client := dashboardtest.Serve(t)
	r := &rig{t: t, control: control}
	r.ctx, r.end = context.WithCancel(t.Context())
	r.Server = httptest.NewUnstartedServer(New(Config{Control: client, Datasets: datasets, Every: 5 * time.Millisecond}))
	r.Config.BaseContext = func(net.Listener) context.Context { return r.ctx }
	r.Start()
	t.Cleanup(r.Close)
	return r
}

func (r *rig) do(method, path string, header ...string) (int, http.Header, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.URL+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// Nothing is answered to other methods, or to a browser that another site sent;
// and every answer has the policy.
func TestGuard(t *testing.T) {
	r := newRig(t, nil)
	paths := []string{"/", "/assets/base.js", "/own/dashboard.js", "/events", "/surveys/s/measurements", "/surveys/s/evidence", "/surveys/s/report.html", "/nothing"}
	for _, path := range paths {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			if code, h, _ := r.do(method, path); code != http.StatusMethodNotAllowed || h.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d", method, path, code)
			}
		}
		if code, _, _ := r.do("GET", path, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"); code != http.StatusForbidden {
			t.Errorf("%s from another site: %d", path, code)
		}
	}
	if n := r.control.Calls("ListSurveys") + r.control.Calls("GetSurvey"); n != 0 {
		t.Errorf("the controller was asked %d times for nothing", n)
	}
	if code, _, body := r.do("GET", "/", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"); code != http.StatusOK || !strings.Contains(body, "own/dashboard.js") {
		t.Errorf("a link to it: %d", code)
	}
	for _, path := range []string{"/", "/assets/base.js", "/assets/style.css", "/own/views.js", "/own/dashboard.css"} {
		if code, h, _ := r.do("GET", path); code != http.StatusOK || h.Get("Content-Security-Policy") != policy || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, code, h)
		}
	}
}

// events reads server-sent events by name.
type events struct {
	t *testing.T
	r *bufio.Reader
}

func (r *rig) events(query string) *events {
	r.t.Helper()
	ctx, stop := context.WithTimeout(r.t.Context(), 20*time.Second)
	r.t.Cleanup(stop)
	req, err := http.NewRequestWithContext(ctx, "GET", r.URL+"/events"+query, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { resp.Body.Close() })
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || ct != "text/event-stream" {
		r.t.Fatalf("%d %s", resp.StatusCode, ct)
	}
	return &events{r.t, bufio.NewReader(resp.Body)}
}

// until reads events of a name until one is as wanted.
func until[T any](e *events, name string, want func(T) bool) T {
	e.t.Helper()
	var seen string
	for {
		line, err := e.r.ReadString('\n')
		if err != nil {
			e.t.Fatalf("%v; the last of %s was %s", err, name, seen)
		}
		if strings.TrimSpace(line) != "event: "+name {
			continue
		}
		line, err = e.r.ReadString('\n')
		if err != nil {
			e.t.Fatal(err)
		}
		seen = line
		var ev struct {
			Now   time.Time
			State T
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &ev); err != nil {
			e.t.Fatalf("%v: %s", err, line)
		}
		if ev.Now.IsZero() {
			e.t.Fatalf("an event without a time: %s", line)
		}
		if want(ev.State) {
			return ev.State
		}
	}
}

func running(measured uint64) *pb.SurveyState {
	return &pb.SurveyState{
		Survey: "s1", Name: "first", Phase: pb.SurveyPhase_SURVEY_PHASE_RUNNING, Planned: 100, Measured: measured, Refused: 2, Pending: 98 - measured,
		Counts: []*pb.VerdictCount{
			{Outcome: pb.Outcome_OUTCOME_MEASURED, Verdict: pb.Verdict_VERDICT_UNSUPPORTED, Count: measured - 1},
			{Outcome: pb.Outcome_OUTCOME_MEASURED, Verdict: pb.Verdict_VERDICT_SUPPORTED, Count: 1},
			{Outcome: pb.Outcome_OUTCOME_REFUSED, Count: 2},
		},
	}
}

// A page hears of surveys and probes as they change.
func TestEvents(t *testing.T) {
	r := newRig(t, nil)
	e := r.events("?survey=s1")
	until(e, "surveys", func(s []surveyView) bool { return len(s) == 0 })
	r.control.SetSurvey(running(10))
	s := until(e, "surveys", func(s []surveyView) bool { return len(s) == 1 })[0]
	if s.Planned != s.Measured+s.Refused+s.Interrupted+s.Cancelled+s.Lost+s.Pending {
		t.Errorf("planned is not the sum: %+v", s)
	}
	if len(s.Verdicts) != 2 || s.Verdicts[0].Name != "supported" || s.Verdicts[1].Count != 9 || s.Verdicts[1].Low >= 0.9 || s.Verdicts[1].High <= 0.9 {
		t.Errorf("verdicts %+v", s.Verdicts)
	}
	r.control.SetProbe(&pb.ProbeInfo{Name: "p1", ConnectedSince: timestamppb.Now(), Status: &pb.ProbeStatus{
		Readiness: pb.Readiness_READINESS_CLIENT_OFF, Reason: "net.ipv4.tcp_fastopen = 0", NearPath: pb.NearPath_NEAR_PATH_STRIPS_OPTION, NearPathDetail: "option 34 is gone",
	}})
	p := until(e, "probes", func(p []probeView) bool { return len(p) == 1 })[0]
	if p.Connected != "yes" || p.Ready != "client off" || p.Reason == "" || p.NearPath != "strips option" || p.NearDetail == "" {
		t.Errorf("probe %+v", p)
	}
	until(r.events("?probe=p1"), "probe", func(p *probeView) bool { return p != nil && p.Name == "p1" })
	until(r.events("?probe=p2"), "probe", func(p *probeView) bool { return p == nil })

	stalled := running(20)
	stalled.Stalled, stalled.Missing = "the disk is full", []string{"p9"}
	r.control.SetSurvey(stalled)
	until(e, "surveys", func(s []surveyView) bool { return s[0].Stalled == "the disk is full" && len(s[0].Missing) == 1 })
	done := running(98)
	done.Phase = pb.SurveyPhase_SURVEY_PHASE_DONE
	r.control.SetSurvey(done)
	until(e, "surveys", func(s []surveyView) bool { return s[0].Phase == "done" })
}

// The state of the survey that a page shows comes from WatchSurvey: at once,
// and again when the call broke off.
func TestWatch(t *testing.T) {
	r := newRig(t, nil)
	r.control.SetSurvey(running(10))
	e := r.events("?survey=s1")
	until(e, "survey", func(s surveyView) bool { return s.Measured == 10 })
	r.control.SetSurvey(running(11))
	until(e, "survey", func(s surveyView) bool { return s.Measured == 11 })
	r.control.Fail(status.Error(codes.Unavailable, "it restarts"))
	until(e, "trouble", func(s string) bool { return strings.Contains(s, "it restarts") })
	r.control.Fail(nil)
	until(e, "trouble", func(s string) bool { return s == "" })
	r.control.SetSurvey(running(12))
	until(e, "survey", func(s surveyView) bool { return s.Measured == 12 })
}

// Who may see no longer sees no more: by what is before the handler, or by the
// controller.
func TestEventsEnd(t *testing.T) {
	for name, end := range map[string]func(*rig){
		"context": func(r *rig) { r.end() },
		"control": func(r *rig) { r.control.Fail(status.Error(codes.PermissionDenied, "banned")) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			e := r.events("")
			until(e, "surveys", func([]surveyView) bool { return true })
			end(r)
			if _, err := io.ReadAll(e.r); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A list of finished measurements is walked to its end, page by page, without
// one twice or left out; each has its evidence.
func TestMeasurements(t *testing.T) {
	dir := t.TempDir()
	if err := htmltest.Write(dir, htmltest.Config{Seed: 3, Targets: 120, Probes: []string{"a", "b/../c"}, Plan: measure.Standard, Fault: 0.2}); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, places{"gen3": dir})
	if code, _, _ := r.do("GET", "/surveys/gen3/measurements"); code != http.StatusNotFound {
		t.Errorf("a survey the controller does not know: %d", code)
	}
	r.control.SetSurvey(&pb.SurveyState{Survey: "gen3"})
	r.control.SetSurvey(&pb.SurveyState{Survey: "new"})
	if code, _, body := r.do("GET", "/surveys/new/measurements"); code != http.StatusNotFound || !strings.Contains(body, "no dataset yet") {
		t.Errorf("a survey without a dataset: %d %s", code, body)
	}
	walk := func(query string) []rowView {
		t.Helper()
		var all []rowView
		after := ""
		for range 100 {
			code, _, body := r.do("GET", "/surveys/gen3/measurements?"+query+"&after="+url.QueryEscape(after))
			var page rowsView
			if err := json.Unmarshal([]byte(body), &page); code != http.StatusOK || err != nil {
				t.Fatalf("%d %s", code, body)
			}
			all = append(all, page.Rows...)
			if after = page.Next; after == "" {
				return all
			}
		}
		t.Fatal("there is no end")
		return nil
	}
	all := walk("")
	seen := map[rowView]bool{}
	for _, row := range all {
		seen[row] = true
	}
	if len(all) != 240 || len(seen) != 240 {
		t.Fatalf("%d measurements, %d different", len(all), len(seen))
	}
	supported := walk("verdict=supported")
	for _, row := range supported {
		if row.Verdict != "supported" {
			t.Errorf("found %+v", row)
		}
	}
	if n := len(supported); n == 0 || n == 240 {
		t.Errorf("%d supported", n)
	}
	if got := walk("q=" + url.QueryEscape(strings.ToUpper(all[7].Hostname))); len(got) == 0 || got[0].Hostname != all[7].Hostname {
		t.Errorf("looked for %s, found %+v", all[7].Hostname, got)
	}
	if got := walk("verdict=refused"); len(got) != 2 {
		t.Errorf("refused: %+v", got)
	}
	row := supported[len(supported)-1] // of the probe with a strange name
	q := url.Values{"chunk": {"0"}, "probe": {row.Probe}, "item": {strconv.FormatUint(row.Item, 10)}}
	code, _, body := r.do("GET", "/surveys/gen3/evidence?"+q.Encode())
	var e html.Evidence
	if err := json.Unmarshal([]byte(body), &e); code != http.StatusOK || err != nil {
		t.Fatalf("%d %s", code, body)
	}
	if e.Probe != row.Probe || e.Verdict != "supported" || len(e.Attempts) != row.Attempts || len(e.Reasons) == 0 {
		t.Errorf("%+v is no evidence of %+v", e, row)
	}
	for path, want := range map[string]int{
		"/surveys/gen3/evidence?chunk=0&probe=a&item=999":                   http.StatusNotFound,
		"/surveys/gen3/evidence?chunk=9&probe=a&item=0":                     http.StatusNotFound,
		"/surveys/gen3/evidence?chunk=0&probe=..%2f..%2fsurvey.json&item=0": http.StatusNotFound,
		"/surveys/gen3/evidence?chunk=x&probe=a&item=0":                     http.StatusBadRequest,
		"/surveys/gen3/measurements?after=x":                                http.StatusBadRequest,
		"/surveys/..%2f..%2fetc/measurements":                               http.StatusNotFound,
	} {
		if code, _, body := r.do("GET", path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
	code, h, body := r.do("GET", "/surveys/gen3/report.html")
	if code != http.StatusOK || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") || !strings.Contains(body, "generated survey") {
		t.Errorf("report: %d %v", code, h)
	}
}
