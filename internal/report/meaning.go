package report

import "tfofleet/internal/measure"

// meanings says what a verdict means to who reads it, in the 35 columns that
// the longest verdict leaves of a line of 80.
var meanings = map[measure.Verdict]string{
	measure.Supported:                "data in the SYN taken and answered",
	measure.CookieOnly:               "grants cookies, never takes data",
	measure.DataTruncated:            "takes only part of the SYN's data",
	measure.CookieUnstable:           "refuses the cookies it granted",
	measure.Unsupported:              "healthy, offers no Fast Open",
	measure.OptionDropped:            "a SYN with the option is lost",
	measure.DataDropped:              "a SYN with data is lost",
	measure.Reset:                    "Fast Open SYNs get RST or ICMP",
	measure.FlowBlackholed:           "a Fast Open SYN kills the flow",
	measure.BlackholedAfterHandshake: "data taken, then nothing comes back",
	measure.ClientBlocked:            "even plain fails after Fast Open",
	measure.Offline:                  "plain connections fail as well",
	measure.Inconclusive:             "tries disagree, or probe at fault",
}

// Meaning is what a verdict means, in a few words; empty for one of a later
// version.
func Meaning(v measure.Verdict) string { return meanings[v] }
