package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/blame"
)

// Codes of notes. They are stable.
const (
	NoteUnfinished   = "unfinished"    // the survey runs, was cancelled, failed or was killed
	NoteMissing      = "missing"       // survey.json counts measurements that are not there
	NoteVantage      = "vantage"       // the probe's own host spoilt measurements
	NoteBroken       = "broken"        // a vantage point sees a fault everywhere
	NoteProbeSysctl  = "probe_sysctl"  // a setting of a probe's kernel spoils, or may spoil, measurements
	NoteAllOffline   = "all_offline"   // nothing was reached, or nothing over one IP version
	NoteInconclusive = "inconclusive"  // many measurements without an answer
	NoteOneFault     = "one_fault"     // one fault at many targets: is it the vantage side?
	NoteRefused      = "refused"       // the probe's policy forbade targets
	NoteInterrupted  = "interrupted"   // measurements were started and never finished
	NoteUnknown      = "unknown_names" // stored by a later version
)

const (
	// fewTargets is below what says anything about a group of targets.
	fewTargets = 3
	// manyInconclusive is the share from which they are worth a word: on a
	// sound vantage point tries disagree for far fewer targets.
	manyInconclusive = 0.05
	// commonFault is a share of one fault that targets at large do not have:
	// of 673,230 hosts 211 failed because of Fast Open (Trammell et al., "Must
	// Go Faster", run of 2016), while middleboxes near the client broke it at
	// about 20 % of sites (Paasch, NANOG 67). A list of few targets, chosen for
	// their faults, has it too; hence faultTargets.
	commonFault  = 0.2
	faultTargets = 10
	// topConditions is how many are named as the reason of inconclusive ones.
	topConditions = 3
)

// attention lists what a person should look at, gravest for the rest first.
func attention(s *Summary, inconclusive []ConditionCount) []Note {
	ns := notes{}
	ns.unfinished(s)
	ns.missing(s)
	for i := range s.Surveys {
		ns.probes(s.Surveys[i].Probes)
	}
	ns.vantage(s.Conditions)
	ns.broken(s.Targets.Broken)
	ns.offline(s)
	ns.inconclusive(s, inconclusive)
	ns.oneFault(s)
	if s.Refused > 0 {
		ns.add(NoteRefused, s.Refused, "%s refused by the probe's policy, nothing was sent. To measure what is yours, allow it: by --allow CIDR in a survey from this machine, in the policy of a fleet's probe.", targets(s.Refused, "was", "were"))
	}
	if s.Interrupted > 0 {
		ns.add(NoteInterrupted, s.Interrupted, "%s started and never finished. Measure again in a new survey.", targets(s.Interrupted, "was", "were"))
	}
	if n := s.Unknown + s.Counts.Count("unknown"); n > 0 {
		ns.add(NoteUnknown, n, "%s an outcome or verdict of a later version. Use that version to report.", targets(n, "has", "have"))
	}
	return ns
}

type notes []Note

func (ns *notes) add(code string, count uint64, format string, args ...any) {
	*ns = append(*ns, Note{code, fmt.Sprintf(format, args...), count})
}

// unfinished tells of the surveys that are not done. What is missing can be told
// only where one dataset holds all that was counted.
func (ns *notes) unfinished(s *Summary) {
	for i := range s.Surveys {
		v := &s.Surveys[i]
		what := ended(v)
		if what == "" {
			continue
		}
		name := "The survey"
		missing := uint64(0)
		if len(s.Surveys) > 1 {
			name = "Survey " + cmp.Or(v.Name, v.ID)
		} else {
			missing = v.Counts.Planned - min(v.Counts.Planned, s.Measurements)
		}
		if missing == 0 {
			ns.add(NoteUnfinished, 0, "%s %s.", name, what)
			continue
		}
		next := "Resume it to measure what is missing."
		if v.State == dataset.StateCancelled || v.State == dataset.StateFailed {
			next = "Measure what is missing in a new survey." // it is over for good
		}
		ns.add(NoteUnfinished, missing, "%s %s: %s not in the dataset. %s", name, what, targets(missing, "is", "are"), next)
	}
}

// missing tells of measurements that were counted when they were written and
// are not there: a copy that was cut short, or files that were removed. With
// several datasets it cannot be told whose are missing.
func (ns *notes) missing(s *Summary) {
	if len(s.Surveys) != 1 || s.Surveys[0].State != dataset.StateDone {
		return // of one that is not done unfinished tells
	}
	c := s.Surveys[0].Counts
	if n := c.Measured + c.Refused + c.Interrupted; n > s.Measurements {
		ns.add(NoteMissing, n-s.Measurements, "%s counted in survey.json and not in the dataset: files are missing. Copy it again.", targets(n-s.Measurements, "is", "are"))
	}
}

// ended says how a survey ended that is not done.
func ended(v *dataset.Survey) string {
	var what string
	switch v.State {
	case dataset.StateDone:
		return ""
	case dataset.StateRunning:
		what = "still runs or was killed"
	case dataset.StateInterrupted:
		what = "was interrupted"
	case dataset.StateCancelled:
		what = "was cancelled"
	default:
		what = "has failed"
	}
	if v.Reason != "" {
		what += " (" + v.Reason + ")"
	}
	return what
}

// broken names vantage points whose own side is at fault.
func (ns *notes) broken(vantages []Broken) {
	for _, b := range vantages {
		ns.add(NoteBroken, b.Count, "Probe %s gives %s to %s of the targets that others find %s (%s of %s). That is of its own network: they are not charged with it.",
			b.Probe, b.Verdict, percent(b.Count, b.Of), b.Others, number(b.Count), number(b.Of))
	}
}

// probes warns of kernels whose settings touch the evidence.
func (ns *notes) probes(probes []dataset.Probe) {
	for _, p := range probes {
		if v := p.TCPFastOpen; v != nil && *v&1 == 0 {
			ns.add(NoteProbeSysctl, 0, "Fast Open is off on probe %s (net.ipv4.tcp_fastopen = %d). Set bit 0x1 of it and measure again.", p.Name, *v)
		}
		if v := p.BlackholeTimeoutS; v != nil && *v > 0 {
			ns.add(NoteProbeSysctl, 0, "One bad target can switch Fast Open off for all of probe %s (net.ipv4.tcp_fastopen_blackhole_timeout_sec = %d). Set it to 0.", p.Name, *v)
		}
	}
}

// remedies says what to do about a vantage condition, of one target or of many.
var remedies = map[string]string{
	string(measure.CondVantageDisabled):   "Set bit 0x1 of net.ipv4.tcp_fastopen on the probe.",
	string(measure.CondVantagePaused):     "The kernel paused Fast Open after a black hole: set net.ipv4.tcp_fastopen_blackhole_timeout_sec to 0 on the probe.",
	string(measure.CondVantageNoRoute):    "The probe has no route there: give it one, or restrict the family.",
	string(measure.CondVantageStale):      "An older cookie was in the way: give the probe CAP_NET_ADMIN so that it can delete cookies.",
	string(measure.CondVantageNoResolver): "The probe cannot reach its DNS server: check its /etc/resolv.conf and routes.",
	string(measure.CondVantageUnseen):     "SYNs never left the probe's host: look for a local firewall, and for \"neighbor table overflow\" in its kernel log.",
	string(measure.CondVantageRepeated):   "Measuring may have been begun before an interrupt, and was begun anew: nothing is wrong.",
	string(measure.CondVantageLate):       "Results that come when the lease is over are as good as any: nothing is wrong.",
	string(measure.CondVantageIncomplete): "Packets were lost before they could be looked at: the evidence is the kernel's alone.",
	string(measure.CondVantageUncleared):  "Cached cookies could not be deleted first: give the probe CAP_NET_ADMIN.",
}

func (ns *notes) vantage(conditions []ConditionCount) {
	for _, c := range conditions {
		if strings.HasPrefix(c.Condition, "tfo.vantage.") {
			remedy := remedies[c.Condition]
			switch {
			case strings.HasPrefix(c.Condition, "tfo.vantage.near_path."):
				remedy = "The probe's self-test found it near the probe: faults that it explains are not charged to targets."
			case remedy == "":
				remedy = "The cause is on the probe's own host."
			}
			ns.add(NoteVantage, c.Count, "%s %s. %s", targets(c.Count, "carries", "carry"), c.Condition, remedy)
		}
	}
}

func (ns *notes) offline(s *Summary) {
	if s.Measured >= fewTargets && s.Counts.Count(measure.Offline.String()) == s.Measured {
		ns.add(NoteAllOffline, s.Measured, "Nothing was reached: all %s are offline. Is the probe's own network up, and does it let TCP out?", number(s.Measured))
		return
	}
	for _, g := range s.ByFamily {
		if g.Key != "none" && g.Measured >= fewTargets && g.Counts.Count(measure.Offline.String()) == g.Measured {
			ns.add(NoteAllOffline, g.Measured, "Nothing was reached over %s: all %s are offline. The probe may have none; restrict the family.", familyName(g.Key), number(g.Measured))
		}
	}
}

func (ns *notes) inconclusive(s *Summary, of []ConditionCount) {
	n := s.Counts.Count(measure.Inconclusive.String())
	if float64(n) < manyInconclusive*float64(s.Measured) || n == 0 {
		return
	}
	var top []string
	for _, c := range of {
		if len(top) < topConditions {
			top = append(top, fmt.Sprintf("%s (%s)", c.Condition, percent(c.Count, n)))
		}
	}
	reason := "They carry no condition."
	if len(top) > 0 {
		reason = "Most carry " + strings.Join(top, ", ") + "."
	}
	ns.add(NoteInconclusive, n, "%s inconclusive, %s of the measured. %s", targets(n, "is", "are"), percent(n, s.Measured), reason)
}

func (ns *notes) oneFault(s *Summary) {
	for _, p := range s.ByProbe {
		if slices.ContainsFunc(s.Targets.Broken, func(b Broken) bool { return b.Probe == p.Key }) {
			continue // said already, and better
		}
		for _, v := range p.Verdicts {
			verdict, err := measure.ParseVerdict(v.Verdict)
			if err != nil || !verdict.Fault() || v.Share < commonFault || v.Count < faultTargets {
				continue
			}
			why := "Targets at large do not share a fault: suspect the probe's own network, and measure from another."
			if s.agreed(v.Verdict) {
				why = "The other probes agree, and targets are charged with it."
			}
			ns.add(NoteOneFault, v.Count, "%s of what probe %s measured is %s. %s", percent(v.Count, p.Measured), p.Key, v.Verdict, why)
		}
	}
}

// agreed reports whether a fault is of the targets: all of several probes see it
// often, and most of the blame is theirs.
func (s *Summary) agreed(fault string) bool {
	all := uint64(0)
	for _, b := range s.Targets.Blame {
		all += b.Count
	}
	seldom := func(p Group) bool { return float64(p.Count(fault)) < commonFault*float64(p.Measured) }
	return len(s.ByProbe) > 1 && !slices.ContainsFunc(s.ByProbe, seldom) && 2*named(s.Targets.Blame, blame.Target) > all
}

// targets is "1 target was", "2 targets were".
func targets(n uint64, one, many string) string {
	if n == 1 {
		return "1 target " + one
	}
	return number(n) + " targets " + many
}
