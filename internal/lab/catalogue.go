package lab

import "tfofleet/internal/measure"

var (
	web   = Server{App: HTTP, TFO: TFOOn, Key: KeyA}
	plain = Server{App: HTTP}
)

// Catalogue returns every path of the lab. Each is built from the real
// servers and the rules shown; its truth is what the standard plan must say.
func Catalogue() []Path {
	return []Path{
		{Name: "clean", About: "nothing in the way", Truth: is(measure.Supported), Port: 80, Servers: []Server{web}},
		{Name: "clean-loss", About: "2 % of all frames lost each way", Truth: is(measure.Supported, measure.Inconclusive),
			Note: "enough frames of one measurement may be lost to leave it open; a fault it must never become",
			Port: 80, Hosts: 1000, Servers: []Server{web}, Rules: []Rule{{On: Both, If: Chance(0.02), Do: Drop}}},
		{Name: "no-tfo", About: "the server has no TFO", Taxonomy: []string{"M4"}, Truth: is(measure.Unsupported), Port: 80, Servers: []Server{plain}},
		{Name: "option-dropped", About: "SYNs with the option are lost", Taxonomy: []string{"M1"}, Truth: is(measure.OptionDropped),
			Port: 80, Servers: []Server{web}, Rules: []Rule{{On: Forward, If: SYN.And(Option(AnyKind)), Do: Drop}}},
		{Name: "option-stripped", About: "the option is stripped towards the server", Taxonomy: []string{"M2"}, Truth: is(measure.Unsupported),
			Port: 80, Servers: []Server{web}, Rules: []Rule{{On: Forward, Do: Strip(AnyKind)}}},
		{Name: "cookie-stripped", About: "the option is stripped from SYN-ACKs", Taxonomy: []string{"M3"}, Truth: is(measure.Unsupported),
			Port: 80, Servers: []Server{web}, Rules: []Rule{{On: Return, Do: Strip(AnyKind)}}},
		{Name: "data-dropped", About: "SYNs with data are lost", Taxonomy: []string{"M5"}, Truth: is(measure.DataDropped),
			Port: 80, Servers: []Server{web}, Rules: []Rule{{On: Forward, If: SYN.And(Data), Do: Drop}}},
	}
}

func is(v ...measure.Verdict) []measure.Verdict { return v }
