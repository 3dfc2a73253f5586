package html

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/report/aggregate"
	"tfofleet/internal/report/html/htmltest"
	"tfofleet/internal/report/origin"
	"tfofleet/internal/report/stat"
	"tfofleet/internal/tfo"
)

// file is a report as a browser takes it apart.
type file struct {
	t       *testing.T
	html    string
	numbers Model
	table   table
}

var element = regexp.MustCompile(`(?s)<script type="application/[a-z-]+" id="(\w+)">(.*?)</script>`)

func written(t *testing.T, o Options, dirs ...string) *file {
	t.Helper()
	var b bytes.Buffer
	if err := Write(t.Context(), &b, o, dirs...); err != nil {
		t.Fatal(err)
	}
	f := &file{t: t, html: b.String()}
	f.json("numbers", &f.numbers)
	f.packed("table", &f.table)
	return f
}

func (f *file) element(id string) string {
	f.t.Helper()
	for _, m := range element.FindAllStringSubmatch(f.html, -1) {
		if m[1] == id {
			return m[2]
		}
	}
	f.t.Fatalf("there is no %s in the file", id)
	return ""
}

func (f *file) json(id string, v any) {
	f.t.Helper()
	if err := json.Unmarshal([]byte(f.element(id)), v); err != nil {
		f.t.Fatal(err)
	}
}

func (f *file) packed(id string, v any) {
	f.t.Helper()
	b, err := base64.StdEncoding.DecodeString(f.element(id))
	if err != nil {
		f.t.Fatal(err)
	}
	raw, err := io.ReadAll(flate.NewReader(bytes.NewReader(b)))
	if err != nil {
		f.t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		f.t.Fatal(err)
	}
}

// evidence is that of a row, or nil when it is not in the file.
func (f *file) evidence(row int) *Evidence {
	f.t.Helper()
	if f.table.Block[row] < 0 {
		return nil
	}
	var block []Evidence
	f.packed(fmt.Sprintf("block%d", f.table.Block[row]), &block)
	return &block[f.table.At[row]]
}

func generated(t *testing.T, c htmltest.Config) string {
	t.Helper()
	dir := t.TempDir()
	if err := htmltest.Write(dir, c); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The numbers of the file are those of the report that is printed, and the rows
// are the measurements of the dataset, each with its own attempts.
func TestSaysWhatIsThere(t *testing.T) {
	dir := generated(t, htmltest.Config{Seed: 1, Targets: 120, Probes: []string{"a", "b", "c"}, Plan: measure.Thorough, Fault: 0.1})
	f := written(t, Options{}, dir)
	want, err := report.Aggregate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if f.numbers.Measured != want.Measured || f.numbers.Refused != want.Refused || f.numbers.Measurements != want.Measurements {
		t.Errorf("counts %+v, printed %+v", f.numbers.Counts, want.Counts)
	}
	for _, v := range f.numbers.Verdicts {
		if v.Count != want.Count(v.Name) || v.Low > float64(v.Count)/float64(want.Measured) || v.High < float64(v.Count)/float64(want.Measured) {
			t.Errorf("%+v, printed %d", v, want.Count(v.Name))
		}
	}
	for _, s := range f.numbers.Shares {
		var sum uint64
		for _, g := range s.Groups {
			sum += g.Measurements
		}
		if s.By != "name suffix" && sum != want.Measurements {
			t.Errorf("by %s: %d measurements of %d", s.By, sum, want.Measurements)
		}
	}
	i := 0
	for r, err := range dataset.Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		k := f.table.Target[i]
		got := fmt.Sprintf("%s %s %d %s", f.table.Targets.Host[k], f.table.Targets.Addr[k], f.table.Targets.Port[k], f.table.Probes[f.table.Probe[i]])
		if want := fmt.Sprintf("%s %s %d %s", r.Hostname, r.Addr, r.Port, r.Probe); got != want {
			t.Fatalf("row %d is %s, want %s", i, got, want)
		}
		if v := f.table.Verdict[i]; r.Outcome == measure.OutcomeMeasured && f.numbers.Verdicts[v].Name != r.Verdict.String() || r.Outcome == measure.OutcomeRefused && v != refused {
			t.Fatalf("row %d: verdict %d, want %v", i, v, r.Verdict)
		}
		if i%17 == 0 && len(r.Attempts) > 0 {
			e := f.evidence(i)
			if e == nil || e.Target != endpoint(r.Addr, r.Port) || e.Probe != r.Probe || e.Verdict != r.Verdict.String() || len(e.Attempts) != len(r.Attempts) {
				t.Fatalf("row %d: the evidence of another: %+v", i, e)
			}
			shown, _ := measure.Explain(measure.Thorough, r.Attempts)
			for n, a := range e.Attempts {
				if a.Shown != shown[n] || len(a.Steps) < 2 {
					t.Fatalf("row %d, attempt %d: %+v", i, n, a)
				}
			}
		}
		i++
	}
	if i != f.table.N || f.table.N != 360 {
		t.Errorf("%d rows of %d", f.table.N, i)
	}
	if len(f.numbers.Sizes) != 4 || f.numbers.Sizes[0].From != 1 || f.numbers.Sizes[3].Lost == 0 || f.numbers.Sizes[0].Lost != 0 {
		t.Errorf("sizes %+v", f.numbers.Sizes)
	}
	if len(f.numbers.Saved) != 4 || f.numbers.Saved[0].N == 0 || len(f.numbers.Saved[0].US) != curveSteps+1 || f.numbers.Saved[0].US[curveSteps/2] != want.Saved.MedianUS {
		t.Errorf("saved %+v, printed %+v", f.numbers.Saved, want.Saved)
	}
}

// What does not fit is thinned: what is wrong keeps its attempts to the last,
// and the file says what it lacks.
func TestThinned(t *testing.T) {
	dir := generated(t, htmltest.Config{Seed: 7, Targets: 250, Probes: []string{"a", "b"}, Plan: measure.Standard, Fault: 0.1})
	all := written(t, Options{}, dir)
	if k := all.numbers.Kept; k.Rows != 500 || k.Class[trouble].Full != k.Class[trouble].Of {
		t.Fatalf("what fits is not all there: %+v", k)
	}
	most := len(all.html) - 20_000 // the scripts alone are most of it
	for name, c := range map[string]struct {
		o    Options
		most int // bytes
	}{
		"sample": {Options{Sample: 40}, 0},
		"rows":   {Options{Rows: 200}, 0},
		"bytes":  {Options{Bytes: most}, most},
		"none":   {Options{Bytes: 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := written(t, c.o, dir)
			if c.most > 0 && len(f.html) > c.most {
				t.Errorf("%d bytes, want at most %d", len(f.html), c.most)
			}
			k := f.numbers.Kept
			if k.Of != 500 || k.Rows != uint64(f.table.N) {
				t.Errorf("%+v, and there are %d rows", k, f.table.N)
			}
			var full, worst [classes]uint64
			for i := range f.table.N {
				cl := nothing
				if v := f.table.Verdict[i]; v >= 0 {
					verdict, _ := measure.ParseVerdict(f.numbers.Verdicts[v].Name)
					cl = classOf(measure.OutcomeMeasured, verdict)
				}
				worst[cl]++
				if f.table.Block[i] >= 0 {
					full[cl]++
				}
			}
			for cl := range classes {
				if k.Class[cl].Full != full[cl] || k.Class[cl].Rows != worst[cl] {
					t.Errorf("%s: %+v, in the file %d of %d", classNames[cl], k.Class[cl], full[cl], worst[cl])
				}
			}
			if (full[offline] > 0 || full[nothing] > 0) && full[trouble] < k.Class[trouble].Rows {
				t.Errorf("attempts of what is well are here, and not all of what is wrong: %v", full)
			}
			if f.numbers.Measured != all.numbers.Measured || len(f.numbers.Shares) != len(all.numbers.Shares) {
				t.Error("the numbers are of less than all")
			}
		})
	}
}

// A dataset without a finished chunk is a report too, and what is no dataset is
// an error before a byte is written.
func TestEmpty(t *testing.T) {
	f := written(t, Options{}, generated(t, htmltest.Config{Seed: 1, Probes: []string{"a"}, Plan: measure.Standard}))
	if f.table.N != 0 || f.numbers.Measurements != 0 || strings.Contains(f.element("numbers"), "null") {
		t.Errorf("of nothing: %s", f.element("numbers"))
	}
	var b bytes.Buffer
	if err := Write(t.Context(), &b, Options{}, t.TempDir()); err == nil || b.Len() > 0 {
		t.Errorf("%v, %d bytes", err, b.Len())
	}
}

// Several datasets are one report; a target both have is two rows.
func TestSeveral(t *testing.T) {
	c := htmltest.Config{Seed: 1, Targets: 30, Probes: []string{"a"}, Plan: measure.Standard, Fault: 0.3}
	again := c
	again.ID = "again"
	f := written(t, Options{}, generated(t, c), generated(t, again))
	if f.table.N != 60 || len(f.numbers.Surveys) != 2 || f.table.Survey[0] != 0 || f.table.Survey[59] != 1 || !strings.Contains(f.numbers.Title, "1 survey more") {
		t.Errorf("%d rows, title %q", f.table.N, f.numbers.Title)
	}
}

// Probes of one name on two hosts are two vantage points, wherever they are shown.
func TestVantagePoints(t *testing.T) {
	var dirs []string
	for _, host := range []string{"one", "two"} {
		dir := generated(t, htmltest.Config{Seed: 1, ID: host, Targets: 60, Probes: []string{"local"}, Plan: measure.Standard})
		survey, err := dataset.ReadSurvey(dir)
		if err != nil {
			t.Fatal(err)
		}
		survey.Probes[0].Hostname = host
		raw, err := json.Marshal(survey)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "survey.json"), raw, 0o644); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	f := written(t, Options{}, dirs...)
	var curves []string
	for _, c := range f.numbers.Saved {
		curves = append(curves, c.Probe)
	}
	if want := []string{"local@one", "local@two"}; !slices.Equal(f.table.Probes, want) || !slices.Equal(f.numbers.Heat[0].Probes, want) || !slices.Equal(curves, append([]string{""}, want...)) {
		t.Errorf("table %v, heat map %v, curves %q", f.table.Probes, f.numbers.Heat[0].Probes, curves)
	}
}

// Nothing of a dataset can end the element it is in, and nothing runs that is
// not ours.
func TestHostileNames(t *testing.T) {
	names := []string{`</script><script>alert(1)</script>`, `<!--<script>`, `"><img src=x onerror=alert(1)>`, "a\u2028b"}
	dir := generated(t, htmltest.Config{Seed: 1, Targets: 40, Probes: []string{`</script>`}, Plan: measure.Standard, Fault: 0.3, Hosts: func(i int) string { return names[i%len(names)] }})
	f := written(t, Options{}, dir)
	rest := element.ReplaceAllString(f.html, "")
	for _, bad := range []string{"alert(1)", "<img", "onerror"} {
		if strings.Contains(rest, bad) || strings.Contains(f.element("numbers"), "<") {
			t.Errorf("%s is in the page", bad)
		}
	}
	if f.table.Targets.Host[0] != names[0] || f.table.Probes[0] != "</script>" {
		t.Error("a name was changed")
	}
	csp := regexp.MustCompile(`http-equiv="Content-Security-Policy" content="([^"]*)"`).FindStringSubmatch(rest)
	if csp == nil || !strings.HasPrefix(csp[1], "default-src 'none'") || strings.Contains(csp[1], "script-src 'unsafe") {
		t.Fatalf("policy %q", csp)
	}
	want := len(scripts)
	scripts := regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllStringSubmatch(rest, -1)
	for _, s := range scripts {
		if !strings.Contains(csp[1], hash(s[1])) {
			t.Errorf("the policy lacks the script %.60q", s[1])
		}
	}
	if len(scripts) != want {
		t.Errorf("%d scripts, want %d: one of them ends early", len(scripts), want)
	}
}

// The title comes from whoever named the survey.
func TestTitle(t *testing.T) {
	m := &Model{Title: `</title><script>x</script>`}
	var b bytes.Buffer
	if err := m.Write(&b, Options{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "<script>x") {
		t.Error("the title is markup")
	}
}

// The library and its licences are those that web/build.sh made of what
// package-lock.json pins.
func TestBundle(t *testing.T) {
	sums, err := os.ReadFile("web/bundle.sum")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(sums)), "\n")
	if len(lines) != 5 {
		t.Fatalf("%d sums", len(lines))
	}
	for _, line := range lines {
		want, name, _ := strings.Cut(line, "  ")
		b, err := os.ReadFile(filepath.Join("web", name))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s is not what web/build.sh made: run it again", name)
		}
	}
	var lock struct {
		Packages map[string]struct{ Version string }
	}
	b, err := os.ReadFile("web/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &lock); err != nil {
		t.Fatal(err)
	}
	plot := lock.Packages["node_modules/@observablehq/plot"].Version
	if plot == "" || !strings.Contains(asset("plot.LICENSES.txt"), "@observablehq/plot "+plot+" (ISC)") {
		t.Errorf("the licence of plot %s is not there", plot)
	}
}

// Whatever the evidence, an attempt has a drawing: it begins with a SYN or says
// why there is none, its times are not below 0 and do not go back.
func TestStepsOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := func(name string) int64 {
			return rapid.SampledFrom([]int64{tfo.NotKnown, 0, 1_000, 5_000_000, 3_000_000_000}).Draw(t, name)
		}
		ev := tfo.Evidence{
			Kind: tfo.Kind(rapid.IntRange(0, 9).Draw(t, "kind")), End: tfo.End(rapid.IntRange(0, 11).Draw(t, "end")),
			OptionKind: rapid.SampledFrom([]uint8{0, 34, 254}).Draw(t, "option"), Offered: rapid.IntRange(0, 1460).Draw(t, "offered"), SynBytes: rapid.IntRange(0, 1460).Draw(t, "syn"),
			SynAcked: rapid.IntRange(-1, 1460).Draw(t, "acked"), Errno: rapid.SampledFrom([]string{"", "ECONNRESET", "ECONNREFUSED", "EHOSTUNREACH"}).Draw(t, "errno"),
			ConnectNS: ns("connect"), FirstByteNS: ns("first"), TotalNS: ns("total"), SynRetransmits: rapid.IntRange(0, 3).Draw(t, "again"), DataRetransmits: rapid.IntRange(0, 3).Draw(t, "data again"),
			ClientFail: rapid.Uint8().Draw(t, "fail"), CookieCleared: tfo.Tri(rapid.IntRange(0, 3).Draw(t, "cleared")),
		}
		if rapid.Bool().Draw(t, "wire") {
			ev.Wire = &tfo.Wire{Syns: rapid.IntRange(1, 3).Draw(t, "syns"), SynAcks: rapid.IntRange(0, 2).Draw(t, "syn-acks"), Resets: rapid.IntRange(0, 1).Draw(t, "resets"),
				ResetHandshake: rapid.Bool().Draw(t, "late"), ICMPErrors: rapid.IntRange(0, 1).Draw(t, "icmp")}
		}
		m := measure.Measurement{Attempts: []tfo.Evidence{ev}, Verdict: measure.Verdict(rapid.IntRange(0, 20).Draw(t, "verdict"))}
		e := EvidenceOf(measure.Standard, "p", &m)
		s := e.Attempts[0].Steps
		if len(s) == 0 || s[0].What != "SYN" && s[0].What != "not sent" {
			t.Fatalf("%+v", s)
		}
		for _, step := range s {
			if step.AtUS != nil && *step.AtUS < 0 || step.Source == "" || step.From != "" && step.From != "client" && step.From != "target" && step.From != "path" {
				t.Fatalf("%+v", step)
			}
		}
		if len(e.Attempts[0].Facts) == 0 {
			t.Fatal("no facts")
		}
	})
}

// What each fault looks like: the steps that tell it from the others.
func TestSteps(t *testing.T) {
	cookie := tfo.Cookie{State: tfo.CookiePresent, Bytes: []byte{1, 2, 3, 4}}
	none := tfo.Cookie{State: tfo.CookieNone}
	ok := tfo.Evidence{Kind: tfo.KindData, OptionKind: 34, Offered: 100, SynBytes: 100, SynAcked: 100, End: tfo.EndResponse, ConnectNS: 1e7, FirstByteNS: 2e7, TotalNS: 2e7, ResponseBytes: 9, CookieBefore: cookie, CookieAfter: cookie}
	with := func(f func(*tfo.Evidence)) tfo.Evidence {
		ev := ok
		f(&ev)
		return ev
	}
	for name, c := range map[string]struct {
		ev   tfo.Evidence
		want string
	}{
		"supported": {ok, "client SYN TFO 34, cookie 01020304 + 100 bytes of data | target SYN-ACK acknowledges 100 of 100 bytes | client ACK | target response 9 bytes"},
		"data refused": {with(func(e *tfo.Evidence) { e.SynAcked = 0 }),
			"client SYN TFO 34, cookie 01020304 + 100 bytes of data | target SYN-ACK acknowledges 0 of 100 bytes | client data again 100 bytes, in the connection | target response 9 bytes"},
		"cookie granted": {with(func(e *tfo.Evidence) { e.Kind, e.SynBytes, e.SynAcked, e.CookieBefore = tfo.KindRequest, 0, 0, none }),
			"client SYN TFO 34, cookie request | target SYN-ACK cookie 01020304 | client data 100 bytes | target response 9 bytes"},
		"SYN lost": {with(func(e *tfo.Evidence) { e.SynAcked, e.SynRetransmits = 0, 1 }),
			"client SYN TFO 34, cookie 01020304 + 100 bytes of data ? | client SYN again after a timeout | target SYN-ACK acknowledges 0 of 100 bytes | client data again 100 bytes, in the connection | target response 9 bytes"},
		"silence": {with(func(e *tfo.Evidence) { e.End, e.SynRetransmits = tfo.EndTimeout, 2 }),
			"client SYN TFO 34, cookie 01020304 + 100 bytes of data ? | client SYN again 2 times, each after a timeout ? |  nothing no answer, given up"},
		"after the handshake": {with(func(e *tfo.Evidence) { e.End, e.DataRetransmits = tfo.EndSilent, 1 }),
			"client SYN TFO 34, cookie 01020304 + 100 bytes of data | target SYN-ACK acknowledges 100 of 100 bytes | client ACK | client sent again 1 segment ? |  nothing no response, given up"},
		"refused":       {with(func(e *tfo.Evidence) { e.End, e.Errno = tfo.EndRefused, "ECONNREFUSED" }), "client SYN TFO 34, cookie 01020304 + 100 bytes of data | target RST ECONNREFUSED"},
		"from a router": {with(func(e *tfo.Evidence) { e.End, e.Errno = tfo.EndRefused, "EHOSTUNREACH" }), "client SYN TFO 34, cookie 01020304 + 100 bytes of data | path ICMP EHOSTUNREACH"},
		"not sent":      {with(func(e *tfo.Evidence) { e.End, e.Errno = tfo.EndLocal, "ENETUNREACH" }), " not sent ENETUNREACH"},
	} {
		var parts []string
		for _, s := range steps(&c.ev) {
			part := s.From + " " + s.What
			if s.Label != "" {
				part += " " + s.Label
			}
			if s.Unanswered {
				part += " ?"
			}
			parts = append(parts, part)
		}
		if got := strings.Join(parts, " | "); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

// A cancelled report is an error, not half a file.
func TestCancelled(t *testing.T) {
	dir := generated(t, htmltest.Config{Seed: 1, Targets: 10, Probes: []string{"a"}, Plan: measure.Standard})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var b bytes.Buffer
	if err := Write(ctx, &b, Options{}, dir); err == nil || b.Len() > 0 {
		t.Errorf("%v, %d bytes", err, b.Len())
	}
}

// AS and country are bars, heat maps and columns where a file tells them; the
// groups that were asked for are there too.
func TestGroups(t *testing.T) {
	dir := generated(t, htmltest.Config{Seed: 4, Targets: 200, Probes: []string{"a", "b"}, Plan: measure.Quick, Fault: 0.1})
	asn := filepath.Join(t.TempDir(), "asn.txt")
	if err := os.WriteFile(asn, []byte("0.0.0.0/1,64501,DE\n128.0.0.0/1,64502,US\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	table, err := origin.Open(asn)
	if err != nil {
		t.Fatal(err)
	}
	f := written(t, Options{Query: report.Query{Origin: table, By: []aggregate.By{{aggregate.KeyProbe}, {aggregate.KeyPort, aggregate.KeyFamily}}}}, dir)
	var bars, maps []string
	for _, s := range f.numbers.Shares {
		bars = append(bars, s.By)
	}
	for _, h := range f.numbers.Heat {
		maps = append(maps, h.By)
		var sum uint64
		for _, c := range h.Cells {
			sum += c.Measurements
		}
		if sum != f.numbers.Measurements || len(h.Cells) != 2*len(h.Groups) {
			t.Errorf("the map by %s is of %d measurements of %d", h.By, sum, f.numbers.Measurements)
		}
	}
	if got := strings.Join(bars, "|"); got != "probe|port|IP version|name suffix|AS|country|port and IP version" {
		t.Errorf("bars by %s", got)
	}
	if got := strings.Join(maps, "|"); got != "port|name suffix|AS|country" {
		t.Errorf("maps by %s", got)
	}
	of := f.table.Targets
	for k, col := range []string{"AS", "country"} {
		if of.Groups[k].By != col || len(of.Groups[k].Of) != len(of.Addr) {
			t.Errorf("column %+v", of.Groups[k])
		}
	}
	for i, a := range of.Addr {
		want := ""
		if addr := netip.MustParseAddr(a); addr.Is4() {
			want = map[bool]string{true: "AS64501", false: "AS64502"}[addr.As4()[0] < 128]
		}
		if n := of.Groups[0].Of[i]; n < 0 && want != "" || n >= 0 && of.Groups[0].Names[n] != want {
			t.Fatalf("%s is in group %d, want %s", a, n, want)
		}
	}
}

// A mesh in a dataset is a matrix in the report.
func TestMesh(t *testing.T) {
	dir := generated(t, htmltest.Config{Seed: 1, Targets: 5, Probes: []string{"a", "b"}, Plan: measure.Quick})
	w, err := dataset.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	row := dataset.MeshRow{Mesh: "m", Client: "a", Server: "b", Family: 4, Port: 443, Address: netip.MustParseAddr("192.0.2.1"), Verdict: measure.JointSupported}
	back := row
	back.Client, back.Server, back.Verdict, back.Direction = "b", "a", measure.JointOptionStripped, measure.Forward
	back.Differences = []measure.PathDifference{{Difference: measure.Difference{Field: measure.FieldMSS, Change: measure.Rewritten, Before: "1460", After: "1380"}, Seen: 3, Of: 4}}
	if err := w.WriteMesh([]dataset.MeshRow{row, back}); err != nil {
		t.Fatal(err)
	}
	want := []Pair{
		{Mesh: "m", From: "a", To: "b", Port: 443, Family: 4, Verdict: "supported"},
		{Mesh: "m", From: "b", To: "a", Port: 443, Family: 4, Verdict: "option_stripped", Fault: true, Direction: "forward", Detail: "mss changed in 3 of 4 SYNs"},
	}
	if diff := cmp.Diff(want, written(t, Options{}, dir).numbers.Mesh); diff != "" {
		t.Error(diff)
	}
}

// A target counts once for each size, however often it was tried, and by the
// best that became of it.
func TestSizes(t *testing.T) {
	sized := func(bytes, acked, again int, end tfo.End) tfo.Evidence {
		return tfo.Evidence{Kind: tfo.KindSized, SynBytes: bytes, SynAcked: acked, SynRetransmits: again, End: end}
	}
	s := sizes{}
	s.add([]tfo.Evidence{
		{Kind: tfo.KindPlain, End: tfo.EndResponse}, sized(1, 1, 0, tfo.EndResponse),
		sized(512, -1, 0, tfo.EndTimeout), sized(512, 0, 1, tfo.EndResponse), sized(512, -1, 0, tfo.EndTimeout), sized(512, -1, 0, tfo.EndLocal),
	})
	s.add([]tfo.Evidence{sized(1, 0, 1, tfo.EndResponse), sized(1, 1, 0, tfo.EndResponse), sized(512, 0, 0, tfo.EndResponse)})
	s.add([]tfo.Evidence{sized(520, 100, 0, tfo.EndResponse)})
	got := s.done()
	low, high := stat.Wilson(2, 2)
	want := []Size{{From: 1, To: 1, N: 2, Acked: 2, Low: low, High: high}, {From: 512, To: 520, N: 3, Part: 1, None: 1, Lost: 1}}
	want[1].Low, want[1].High = stat.Wilson(0, 3)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
