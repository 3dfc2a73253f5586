package export

import (
	"bufio"
	"encoding/json"
	"io"
	"net/netip"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
)

// record is one line of PATHspider's output (pathspider/base.py of version 2.1):
// the job and what was found. Fields that it has no word for come last.
type record struct {
	DIP        string              `json:"dip"`
	DP         uint16              `json:"dp"`
	Domain     string              `json:"domain,omitempty"`
	SIP        string              `json:"sip,omitempty"`
	Path       []string            `json:"path"`
	Time       interval            `json:"time"`
	Conditions []measure.Condition `json:"conditions"`

	Verdict string `json:"tfofleet_verdict"`
	Probe   string `json:"tfofleet_probe"`
	Survey  string `json:"tfofleet_survey"`
}

type interval struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// pathspiderTime is str(datetime.utcnow()) of Python.
const pathspiderTime = "2006-01-02 15:04:05.000000"

// writePATHspider writes a record per measured target that has an address, one
// per line. Conditions are all of ours, of which PATHspider's are a part.
func writePATHspider(dir string, w io.Writer) error {
	out := bufio.NewWriter(w)
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	for r, err := range dataset.Read(dir) {
		if err != nil {
			return err
		}
		if !observed(&r) {
			continue
		}
		from, to := span(&r)
		rec := record{
			DIP: r.Addr.String(), DP: r.Port, Domain: r.Hostname, Conditions: r.Conditions,
			Time:    interval{from.Format(pathspiderTime), to.Format(pathspiderTime)},
			Verdict: r.Verdict.String(), Probe: r.Probe, Survey: r.Survey,
		}
		if rec.Conditions == nil {
			rec.Conditions = []measure.Condition{}
		}
		if a := source(&r); a.IsValid() {
			rec.SIP = a.String()
			rec.Path = append(rec.Path, rec.SIP)
		}
		rec.Path = append(rec.Path, "*", rec.DIP)
		if err := e.Encode(rec); err != nil {
			return err
		}
	}
	return out.Flush()
}

// observed reports whether there is anything to tell other tools: they know no
// targets without an address, and none that were not measured.
func observed(r *dataset.Record) bool {
	return r.Outcome == measure.OutcomeMeasured && r.Addr.IsValid()
}

// span is when the target was measured.
func span(r *dataset.Record) (from, to time.Time) {
	return r.Started.UTC(), r.Started.Add(r.Duration).UTC()
}

// source is the address the probe measured from, as its kernel knows it.
func source(r *dataset.Record) netip.Addr {
	for i := range r.Attempts {
		if a := r.Attempts[i].Local.Addr(); a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}
