package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/lab"
	"tfofleet/internal/measure"
	"tfofleet/internal/report"
)

// A verdict that is not the truth must be counted, and marked where it stands.
func TestComparisonMarksWhatDiffers(t *testing.T) {
	truth := func(name string, v ...measure.Verdict) lab.Path {
		return lab.Path{Name: name, About: "about " + name, Truth: v}
	}
	c := &comparison{}
	for i, p := range []lab.Path{truth("good", measure.Supported), truth("open", measure.Supported, measure.Inconclusive), truth("bad", measure.Reset), truth("gone", measure.Offline)} {
		for _, addr := range []string{"198.18.0.1", "fd54::1"} {
			a := netip.MustParseAddr(addr)
			for range i {
				a = a.Next()
			}
			c.add(lab.Placed{Path: p}, a, p.Truth)
		}
	}
	dir := t.TempDir()
	w, err := dataset.Create(dir, &dataset.Survey{ID: "s", Created: time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	var ms []measure.Measurement
	for i, r := range c.rows[:6] {
		v := []measure.Verdict{measure.Supported, measure.Supported, measure.Inconclusive, measure.Supported, measure.Reset, measure.DataDropped}[i]
		ms = append(ms, measure.Measurement{
			Target: measure.Target{Item: uint64(i), Addr: r.addr, Port: r.Port}, Outcome: measure.OutcomeMeasured, Verdict: v,
			Conditions: []measure.Condition{measure.CondSynDataLost},
		})
	}
	if err := w.WriteChunk(dataset.ChunkKey{Survey: "s", Probe: "local"}, ms); err != nil {
		t.Fatal(err)
	}
	if err := c.load(dir); err != nil {
		t.Fatal(err)
	}
	if n := c.differing(); n != 3 {
		t.Errorf("%d differ, want 3: one verdict, two targets not measured", n)
	}
	var b bytes.Buffer
	if err := c.writeTable(&b, report.Options{}); err != nil {
		t.Fatal(err)
	}
	want := `path  truth                      verdict                             what happens there
good  supported                  supported                           about good
open  supported or inconclusive  IPv4 inconclusive, IPv6 supported   about open
bad   reset                      IPv4 reset, IPv6 data_dropped (!)   about bad
gone  offline                    not measured                        about gone

bad, fd54::3: data_dropped instead of reset: [tfo.syndata.lost]
5 of 6 verdicts are true; 2 targets were not measured
`
	if squeeze(b.String()) != squeeze(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}

	b.Reset()
	if err := c.writeJSON(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 8 {
		t.Fatalf("%d lines of JSON, want 8", len(lines))
	}
	var bad map[string]any
	if err := json.Unmarshal([]byte(lines[5]), &bad); err != nil {
		t.Fatal(err)
	}
	if bad["path"] != "bad" || bad["ok"] != false || bad["truth"] != "reset" || bad["verdict"] != "data_dropped" {
		t.Errorf("got %v", bad)
	}
}

// squeeze makes runs of blanks one, and drops line breaks within a cell.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
