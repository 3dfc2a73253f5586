package measure

import "tfofleet/internal/tfo"

// NearPath is what is near a probe, as its measurement of the controller's own
// listener shows: what is found here is not to be charged to its targets. The
// values are those of the wire, and append-only.
type NearPath uint8

const (
	NearPathUnknown       NearPath = 0
	NearPathClean         NearPath = 1
	NearPathStripsOption  NearPath = 2 // the option, or the cookie in it, does not get through as it is
	NearPathDropsSynData  NearPath = 3 // a SYN's data does not get through whole
	NearPathTerminatesTCP NearPath = 4 // somebody between the two ends connections
	// NearPathChangesAddress: the probe's address is not the same for all of its
	// connections, and a cookie is good for one address only.
	NearPathChangesAddress NearPath = 5
	NearPathBreaksFlows    NearPath = 6 // connections that try Fast Open are lost, reset or dead
)

var nearPathNames = [...]string{"unknown", "clean", "strips_option", "drops_syn_data", "terminates_tcp", "changes_address", "breaks_flows"}

func (n NearPath) String() string {
	if int(n) < len(nearPathNames) {
		return nearPathNames[n]
	}
	return nearPathNames[0]
}

// Condition is what every result of the probe carries; there is none when
// nothing was found, or it is not known.
func (n NearPath) Condition() (c Condition, faulty bool) {
	c, faulty = nearPathConditions[n]
	return c, faulty
}

var nearPathConditions = map[NearPath]Condition{
	NearPathStripsOption:   CondNearPathStripsOption,
	NearPathDropsSynData:   CondNearPathDropsSynData,
	NearPathTerminatesTCP:  CondNearPathTerminatesTCP,
	NearPathChangesAddress: CondNearPathChangesAddress,
	NearPathBreaksFlows:    CondNearPathBreaksFlows,
}

// NearPathOf reads what is near a probe from its measurement of a listener that
// is known to be good. Detail tells it for people: the verdict, and every
// rewriting of the SYN on the way, also of what has nothing to do with Fast
// Open.
func NearPathOf(j *Judgement) (n NearPath, detail string) {
	switch j.Verdict {
	case JointSupported:
		n = NearPathClean
		if j.NAT.Changing == tfo.Yes {
			n = NearPathChangesAddress // by chance never between a cookie and its use
		}
		for i := range j.Pairs {
			if j.Pairs[i].Sight == SightOptionGone {
				n = NearPathStripsOption // of the one kind; the other served instead
			}
		}
	case JointOptionStripped, JointCookieStripped, JointOptionMirrored, JointCookieRewritten:
		n = NearPathStripsOption
	case JointPayloadStripped, JointPayloadTruncated, JointDataDropped:
		n = NearPathDropsSynData
	case JointProxied:
		n = NearPathTerminatesTCP
	case JointCookieRefused:
		n = NearPathChangesAddress
	case JointBlackholedBefore, JointBlackholedAfterHandshake, JointReset, JointOptionDropped, JointClientBlocked:
		n = NearPathBreaksFlows
	case JointInconclusive:
		if j.CarrierNAT {
			n = NearPathChangesAddress
		}
	}
	detail = j.Verdict.String()
	if j.Direction != DirectionUnknown {
		detail += " " + j.Direction.String()
	}
	if j.Doubt != DoubtNone {
		detail += " (" + j.Doubt.String() + ")"
	}
	if j.CarrierNAT {
		detail += "; address changes between connections"
	}
	if j.Verdict == JointProxied {
		return n, detail // the SYN is another: nothing of it was rewritten
	}
	for _, d := range j.Differences {
		if d.Rewrite() {
			detail += "; " + d.String()
		}
	}
	return n, detail
}
