package lab

import (
	"slices"
	"time"

	"tfofleet/internal/measure"
)

// Servers of the catalogue.
var (
	web       = Server{App: HTTP, TFO: TFOOn, Key: KeyA}
	webB      = Server{App: HTTP, TFO: TFOOn, Key: KeyB}
	webC      = Server{App: HTTP, TFO: TFOOn, Key: KeyC}
	webD      = Server{App: HTTP, TFO: TFOOn, Key: KeyD}
	plain     = Server{App: HTTP}
	closed    = Server{App: Closed}
	tfoSYN    = SYN.And(Option(AnyKind))
	cookieSYN = SYN.And(Cookie(AnyKind))
	dataSYN   = SYN.And(Data)
)

// Catalogue returns every path of the lab: what is healthy, then what a path
// or a server does to the option, the cookie, the data, the flow and the
// client, what answers for the server or differs by port and family, and at
// last what only a scripted peer does. Each is made of the
// servers and the rules shown; Truth is what the standard plan must find, in
// [measure.Verdict]'s words.
func Catalogue() []Path {
	return slices.Concat(healthy(), withoutTFO(), optionFaults(), cookieFaults(), dataFaults(), flowFaults(), proxied(), divided(), unreachable(), scripted())
}

func healthy() []Path {
	return []Path{
		{Name: "clean", About: "nothing in the way", Truth: is(measure.Supported), Port: 80, Hosts: 1000, Servers: one(web)},
		{
			Name: "clean-loss", About: "2 % of all frames are lost each way",
			Truth: is(measure.Supported, measure.Inconclusive),
			Note:  "so many frames of one measurement may be lost that it stays open; a fault it must never become",
			Port:  80, Hosts: 1000, Servers: one(web),
			Rules: []Rule{{On: Both, If: Chance(0.02), Do: Drop}},
		},
		{
			Name: "slow", About: "200 ms there and back", Truth: is(measure.Supported), Port: 80, Servers: one(web),
			Rules: []Rule{{On: Both, Do: Delay(100*time.Millisecond, 0)}},
		},
		{
			Name: "jitter", About: "10 to 30 ms there and back, another time for each frame", Truth: is(measure.Supported), Port: 80, Servers: one(web),
			Rules: []Rule{{On: Both, Do: Delay(5*time.Millisecond, 10*time.Millisecond)}},
		},
		{Name: "tls", About: "a TLS server", Truth: is(measure.Supported), Port: 443, Servers: one(Server{App: TLS, TFO: TFOOn, Key: KeyA})},
		{Name: "dns", About: "a DNS server", Truth: is(measure.Supported), Port: 53, Servers: one(Server{App: DNS, TFO: TFOOn, Key: KeyA})},
		{
			Name: "silent", About: "a server that takes everything and says nothing", Truth: is(measure.Supported),
			Note: "it says nothing to plain connections either, so its silence is no black hole",
			Port: 80, Servers: one(Server{App: Silent, TFO: TFOOn, Key: KeyA}),
		},
		{
			Name: "hangup", About: "a server that closes without a byte", Truth: is(measure.Supported),
			Note: "it does the same to plain connections",
			Port: 80, Servers: one(Server{App: Hangup, TFO: TFOOn, Key: KeyA}),
		},
		{
			Name: "reissue", About: "cookies are taken and replaced: two servers, each with the other's key as backup", Taxonomy: []string{"M11"},
			Truth: is(measure.Supported), Port: 80,
			Servers: []Server{{App: HTTP, TFO: TFOOn, Key: KeyA, Backup: KeyB}, {App: HTTP, TFO: TFOOn, Key: KeyB, Backup: KeyA}},
			Rules:   []Rule{{On: Forward, Do: Spread}},
		},
		{
			Name: "exp-only", About: "the server knows kind 254 only", Taxonomy: []string{"M21"}, Truth: is(measure.Supported),
			Note: "a server that ignores kind 34 and a path that takes it away look alike from one end",
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, Do: Strip(Kind34)}},
		},
		{
			Name: "34-blanked", About: "kind 34 is replaced by NOPs both ways, 254 passes", Taxonomy: []string{"M2", "M3"}, Truth: is(measure.Supported),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Both, Do: Blank(Kind34)}},
		},
		{
			Name: "34-to-254", About: "kind 34 becomes 254 on the way there, and again 34 on the way back", Truth: is(measure.Supported),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, Do: SetKind(Kind34, Kind254)}, {On: Return, Do: SetKind(Kind254, Kind34)}},
		},
		{
			Name: "big-data-dropped", About: "SYNs with more than 1000 bytes of data are lost", Taxonomy: []string{"M5"}, Truth: is(measure.Supported), Thorough: is(measure.DataDropped),
			Note: "the standard plan never sends so much in a SYN",
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: SYN.And(DataOver(1000)), Do: Drop}},
		},
	}
}

func withoutTFO() []Path {
	return []Path{
		{Name: "no-tfo", About: "the server has no TFO", Taxonomy: []string{"M4"}, Truth: is(measure.Unsupported), Port: 80, Servers: one(plain)},
		{Name: "no-tfo-tls", About: "the TLS server has no TFO", Taxonomy: []string{"M4"}, Truth: is(measure.Unsupported), Port: 443, Servers: one(Server{App: TLS})},
		{
			Name: "no-tfo-loss", About: "the server has no TFO, and 2 % of all frames are lost each way", Taxonomy: []string{"M4"},
			Truth: is(measure.Unsupported, measure.Inconclusive), Note: "as clean-loss",
			Port: 80, Hosts: 1000, Servers: one(plain),
			Rules: []Rule{{On: Both, If: Chance(0.02), Do: Drop}},
		},
		{
			Name: "cookieless", About: "the server takes data without a cookie and never gives one", Taxonomy: []string{"M22"}, Truth: is(measure.Unsupported),
			Note: "only a SYN with data and without a cookie would show it; the standard plan sends none",
			Port: 80, Servers: one(Server{App: HTTP, TFO: TFONoCookie, Key: KeyA}),
		},
		{
			Name: "option-stripped", About: "the option is taken out of SYNs", Taxonomy: []string{"M2"}, Truth: is(measure.Unsupported),
			Note: "from one end like a server without TFO",
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, Do: Strip(AnyKind)}},
		},
		{
			Name: "cookie-stripped", About: "the option is taken out of SYN-ACKs", Taxonomy: []string{"M3"}, Truth: is(measure.Unsupported),
			Note: "from one end like a server without TFO",
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Return, Do: Strip(AnyKind)}},
		},
		{
			Name: "mirrored", About: "a server without TFO sends the option back empty", Taxonomy: []string{"M19"}, Truth: is(measure.Unsupported),
			Port: 80, Servers: one(plain),
			Rules: []Rule{{On: Return, If: SYNACK, Do: Mirror(true)}},
		},
		{
			Name: "mirrored-whole", About: "a server without TFO sends the option back as it came", Taxonomy: []string{"M19"}, Truth: is(measure.Unsupported),
			Port: 80, Servers: one(plain),
			Rules: []Rule{{On: Return, If: SYNACK, Do: Mirror(false)}},
		},
		{
			Name: "emptied-back", About: "the cookie is taken out of SYN-ACKs, the option stays", Taxonomy: []string{"M3", "M19"}, Truth: is(measure.Unsupported),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Return, Do: Empty(AnyKind)}},
		},
		{
			Name: "cookie-odd", About: "cookies are cut to 7 bytes in SYN-ACKs", Taxonomy: []string{"M20"}, Truth: is(measure.Unsupported),
			Note: "the kernel takes no cookie of odd length (tcp_parse_fastopen_option); only the wire shows that there was one",
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Return, Do: ResizeCookie(7)}},
		},
	}
}

func optionFaults() []Path {
	return []Path{
		{
			Name: "option-dropped", About: "SYNs with the option are lost", Taxonomy: []string{"M1"}, Truth: is(measure.OptionDropped),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: tfoSYN, Do: Drop}},
		},
		{
			Name: "34-dropped", About: "SYNs with kind 34 are lost, 254 would pass", Taxonomy: []string{"M1"}, Truth: is(measure.OptionDropped),
			Note: "after a timeout the kernel does not try 254",
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: SYN.And(Option(Kind34)), Do: Drop}},
		},
		{
			Name: "option-reset", About: "SYNs with the option are answered by RST", Taxonomy: []string{"M13"}, Truth: is(measure.Reset),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: tfoSYN, Do: Refuse(RST)}},
		},
		{
			Name: "option-icmp", About: "SYNs with the option are answered by ICMP host unreachable", Taxonomy: []string{"M14"}, Truth: is(measure.Reset),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: tfoSYN, Do: Refuse(HostUnreachable)}},
		},
	}
}

func cookieFaults() []Path {
	return []Path{
		{
			Name: "farm", About: "four servers with four keys, flows in turn", Taxonomy: []string{"M10"}, Truth: is(measure.CookieUnstable),
			Port: 80, Servers: []Server{web, webB, webC, webD},
			Rules: []Rule{{On: Forward, Do: Spread}},
		},
		{
			Name: "rotating-key", About: "the server takes another key after every connection", Taxonomy: []string{"M9"}, Truth: is(measure.CookieUnstable),
			Port: 80, Servers: one(Server{App: HTTP, TFO: TFORotate, Key: KeyA}),
		},
		{
			Name: "cgn", About: "the client's public address changes with every flow", Taxonomy: []string{"M9"}, Truth: is(measure.CookieUnstable),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, Do: Masquerade}},
		},
		{
			Name: "cookie-random", About: "cookies are replaced by random bytes in SYN-ACKs", Taxonomy: []string{"M20"}, Truth: is(measure.CookieUnstable),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Return, Do: RandomCookie}},
		},
		{
			Name: "cookie-flipped", About: "cookies are rewritten the same way each time in SYN-ACKs", Taxonomy: []string{"M20"}, Truth: is(measure.CookieOnly),
			Note: "the server refuses it and sends the good one, which is rewritten again: to the client the cookie never changes",
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Return, Do: FlipCookie}},
		},
		{
			Name: "cookie-flipped-there", About: "cookies are rewritten in SYNs", Taxonomy: []string{"M20"}, Truth: is(measure.CookieOnly),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, Do: FlipCookie}},
		},
		{
			Name: "cookie-short", About: "cookies are cut to 6 bytes in SYN-ACKs", Taxonomy: []string{"M20"}, Truth: is(measure.CookieOnly),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Return, Do: ResizeCookie(6)}},
		},
		{
			Name: "cookie-long", About: "cookies are filled up to 16 bytes in SYN-ACKs", Taxonomy: []string{"M20"}, Truth: is(measure.CookieOnly),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Return, Do: ResizeCookie(16)}},
		},
		{
			Name: "cookie-emptied", About: "the cookie is taken out of SYNs, the option stays", Taxonomy: []string{"M7"}, Truth: is(measure.CookieOnly),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, Do: Empty(AnyKind)}},
		},
	}
}

func dataFaults() []Path {
	return []Path{
		{
			Name: "data-dropped", About: "SYNs with data are lost", Taxonomy: []string{"M5"}, Truth: is(measure.DataDropped),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: dataSYN, Do: Drop}},
		},
		{
			Name: "cookie-dropped", About: "SYNs with a cookie are lost, cookie requests pass", Taxonomy: []string{"M5"}, Truth: is(measure.DataDropped),
			Note: "the kernel sends a cookie only with data",
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: cookieSYN, Do: Drop}},
		},
		{
			Name: "data-over-40-dropped", About: "SYNs with more than 40 bytes of data are lost", Taxonomy: []string{"M5"}, Truth: is(measure.DataDropped),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: SYN.And(DataOver(40)), Do: Drop}},
		},
		{
			Name: "data-stripped", About: "the data is taken out of SYNs, the cookie stays", Taxonomy: []string{"M6"}, Truth: is(measure.CookieOnly),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: SYN, Do: StripData}},
		},
		{
			Name: "data-option-stripped", About: "the option is taken out of SYNs with data, the data stays", Taxonomy: []string{"M7"}, Truth: is(measure.CookieOnly),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: dataSYN, Do: Strip(AnyKind)}},
		},
		{
			Name: "data-and-option-stripped", About: "option and data are taken out of SYNs with data", Taxonomy: []string{"M6", "M7"}, Truth: is(measure.CookieOnly),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: dataSYN, Do: Strip(AnyKind)}, {On: Forward, If: dataSYN, Do: StripData}},
		},
		{
			Name: "data-ignored", About: "a farm where SYNs with data reach a server without TFO", Taxonomy: []string{"M12"}, Truth: is(measure.CookieOnly),
			Port: 80, Servers: []Server{web, plain},
			Rules: []Rule{{On: Forward, If: dataSYN, Do: To(1)}},
		},
		{
			Name: "exp-data-ignored", About: "kind 254 only, and SYNs with data reach a server without TFO", Taxonomy: []string{"M12", "M21"}, Truth: is(measure.CookieOnly),
			Port: 80, Servers: []Server{web, plain},
			Rules: []Rule{{On: Forward, Do: Strip(Kind34)}, {On: Forward, If: dataSYN, Do: To(1)}},
		},
		{
			Name: "data-every-other", About: "a farm where every other SYN with data reaches a server without TFO", Truth: is(measure.Inconclusive),
			Note: "the tries disagree, and nothing was lost",
			Port: 80, Servers: []Server{web, plain},
			Rules: []Rule{{On: Forward, If: dataSYN.And(Alternate(Mark1)), Do: To(1)}},
		},
		{
			Name: "data-truncated", About: "the data of SYNs is cut to 20 bytes", Taxonomy: []string{"M8"}, Truth: is(measure.DataTruncated),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: SYN, Do: Truncate(20)}},
		},
		{
			Name: "data-reset", About: "SYNs with data are answered by RST", Taxonomy: []string{"M13"}, Truth: is(measure.Reset),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: dataSYN, Do: Refuse(RST)}},
		},
		{
			Name: "data-icmp", About: "SYNs with data are answered by ICMP administratively prohibited", Taxonomy: []string{"M14"}, Truth: is(measure.Reset),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: dataSYN, Do: Refuse(AdminProhibited)}},
		},
		{
			Name: "data-too-big", About: "SYNs with data are answered by ICMP packet too big", Taxonomy: []string{"M14"}, Truth: is(measure.DataDropped),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: dataSYN, Do: Refuse(TooBig)}},
		},
	}
}

func flowFaults() []Path {
	const tfo, dead = Mark1, Mark2
	return []Path{
		{
			Name: "flow-dead", About: "a flow whose SYN had data is dead both ways", Taxonomy: []string{"M15"}, Truth: is(measure.FlowBlackholed),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: dataSYN, Do: SetMark(dead)}, {On: Both, If: Marked(dead), Do: Drop}},
		},
		{
			Name: "flow-dead-option", About: "a flow whose SYN had the option is dead both ways", Taxonomy: []string{"M15"}, Truth: is(measure.FlowBlackholed),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: tfoSYN, Do: SetMark(dead)}, {On: Both, If: Marked(dead), Do: Drop}},
		},
		{
			Name: "answer-lost", About: "after a SYN with data nothing but the SYN-ACK comes back", Taxonomy: []string{"M16"}, Truth: is(measure.BlackholedAfterHandshake),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: dataSYN, Do: SetMark(tfo)}, {On: Return, If: Marked(tfo).And(Not(SYNACK)), Do: Drop}},
		},
		{
			Name: "dead-after-handshake", About: "after a SYN with data and its SYN-ACK the flow is dead both ways", Taxonomy: []string{"M17"}, Truth: is(measure.BlackholedAfterHandshake),
			Port: 80, Servers: one(web),
			Rules: []Rule{
				{On: Both, If: Marked(dead), Do: Drop},
				{On: Forward, If: dataSYN, Do: SetMark(tfo)},
				{On: Return, If: SYNACK.And(Marked(tfo)), Do: SetMark(dead)},
			},
		},
		{
			Name: "client-blocked", About: "a client that sent the option gets nothing through for ten minutes", Taxonomy: []string{"M18"}, Truth: is(measure.ClientBlocked),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: ClientMarked, Do: Drop}, {On: Forward, If: tfoSYN, Do: MarkClient(10 * time.Minute)}},
		},
		{
			Name: "client-blocked-data", About: "a client that sent data in a SYN gets no new flow for ten minutes", Taxonomy: []string{"M18"}, Truth: is(measure.ClientBlocked),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: SYN.And(ClientMarked), Do: Drop}, {On: Forward, If: dataSYN, Do: MarkClient(10 * time.Minute)}},
		},
		{
			Name: "over-ack", About: "the SYN-ACK to a SYN with data acknowledges 100 bytes too many", Taxonomy: []string{"M23"}, Truth: is(measure.FlowBlackholed),
			Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, If: dataSYN, Do: SetMark(tfo)}, {On: Return, If: SYNACK.And(Marked(tfo)), Do: AddAck(100)}},
		},
	}
}

func proxied() []Path {
	return []Path{
		{
			Name: "proxy", About: "a proxy with Fast Open answers for a server without it", Taxonomy: []string{"M24"}, Truth: is(measure.Supported),
			Note: "the client ends at the proxy; only the server can tell that another SYN reached it",
			Port: 80, Servers: one(plain), Proxy: &Proxy{TFO: TFOOn, Key: KeyC},
		},
		{
			Name: "proxy-no-tfo", About: "a proxy without Fast Open answers for a server with it", Taxonomy: []string{"M24"}, Truth: is(measure.Unsupported),
			Note: "from one end like a server without TFO",
			Port: 80, Servers: one(web), Proxy: &Proxy{},
		},
	}
}

// divided are the addresses whose ports differ, and the name whose families do.
// The kernel's cookie cache has no port (net/ipv4/tcp_metrics.c): what it
// learned on the first port is there when the others are asked.
func divided() []Path {
	return []Path{
		{
			Name: "ports-80", About: "port 80 of an address has TFO", Taxonomy: []string{"M25"}, Truth: is(measure.Supported),
			At: "ports", Port: 80, Servers: one(web),
		},
		{
			Name: "ports-8080", About: "port 8080 of the same address has none", Taxonomy: []string{"M25"}, Truth: is(measure.Unsupported, measure.Inconclusive),
			Note: "the cookie of another port is in the way of a client that may not delete it: it cannot ask this one",
			At:   "ports", Port: 8080, Servers: one(plain),
		},
		{
			Name: "ports-443", About: "port 443 of the same address has TFO with another key", Taxonomy: []string{"M25"}, Truth: is(measure.Supported),
			At: "ports", Port: 443, Servers: one(Server{App: TLS, TFO: TFOOn, Key: KeyB}),
		},
		{
			Name: "dual-v4", About: "a name has TFO at its IPv4 address", Taxonomy: []string{"M25"}, Truth: is(measure.Supported),
			At: "dual", Port: 80, Family: V4, Servers: one(web),
		},
		{
			Name: "dual-v6", About: "the same name has none at its IPv6 address", Taxonomy: []string{"M25"}, Truth: is(measure.Unsupported),
			At: "dual", Port: 80, Family: V6, Servers: one(plain),
		},
	}
}

func unreachable() []Path {
	return []Path{
		{Name: "refused", About: "nothing listens", Truth: is(measure.Offline), Port: 80, Servers: one(closed)},
		{
			Name: "unreachable", About: "the router says host unreachable", Truth: is(measure.Offline), Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, Do: Refuse(HostUnreachable)}},
		},
		{
			Name: "dead", About: "nothing answers", Truth: is(measure.Offline), Port: 80, Servers: one(web),
			Rules: []Rule{{On: Forward, Do: Drop}},
		},
	}
}

func one(s Server) []Server { return []Server{s} }

func is(v ...measure.Verdict) []measure.Verdict { return v }
