package matrix

import (
	"github.com/jedib0t/go-pretty/v6/text"

	"tfofleet/internal/measure"
)

// code is a verdict in a cell: faults in capitals.
type code struct{ short, meaning string }

var codes = map[measure.JointVerdict]code{
	measure.JointSupported:                {"ok", "cookie and data arrive as sent, and so do the answers"},
	measure.JointUnsupported:              {"un", "all arrives, and the listener itself withholds Fast Open"},
	measure.JointInconclusive:             {"in", "not seen often enough, or spoilt by one of the two machines"},
	measure.JointPeerLost:                 {"pl", "one end vanished before it had reported"},
	measure.JointOffline:                  {"of", "plain connections fail as well"},
	measure.JointOptionStripped:           {"OS", "the SYN arrives without its option"},
	measure.JointCookieStripped:           {"CS", "the option loses its cookie, or does not come back"},
	measure.JointOptionMirrored:           {"OM", "an empty option comes back in place of the cookie"},
	measure.JointPayloadStripped:          {"PS", "the option arrives, the SYN's data does not"},
	measure.JointPayloadTruncated:         {"PT", "part of the SYN's data arrives"},
	measure.JointCookieRewritten:          {"CW", "another cookie arrives, or comes back"},
	measure.JointDataDropped:              {"DD", "a SYN with data is lost, its bare repetition is not"},
	measure.JointOptionDropped:            {"OD", "a segment with the option is lost, its bare repetition is not"},
	measure.JointProxied:                  {"PX", "the listener saw another SYN than was sent, or none"},
	measure.JointBlackholedAfterHandshake: {"BA", "after the handshake nothing gets through"},
	measure.JointBlackholedBefore:         {"BB", "a Fast Open SYN gets no answer at all, a plain one does"},
	measure.JointCookieRefused:            {"CR", "the client's address changes, so its cookie is refused"},
	measure.JointReset:                    {"RS", "a Fast Open SYN is answered by an error that is not the listener's"},
	measure.JointClientBlocked:            {"CB", "plain fails after Fast Open was tried"},
}

// codeOf is also for a verdict of a later version.
func codeOf(v measure.JointVerdict) code {
	if c, ok := codes[v]; ok {
		return c
	}
	return code{"??", "of a later version"}
}

func colors(v measure.JointVerdict) text.Colors {
	switch {
	case v == measure.JointSupported:
		return text.Colors{text.FgGreen}
	case v.Fault():
		return text.Colors{text.FgRed}
	case v == measure.JointUnsupported:
		return nil
	}
	return text.Colors{text.FgYellow}
}

// doubtMeanings say why a pair is inconclusive, by the name of the doubt.
var doubtMeanings = map[string]string{
	measure.DoubtLocal.String():    "the client's machine did not send what it should have",
	measure.DoubtListener.String(): "the listener's kernel lost SYNs or withheld Fast Open",
	measure.DoubtUnjoined.String(): "connections of the client did not arrive at the listener",
	measure.DoubtTooFew.String():   "something was seen, and not often enough",
	measure.DoubtDisagree.String(): "the attempts contradict each other",
	measure.DoubtRefused.String():  "nothing was sent: the client's policy forbids it, or there is no address",
}
