package export

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
)

// metadata is the first line of an observation set file. All values but lists
// are strings (pto3-go, observation.go).
type metadata struct {
	Sources    []string `json:"_sources"`
	Analyzer   string   `json:"_analyzer"`
	Conditions []string `json:"_conditions"` // all that follow, or the PTO refuses the file
	Survey     string   `json:"tfofleet_survey"`
	Plan       string   `json:"tfofleet_plan"`
	Seed       string   `json:"tfofleet_seed"`
}

// writePTO writes an observation set file (pto3-go, doc/OBSETS.md): a line of
// metadata, then one observation per condition of each measured target that has
// an address,
//
//	["", start, end, "probe|NAME SOURCE * TARGET", condition, port]
//
// The set's id is for the PTO to give. The probe is a pseudonym in front of its
// address, which is a private one behind NAT; the value is the target's port,
// which the PTO's paths have no place for. The verdict is an observation of its
// own, tfo.verdict.<name>. An address that several names led to was observed
// once, and so it is here, where there are no names.
func writePTO(dir string, w io.Writer) error {
	survey, err := dataset.ReadSurvey(dir)
	if err != nil {
		return err
	}
	conditions, err := conditionsOf(dir)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	if err := e.Encode(metadata{
		Sources: []string{"urn:tfofleet:survey:" + survey.ID}, Analyzer: "urn:tfofleet:classify", Conditions: conditions,
		Survey: survey.ID, Plan: survey.Spec.Plan, Seed: strconv.FormatUint(survey.Spec.Seed, 10),
	}); err != nil {
		return err
	}
	for r, err := range dataset.Read(dir) {
		if err != nil {
			return err
		}
		if !observed(&r) || slices.Contains(r.Conditions, measure.CondSharedAddress) {
			continue
		}
		from, to := span(&r)
		path := "probe|" + strings.ReplaceAll(r.Probe, " ", "_")
		if a := source(&r); a.IsValid() {
			path += " " + element(a)
		}
		path += " * " + element(r.Addr)
		for _, c := range append(r.Conditions[:len(r.Conditions):len(r.Conditions)], verdictCondition(r.Verdict)) {
			if err := e.Encode([]string{"", from.Format(time.RFC3339), to.Format(time.RFC3339), path, string(c), strconv.Itoa(int(r.Port))}); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}

// element is an address as an element of a path.
func element(a netip.Addr) string {
	a = a.Unmap()
	if a.Is4() {
		return a.String()
	}
	return "[" + a.WithZone("").String() + "]"
}

func verdictCondition(v measure.Verdict) measure.Condition {
	return measure.Condition("tfo.verdict." + v.String())
}

// conditionsOf is every condition an export of the dataset has, sorted.
func conditionsOf(dir string) ([]string, error) {
	scan := dataset.NewScan(dataset.ColConditions|dataset.ColVerdict|dataset.ColOutcome|dataset.ColAddr, dir)
	var labels []bool
	verdicts := map[measure.Verdict]bool{}
	err := scan.Run(context.Background(), func(b *dataset.Batch) error {
		if n := len(scan.Labels()) - len(labels); n > 0 {
			labels = append(labels, make([]bool, n)...)
		}
		for i, o := range b.Outcome {
			if o != measure.OutcomeMeasured || !b.Addr[i].IsValid() {
				continue
			}
			ids := b.Conditions.At(i)
			if slices.ContainsFunc(ids, func(id uint32) bool { return scan.Label(id) == measure.CondSharedAddress }) {
				continue
			}
			verdicts[b.Verdict[i]] = true
			for _, id := range ids {
				labels[id] = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	names := []string{}
	for id, there := range labels {
		if there {
			names = append(names, string(scan.Label(uint32(id))))
		}
	}
	for v := range verdicts {
		names = append(names, string(verdictCondition(v)))
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
