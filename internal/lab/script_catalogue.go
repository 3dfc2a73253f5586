package lab

import (
	"fmt"
	"time"

	"tfofleet/internal/measure"
)

// scripted are the paths that lead to scripted peers: what no Linux listener
// does, but hosts and boxes of the real internet do.
func scripted() []Path {
	const asked = Mark1
	var (
		bareSYN = SYN.And(Not(Option(AnyKind))).And(Not(Data))
		ask34   = SYN.And(Option(Kind34))
		echo34  = dataSYN.And(Echo(Kind34, 8))
		echo254 = dataSYN.And(Echo(Kind254, 8))

		grant = line(ask34, SynAck{Options: []Opt{Grant(Kind34, 8)}})
		take  = line(echo34, SynAck{Ack: AckAll})
		plain = line(SYN, SynAck{})
	)
	paths := []Path{
		{
			Name: "peer-partial-ack", About: "the first 20 bytes of SYN data are acknowledged", Taxonomy: []string{"M8"}, Truth: is(measure.DataTruncated),
			Rules: Script(line(echo34, SynAck{Ack: AckFirst(20)}), grant, plain),
		},
		{
			Name: "peer-last-byte", About: "all SYN data but the last byte is acknowledged", Taxonomy: []string{"M8"}, Truth: is(measure.DataTruncated),
			Rules: Script(line(echo34, SynAck{Ack: AckAllBut(1)}), grant, plain),
		},
		{
			Name: "peer-over-ack", About: "the SYN-ACK to SYN data acknowledges 100 bytes too many, that to the bare SYN after it does not",
			Taxonomy: []string{"M23"}, Truth: is(measure.DataDropped),
			Note:  "the client resets and sends its SYN again without data; its sockets show a SYN that had to be sent twice",
			Rules: Script(line(echo34, SynAck{Ack: AckBeyond(100)}), grant, plain),
		},
		{
			Name: "peer-syn-only", About: "a good cookie is answered by the same cookie, and the data never acknowledged", Taxonomy: []string{"M12"},
			Truth: is(measure.CookieOnly),
			Rules: Script(grant, plain),
		},
		{
			Name: "peer-synack-data", About: "the response to SYN data comes in the SYN-ACK", Truth: is(measure.Supported),
			Rules: Script(line(echo34, SynAck{Ack: AckAll, Then: RespondInSynAck}), grant, plain),
		},
		{
			Name: "peer-synack-fin", About: "the response to SYN data, and FIN, come in the SYN-ACK", Truth: is(measure.Supported),
			Rules: Script(line(echo34, SynAck{Ack: AckAll, Then: RespondAllInSynAck}), grant, plain),
		},
		{
			Name: "peer-late-cookie", About: "no answer to a cookie request; the bare SYN after it is answered with the cookie", Truth: is(measure.Supported),
			Note: "the kernel takes a cookie from a SYN-ACK even after a timeout, for the timeout may have been too early",
			Rules: Script(take,
				Rule{On: Forward, If: ask34, Do: SetMark(asked)}, Rule{On: Forward, If: ask34, Do: Hear},
				line(bareSYN.And(Marked(asked)), SynAck{Options: []Opt{Grant(Kind34, 8)}}), plain),
		},
		{
			Name: "peer-late-ack", About: "no answer to SYN data; the SYN-ACK to the bare SYN after it acknowledges all of it", Truth: is(measure.Supported),
			Note: "the data was taken, only the SYN-ACK was late",
			Rules: Script(
				Rule{On: Forward, If: echo34, Do: SetMark(asked)}, Rule{On: Forward, If: echo34, Do: Hear},
				line(bareSYN.And(Marked(asked)), SynAck{Ack: AckAll}), grant, plain),
		},
		{
			Name: "peer-bare-again", About: "the SYN-ACK with the cookie is lost, that to the bare SYN after it has none", Taxonomy: []string{"M3"}, Truth: is(measure.OptionDropped),
			Note:  "to the client a lost SYN and a lost SYN-ACK are the same",
			Rules: append(Script(grant, plain), Rule{On: Return, If: SYNACK.And(Option(AnyKind)), Do: Drop}),
		},
		{
			Name: "peer-reset-request", About: "after a cookie request a reset follows on the heels of the SYN-ACK", Truth: is(measure.Reset),
			Rules: Script(line(ask34, SynAck{Options: []Opt{Grant(Kind34, 8)}, Then: ResetAtOnce}), plain),
		},
		{
			Name: "peer-reset-at-once", About: "SYN data is acknowledged, and a reset follows on the heels of the SYN-ACK", Truth: is(measure.Reset),
			Rules: Script(line(echo34, SynAck{Ack: AckAll, Then: ResetAtOnce}), grant, plain),
		},
		{
			Name: "peer-reset-after", About: "SYN data is acknowledged, and the client's ACK answered by a reset 200 ms later", Truth: is(measure.Reset),
			Rules: append(Script(Rule{On: Forward, If: echo34, Do: SetMark(asked)}, line(echo34, SynAck{Ack: AckAll, Then: ResetOnAck}), grant, plain),
				Rule{On: Return, If: Marked(asked).And(Not(SYNACK)), Do: Delay(200*time.Millisecond, 0)}),
		},
		{
			Name: "peer-late-partial", About: "no answer to SYN data; the SYN-ACK to the bare SYN after it acknowledges 20 bytes", Taxonomy: []string{"M8"}, Truth: is(measure.DataTruncated),
			Rules: Script(
				Rule{On: Forward, If: echo34, Do: SetMark(asked)}, Rule{On: Forward, If: echo34, Do: Hear},
				line(bareSYN.And(Marked(asked)), SynAck{Ack: AckFirst(20)}), grant, plain),
		},
		{
			Name: "peer-respond-reset", About: "SYN data is answered, and a reset follows on the heels of the response", Truth: is(measure.Supported),
			Rules: Script(line(echo34, SynAck{Ack: AckAll, Then: RespondAndReset}), grant, plain),
		},
		{
			Name: "peer-any-cookie", About: "SYN data is taken with any cookie whatever", Truth: is(measure.Supported),
			Note:  "only a forged cookie would show it; the standard plan sends none",
			Rules: Script(line(dataSYN.And(Cookie(AnyKind)), SynAck{Ack: AckAll}), grant, plain),
		},
		{
			Name: "peer-cookieless", About: "SYN data is taken without a cookie, and none is ever given", Taxonomy: []string{"M22"}, Truth: is(measure.Unsupported),
			Note:  "only a SYN with data and without a cookie would show it; the standard plan sends none",
			Rules: Script(line(SYN, SynAck{Ack: AckAll})),
		},
		{
			Name: "peer-unsolicited", About: "only those who did not ask are given a cookie", Truth: is(measure.Unsupported),
			Note:  "the kernel takes no cookie that it did not ask for",
			Rules: Script(line(bareSYN, SynAck{Options: []Opt{Grant(Kind34, 8)}}), plain),
		},
		{
			Name: "peer-empty", About: "the SYN-ACK has an option of kind 34 without a cookie", Taxonomy: []string{"M19"}, Truth: is(measure.Unsupported),
			Note:  "the kernel takes it for an answer and never asks with kind 254",
			Rules: Script(line(ask34, SynAck{Options: []Opt{Grant(Kind34, 0)}}), plain),
		},
		{
			Name: "peer-mirror", About: "every unknown option of the SYN comes back as it was", Taxonomy: []string{"M19"}, Truth: is(measure.Unsupported),
			Rules: Script(line(SYN, SynAck{Options: []Opt{MirrorUnknown}})),
		},
		{
			Name: "peer-both-kinds", About: "the SYN-ACK has a cookie of kind 34 and behind it one of kind 254; only the second is good", Truth: is(measure.Supported),
			Note:  "the kernel takes the last",
			Rules: Script(line(echo254, SynAck{Ack: AckAll}), line(ask34, SynAck{Options: []Opt{Grant(Kind34, 8), Grant(Kind254, 8)}}), plain),
		},
		{
			Name: "peer-both-kinds-34", About: "the SYN-ACK has a cookie of kind 254 and behind it one of kind 34; only the second is good", Truth: is(measure.Supported),
			Note:  "the kernel takes the last",
			Rules: Script(take, line(ask34, SynAck{Options: []Opt{Grant(Kind254, 8), Grant(Kind34, 8)}}), plain),
		},
		{
			Name: "peer-254-then-34", About: "only kind 254 is granted a cookie, and the first data with it one of kind 34", Taxonomy: []string{"M21"}, Truth: is(measure.Supported),
			Rules: Script(
				line(echo254.Or(echo34), SynAck{Ack: AckAll, Options: []Opt{Grant(Kind34, 8)}}),
				line(SYN.And(Option(Kind254)), SynAck{Options: []Opt{Grant(Kind254, 8)}}), plain),
		},
	}
	for _, n := range []int{4, 6, 10, 12, 14, 16} {
		p := cookieLength(n, plain, line(dataSYN.And(Echo(Kind34, n)), SynAck{Ack: AckAll}))
		p.Truth = is(measure.Supported)
		paths = append(paths, p)
	}
	for _, n := range []int{2, 5, 15, 18} {
		p := cookieLength(n, plain)
		p.Truth, p.Taxonomy = is(measure.Unsupported), []string{"M20"}
		p.Note = "the kernel takes cookies of even length from 4 to 16 bytes (tcp_parse_fastopen_option, net/ipv4/tcp_input.c)"
		paths = append(paths, p)
	}
	for i := range paths {
		paths[i].Port, paths[i].Servers, paths[i].Hosts = 80, one(closed), peerHosts
	}
	return paths
}

// peerHosts is the number of addresses per family of a scripted path.
const peerHosts = 50

// cookieLength is a peer whose cookies have n bytes.
func cookieLength(n int, plain Rule, lines ...Rule) Path {
	grant := line(SYN.And(Option(Kind34)), SynAck{Options: []Opt{Grant(Kind34, n)}})
	return Path{
		Name: fmt.Sprintf("peer-cookie-%d", n), About: fmt.Sprintf("cookies have %d bytes", n),
		Rules: Script(append(lines, grant, plain)...),
	}
}

// line is one line of a script.
func line(m Match, say SynAck) Rule { return Rule{On: Forward, If: m, Do: AnswerSYN(say)} }
