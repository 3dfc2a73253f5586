package blame

import (
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tfofleet/internal/measure"
)

// seen is the observations of vantage points 0, 1, 2, ... in turn.
func seen(vs ...measure.Verdict) []Observation {
	os := make([]Observation, len(vs))
	for i, v := range vs {
		os[i] = Observation{Vantage: uint32(i), Verdict: v}
	}
	return os
}

func of(vantage uint32, near Near, vs ...measure.Verdict) []Observation {
	os := seen(vs...)
	for i := range os {
		os[i].Vantage, os[i].Near = vantage, near
	}
	return os
}

func TestJudge(t *testing.T) {
	const (
		sup, uns, off       = measure.Supported, measure.Unsupported, measure.Offline
		drop, lost, reset   = measure.DataDropped, measure.OptionDropped, measure.Reset
		only, unstable      = measure.CookieOnly, measure.CookieUnstable
		never               = measure.Verdict(0)
		local, near, across = Vantage, NearDrops, PathDependent
	)
	broken := Broken{{Vantage: 0, Verdict: drop}, {Vantage: 0, Verdict: uns}}
	for _, c := range []struct {
		name   string
		os     []Observation
		broken Broken
		want   Judgement
		wrong  []int
	}{
		{"nothing", nil, nil, Judgement{NotSeen, Nobody, never}, nil},
		{"one sound", seen(sup), nil, Judgement{Once, Nobody, sup}, nil},
		{"one without", seen(uns), nil, Judgement{Once, Nobody, uns}, nil},
		{"one fault blames nobody yet", seen(drop), nil, Judgement{Once, Unknown, drop}, []int{0}},
		{"one vantage point, often", of(3, NearNothing, drop, drop, drop), nil, Judgement{Stable, Unknown, drop}, []int{0, 1, 2}},
		{"all sound", seen(sup, sup, sup), nil, Judgement{Stable, Nobody, sup}, nil},
		{"all without", seen(uns, uns), nil, Judgement{Stable, Nobody, uns}, nil},
		{"all agree on a fault", seen(drop, drop), nil, Judgement{Stable, Target, drop}, []int{0, 1}},
		{"most agree on a fault", seen(drop, drop, reset), nil, Judgement{across, Target, drop}, []int{0, 1, 2}},
		{"faults that differ", seen(drop, reset), nil, Judgement{across, Unknown, drop}, []int{0, 1}},
		{"one path of three", seen(sup, drop, sup), nil, Judgement{across, Path, sup}, []int{1}},
		{"one path of two", seen(uns, lost), nil, Judgement{across, Path, uns}, []int{1}},
		{"the option gets lost on a path", seen(sup, uns, sup), nil, Judgement{across, Path, sup}, []int{1}},
		{"on and off at one place", append(seen(sup, drop), Observation{Vantage: 1, Verdict: sup}), nil, Judgement{Unstable, Unknown, sup}, []int{1}},
		{"two faults at one place", append(seen(sup, drop), Observation{Vantage: 1, Verdict: reset}), nil, Judgement{Unstable, Unknown, sup}, []int{1, 2}},
		{"down at one place", seen(sup, off), nil, Judgement{across, Nobody, sup}, nil},
		{"down for all", seen(off, off), nil, Judgement{Stable, Nobody, off}, nil},
		{"a fault and down", seen(off, drop), nil, Judgement{across, Unknown, drop}, []int{1}},
		{"a broken vantage point", seen(drop, sup, sup), broken, Judgement{Stable, local, sup}, []int{0}},
		{"a broken vantage point, alone", seen(drop), broken, Judgement{NotSeen, local, never}, []int{0}},
		{"a broken vantage point and one that sees it too", seen(drop, drop), broken, Judgement{Once, Unknown, drop}, []int{1}},
		{"a broken vantage point and two", seen(drop, drop, drop), broken, Judgement{Stable, Target, drop}, []int{1, 2}},
		{"a broken vantage point and a path", seen(drop, sup, drop), broken, Judgement{across, Path, sup}, []int{2}},
		{"a vantage point broken for another verdict", seen(lost, sup), broken, Judgement{across, Path, sup}, []int{0}},
		{"strips, and the target has none", seen(uns, uns, uns), broken, Judgement{Stable, Nobody, uns}, nil},
		{"strips, and the target has it", seen(uns, sup, sup), broken, Judgement{Stable, local, sup}, []int{0}},
		{"a box near it", of(0, near, drop), nil, Judgement{NotSeen, local, never}, []int{0}},
		{"a box near it does not explain that", of(0, near, uns), nil, Judgement{Once, Nobody, uns}, nil},
		{"a box that strips", of(0, NearStrips, uns), nil, Judgement{NotSeen, local, never}, []int{0}},
		{"a box that answers itself", append(of(0, NearTerminate, sup), Observation{Vantage: 1, Verdict: drop}, Observation{Vantage: 2, Verdict: drop}), nil, Judgement{Stable, Target, drop}, []int{1, 2}},
		{"its own address changes", append(of(0, NearChanges, unstable), Observation{Vantage: 1, Verdict: sup}), nil, Judgement{Once, local, sup}, []int{0}},
		{"the address of all changes", append(of(0, NearChanges, unstable), of(1, NearChanges, unstable)...), nil, Judgement{NotSeen, local, never}, []int{0, 1}},
		{"its own address changes, and others see it too", append(of(0, NearChanges, unstable), of(1, NearNothing, unstable)[0], of(2, NearNothing, unstable)[0]), nil, Judgement{Stable, Target, unstable}, []int{1, 2}},
		{"a changed address loses no data", append(of(0, NearChanges, drop), Observation{Vantage: 1, Verdict: drop}), nil, Judgement{Stable, Target, drop}, []int{0, 1}},
		{"connections break near it", append(of(0, NearBreaks, reset), Observation{Vantage: 1, Verdict: sup}), nil, Judgement{Once, local, sup}, []int{0}},
		{"a cookie and no data, at all", seen(only, only, only), nil, Judgement{Stable, Target, only}, []int{0, 1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wrong := make([]bool, len(c.os))
			got := Judge(c.os, c.broken, wrong)
			var at []int
			for i, w := range wrong {
				if w {
					at = append(at, i)
				}
			}
			if got != c.want || !slices.Equal(at, c.wrong) {
				t.Errorf("%v %v %v by %v, want %v %v %v by %v", got.Stability, got.Blame, got.Verdict, at, c.want.Stability, c.want.Blame, c.want.Verdict, c.wrong)
			}
		})
	}
}

func genObservations() *rapid.Generator[[]Observation] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Observation {
		return Observation{
			Vantage: rapid.Uint32Range(0, 3).Draw(t, "vantage"),
			Verdict: measure.Verdict(rapid.IntRange(1, 12).Draw(t, "verdict")),
			Near:    Near(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 4, 5, 6}).Draw(t, "near")),
		}
	}), 0, 8)
}

// Whatever was seen: the order does not matter, one vantage point blames no
// target and no path, and who is blamed has observations that say so.
func TestJudgeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		os := genObservations().Draw(t, "observations")
		broken := Broken{{Vantage: 0, Verdict: measure.Verdict(rapid.IntRange(1, 11).Draw(t, "broken"))}}
		wrong := make([]bool, len(os))
		j := Judge(os, broken, wrong)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		r.Shuffle(len(os), func(i, k int) { os[i], os[k] = os[k], os[i]; wrong[i], wrong[k] = wrong[k], wrong[i] })
		again := make([]bool, len(os))
		k := Judge(os, broken, again)
		if rank(j.Verdict) != rank(k.Verdict) || j.Blame != k.Blame || j.Stability != k.Stability || !slices.Equal(wrong, again) {
			t.Fatalf("%+v %v, shuffled %+v %v", j, wrong, k, again)
		}
		vantages := map[uint32]bool{}
		for _, o := range os {
			vantages[o.Vantage] = true
		}
		if (j.Blame == Target || j.Blame == Path) && len(vantages) < 2 {
			t.Fatalf("%v is blamed from one place", j.Blame)
		}
		if slices.Contains(wrong, true) != (j.Blame != Nobody) {
			t.Fatalf("%v, by %v", j.Blame, wrong)
		}
	})
}

// A vantage point is broken for what it sees of most targets that others get
// further with, and by four of four at the earliest; and never by what others
// see as well.
func TestBroken(t *testing.T) {
	const sup, drop = measure.Supported, measure.DataDropped
	count := func(rows ...[]Observation) Broken {
		var a, b Vantages
		for i, os := range rows {
			[]*Vantages{&a, &b}[i%2].Add(os)
		}
		a.Merge(&b)
		return a.Broken()
	}
	times := func(n int, os []Observation) [][]Observation { return slices.Repeat([][]Observation{os}, n) }
	if b := count(times(3, seen(sup, drop))...); b != nil {
		t.Errorf("by three: %+v", b)
	}
	b := count(times(4, seen(sup, drop))...)
	if len(b) != 1 || b[0].Vantage != 1 || b[0].Verdict != drop || b[0].Others != sup || b[0].Count != 4 || b[0].Of != 4 || b[0].Low < 0.5 {
		t.Errorf("by four: %+v", b)
	}
	if b := count(times(100, seen(drop, drop))...); b != nil {
		t.Errorf("by what all see: %+v", b)
	}
	if b := count(append(times(40, seen(sup, drop, sup)), times(60, seen(sup, sup, sup))...)...); b != nil {
		t.Errorf("by less than half: %+v", b)
	}
	if b := count(append(times(65, seen(sup, drop, sup)), times(35, seen(sup, sup, sup))...)...); len(b) != 1 {
		t.Errorf("by most: %+v", b)
	}
	// A vantage point that changed: what it gives twice is not what it gives.
	changed := append(of(0, NearNothing, sup, drop), Observation{Vantage: 1, Verdict: sup})
	lost := append(of(0, NearNothing, measure.OptionDropped, measure.OptionDropped), Observation{Vantage: 1, Verdict: sup})
	if b := count(append(times(6, lost), times(200, changed)...)...); b != nil {
		t.Errorf("by the few that stayed the same: %+v", b)
	}
	// Targets without Fast Open say nothing of who drops data.
	if b := count(append(times(10, seen(sup, drop)), times(1000, seen(measure.Unsupported, measure.Unsupported))...)...); len(b) != 1 {
		t.Errorf("among many without: %+v", b)
	}
	// Two vantage points behind one box, and one that is not.
	if b := count(times(10, seen(drop, drop, sup))...); len(b) != 2 {
		t.Errorf("two: %+v", b)
	}
	// A hundred names of one address are one observation of each vantage point.
	names := times(100, []Observation{{Vantage: 0, Verdict: sup, Copy: true}, {Vantage: 1, Verdict: drop, Copy: true}})
	names[7] = []Observation{{Vantage: 0, Verdict: sup}, {Vantage: 1, Verdict: drop, Copy: true}}
	names[8] = []Observation{{Vantage: 0, Verdict: sup, Copy: true}, {Vantage: 1, Verdict: drop}}
	if b := count(names...); b != nil {
		t.Errorf("by one address: %+v", b)
	}
	if b := count(append(names, times(3, seen(sup, drop))...)...); len(b) != 1 || b[0].Of != 4 {
		t.Errorf("by four addresses: %+v", b)
	}
	// One that gets everywhere where four others do not, as behind a proxy that
	// speaks Fast Open, says nothing of their networks.
	const uns = measure.Unsupported
	if b := count(times(100, seen(sup, uns, uns, uns, uns))...); b != nil {
		t.Errorf("by one of five: %+v", b)
	}
	if b := count(times(100, seen(sup, uns, sup, uns, uns, uns))...); b != nil {
		t.Errorf("by two of six: %+v", b)
	}
	if b := count(times(100, seen(sup, uns, sup, uns, sup))...); len(b) != 2 {
		t.Errorf("by three of five: %+v", b)
	}
	if b := count(times(10, append(of(0, NearTerminate, sup), seen(drop, drop)[1]))...); b != nil {
		t.Errorf("by what a box answered: %+v", b)
	}
}

func TestConditions(t *testing.T) {
	for c, want := range map[measure.Condition]bool{
		measure.CondVantageNoRoute: true, measure.CondVantagePaused: true, "tfo.vantage.emfile": true,
		measure.CondVantageRepeated: false, measure.CondVantageStale: false, measure.CondWorks: false, "tfo.vantage.near_path.strips_option": false,
	} {
		if Spoils(c) != want {
			t.Errorf("%s: %v", c, !want)
		}
	}
	for c, want := range map[measure.Condition]Near{
		"tfo.vantage.near_path.strips_option": NearStrips, "tfo.vantage.near_path.drops_syn_data": NearDrops, "tfo.vantage.near_path.terminates_tcp": NearTerminate,
		"tfo.vantage.near_path.clean": NearNothing, "tfo.vantage.near_path.new": NearOther, "tfo.vantage.near_path.unknown": NearNothing, measure.CondVantageNoRoute: NearNothing,
	} {
		if NearOf(c) != want {
			t.Errorf("%s: %v", c, NearOf(c))
		}
	}
	for n := measure.NearPathStripsOption; n.String() != measure.NearPathUnknown.String(); n++ {
		if near := NearOf(measure.Condition(nearPath + n.String())); near == NearNothing || near == NearOther {
			t.Errorf("%v means nothing here", n)
		}
	}
	for _, v := range measure.Verdicts() {
		if counts := Counts(measure.OutcomeMeasured, v); counts != (v != measure.Inconclusive) {
			t.Errorf("%v counts: %v", v, counts)
		}
		if int(v) >= verdicts {
			t.Errorf("%v is beyond the table", v)
		}
	}
}

// docs/verdicts.md says what each box near a vantage point may explain, and no
// more than it does.
func TestExplains(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	fault := func(v measure.Verdict) bool { return v.Fault() }
	words := map[string]func(measure.Verdict) bool{
		"nothing":                                       func(measure.Verdict) bool { return false },
		"every fault":                                   fault,
		"every verdict but `supported`":                 func(v measure.Verdict) bool { return v.Fault() || v == measure.Unsupported },
		"`cookie_unstable`, `cookie_only`":              func(v measure.Verdict) bool { return v == measure.CookieUnstable || v == measure.CookieOnly },
		"every fault that breaks connections":           func(v measure.Verdict) bool { return v.Fault() && rank(v) < rank(measure.Unsupported) },
		"every verdict: nothing of the target was seen": func(measure.Verdict) bool { return true },
	}
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| [^|]+ \\| ([^|]+) \\|$").FindAllStringSubmatch(section(t, string(doc), "## What is near a probe"), -1)
	if len(rows) != int(measure.NearPathBreaksFlows)+1 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range append(rows, []string{"", "new", "every fault"}) {
		explains := words[row[2]]
		if explains == nil {
			t.Errorf("%s: %q", row[1], row[2])
			continue
		}
		near := NearOf(measure.Condition(nearPath + row[1]))
		for _, v := range measure.Verdicts() {
			if got := near.explains(v); got != explains(v) {
				t.Errorf("%s explains %v: %v", row[1], v, got)
			}
		}
	}
}

// section is a document from a heading to the next.
func section(t *testing.T, doc, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(doc, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("no section %q", heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}
