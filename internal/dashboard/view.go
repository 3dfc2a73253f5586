package dashboard

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/report/stat"
	pb "tfofleet/proto/tfofleet/v1"
)

// surveyView is a survey as a page reads it.
type surveyView struct {
	ID          string        `json:"id"`
	Name        string        `json:"name"`
	Phase       string        `json:"phase"`
	Reason      string        `json:"reason,omitempty"`
	Stalled     string        `json:"stalled,omitempty"`
	Missing     []string      `json:"missing"`
	Paused      bool          `json:"paused"`
	Planned     uint64        `json:"planned"`
	Measured    uint64        `json:"measured"`
	Refused     uint64        `json:"refused"`
	Interrupted uint64        `json:"interrupted"`
	Cancelled   uint64        `json:"cancelled"`
	Lost        uint64        `json:"lost"`
	Pending     uint64        `json:"pending"`
	Verdicts    []verdictView `json:"verdicts"` // of the measured, in the order of reports
	Created     *time.Time    `json:"created"`
	ElapsedS    float64       `json:"elapsed_s"`
	Mode        string        `json:"mode"`
	Copies      uint32        `json:"copies"`
	Probes      []string      `json:"probes"` // selected; empty: any
}

type verdictView struct {
	Name    string  `json:"name"`
	Meaning string  `json:"meaning"`
	Fault   bool    `json:"fault"`
	Count   uint64  `json:"count"`
	Low     float64 `json:"low"` // of the share, with 95 % confidence
	High    float64 `json:"high"`
}

func viewSurvey(s *pb.SurveyState) surveyView {
	v := surveyView{
		ID: s.GetSurvey(), Name: s.GetName(), Phase: word(s.GetPhase().String(), "SURVEY_PHASE_"), Reason: s.GetReason(), Stalled: s.GetStalled(), Missing: list(s.GetMissing()),
		Paused: s.GetPaused(), Planned: s.GetPlanned(), Measured: s.GetMeasured(), Refused: s.GetRefused(), Interrupted: s.GetInterrupted(),
		Cancelled: s.GetCancelled(), Lost: s.GetLost(), Pending: s.GetPending(), Verdicts: []verdictView{},
		Created: moment(s.GetCreated()), ElapsedS: s.GetElapsed().AsDuration().Seconds(), Mode: word(s.GetMode().String(), "SURVEY_MODE_"), Copies: s.GetCopies(), Probes: list(s.GetProbes()),
	}
	counts := map[measure.Verdict]uint64{}
	for _, c := range s.GetCounts() {
		if c.GetOutcome() == pb.Outcome_OUTCOME_MEASURED {
			counts[known(c.GetVerdict())] += c.GetCount()
		}
	}
	for _, name := range append(measure.Verdicts(), 0) {
		if n := counts[name]; n > 0 {
			low, high := stat.Wilson(n, v.Measured)
			v.Verdicts = append(v.Verdicts, verdictView{name.String(), report.Meaning(name), name.Fault(), n, low, high})
		}
	}
	return v
}

// known is a verdict of this version, or 0.
func known(v pb.Verdict) measure.Verdict {
	if m := measure.Verdict(v); int32(m) == int32(v) && m.String() != "unknown" {
		return m
	}
	return 0
}

// probeView is a probe as a page reads it. Connected, ready, measuring and the
// last result are four things, none of which follows from another.
type probeView struct {
	Name       string            `json:"name"`
	Labels     map[string]string `json:"labels"`
	Connected  string            `json:"connected"` // yes, no, banned
	Since      *time.Time        `json:"since"`     // connected
	Heard      *time.Time        `json:"heard"`
	BanReason  string            `json:"ban_reason,omitempty"`
	Ready      string            `json:"ready"` // yes, or what keeps it from it; empty when not known
	Reason     string            `json:"reason,omitempty"`
	Measuring  uint32            `json:"measuring"` // targets
	LastResult *time.Time        `json:"last_result"`
	NearPath   string            `json:"near_path"` // empty when not known
	NearDetail string            `json:"near_detail,omitempty"`
	Host       string            `json:"host"`
	Kernel     string            `json:"kernel"`
	Version    string            `json:"version"`
	Address    string            `json:"address"`
	Controller string            `json:"controller"`
	Joined     *time.Time        `json:"joined"`
	Leases     int               `json:"leases"`
	Done       uint64            `json:"done"`
	Refused    uint64            `json:"refused"`
	RateLimit  float64           `json:"rate_limit"` // 0: none
	Spool      *spoolView        `json:"spool"`
	Events     []eventView       `json:"events"` // newest last; only when one probe was asked for
}

type spoolView struct {
	Depth   uint64  `json:"depth"`
	Bytes   uint64  `json:"bytes"`
	Limit   uint64  `json:"limit"`
	OldestS float64 `json:"oldest_s"`
	Dropped uint64  `json:"dropped"`
	Trouble string  `json:"trouble,omitempty"`
}

type eventView struct {
	Kind   string     `json:"kind"`
	At     *time.Time `json:"at"`
	Detail string     `json:"detail"`
}

func viewProbe(p *pb.ProbeInfo) probeView {
	st := p.GetStatus()
	v := probeView{
		Name: p.GetName(), Labels: p.GetLabels(), Connected: "no", Since: moment(p.GetConnectedSince()), Heard: moment(p.GetLastHeard()), BanReason: p.GetBanReason(),
		LastResult: moment(p.GetLastResult()), Host: p.GetHost().GetHostname(), Kernel: p.GetHost().GetKernel(), Version: p.GetVersion(), Address: p.GetAddress(),
		Controller: p.GetController(), Joined: moment(p.GetJoined()), Leases: len(p.GetHeld()), Done: st.GetDone(), Refused: st.GetRefused(), RateLimit: p.GetLimits().GetRate(),
		NearDetail: st.GetNearPathDetail(), Events: []eventView{},
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	if n := st.GetNearPath(); n != pb.NearPath_NEAR_PATH_UNSPECIFIED {
		v.NearPath = word(n.String(), "NEAR_PATH_")
	}
	switch {
	case p.GetBanned() != nil:
		v.Connected = "banned"
	case p.GetConnectedSince() != nil:
		v.Connected, v.Measuring = "yes", st.GetActive()
		v.Ready, v.Reason = readiness(p), st.GetReason()
	}
	if s := st.GetSpool(); s != nil {
		v.Spool = &spoolView{s.GetDepth(), s.GetBytes(), s.GetLimit(), s.GetOldest().AsDuration().Round(time.Second).Seconds(), s.GetDropped(), s.GetTrouble()}
	}
	for _, e := range p.GetEvents() {
		v.Events = append(v.Events, eventView{word(e.GetKind().String(), "PROBE_EVENT_KIND_"), moment(e.GetAt()), e.GetDetail()})
	}
	return v
}

func readiness(p *pb.ProbeInfo) string {
	switch r := p.GetStatus().GetReadiness(); {
	case p.GetDrained():
		return "drained"
	case r == pb.Readiness_READINESS_READY:
		return "yes"
	case r == pb.Readiness_READINESS_UNSPECIFIED:
		return ""
	default:
		return word(r.String(), "READINESS_")
	}
}

// word is the name of an enum for people.
func word(name, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", " ")
}

func moment(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
