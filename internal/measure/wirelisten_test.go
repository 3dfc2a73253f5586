package measure

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

func genArrival() *rapid.Generator[*tfo.Arrival] {
	return rapid.Custom(func(t *rapid.T) *tfo.Arrival {
		a := &tfo.Arrival{
			Accepted:      genTime().Draw(t, "accepted"),
			Peer:          netip.AddrPortFrom(genAddr().Draw(t, "peer"), rapid.Uint16().Draw(t, "port")),
			Local:         netip.AddrPortFrom(genAddr().Draw(t, "local"), rapid.Uint16().Draw(t, "port")),
			Claim:         tfo.CookieClaim(rapid.Byte().Draw(t, "claim")),
			Gives:         genBytes().Draw(t, "gives"),
			Child:         tfo.Tri(rapid.Byte().Draw(t, "child")),
			SynBytes:      genCount().Draw(t, "syn bytes"),
			SynTaken:      genCount().Draw(t, "syn taken"),
			AtAccept:      genCount().Draw(t, "at accept"),
			Request:       genBytes().Draw(t, "request"),
			RequestKind:   tfo.RequestKind(rapid.Byte().Draw(t, "request kind")),
			RequestBytes:  genCount().Draw(t, "request bytes"),
			ResponseBytes: genCount().Draw(t, "response"),
			ResponseAcked: genCount().Draw(t, "response acked"),
			AnsweredEarly: tfo.Tri(rapid.Byte().Draw(t, "early")),
			HandshakeNS:   rapid.Int64().Draw(t, "handshake"),
			RequestNS:     rapid.Int64().Draw(t, "request ns"),
			TotalNS:       rapid.Int64().Draw(t, "total"),
			End:           tfo.ArrivalEnd(rapid.Byte().Draw(t, "end")),
			Errno:         rapid.String().Draw(t, "errno"),
			InfoAccept:    genBytes().Draw(t, "info"),
			InfoFinal:     genBytes().Draw(t, "info"),
		}
		if raw := genSegment().Draw(t, "syn").Raw; raw != nil {
			flags := 20 + 13
			if raw[0]>>4 == 6 {
				flags = 40 + 13
			}
			raw[flags] |= 2
			syn, err := tfo.DecodeSYN(raw)
			if err != nil {
				t.Fatal(err)
			}
			a.SYN = syn
		}
		return a
	})
}

func TestArrivalWireLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := genArrival().Draw(t, "arrival")
		b, err := proto.Marshal(ArrivalToWire(a))
		if err != nil {
			t.Fatal(err)
		}
		var w pb.Arrival
		if err := proto.Unmarshal(b, &w); err != nil {
			t.Fatal(err)
		}
		got, err := ArrivalFromWire(&w)
		if diff := cmp.Diff(a, got, exact, exactPort); diff != "" || err != nil {
			t.Fatalf("%v, -sent +received\n%s", err, diff)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a := tfo.Alarm{
			Kind: tfo.AlarmKind(rapid.Byte().Draw(t, "kind")), Time: genTime().Draw(t, "time"), Queue: genCount().Draw(t, "queue"),
			InUse: genCount().Draw(t, "in use"), Count: rapid.Int64().Draw(t, "count"), Errno: rapid.String().Draw(t, "errno"),
		}
		if got, err := AlarmFromWire(AlarmToWire(a)); got != a || err != nil {
			t.Fatalf("%+v became %+v, %v", a, got, err)
		}
	})
}

// As in TestWireKnowsEveryField: what is added must be added here too.
func TestArrivalWireKnowsEveryField(t *testing.T) {
	for _, c := range []struct {
		of   any
		want int
	}{{tfo.Arrival{}, 23}, {tfo.Alarm{}, 6}, {ListenSpec{}, 5}} {
		if n := reflect.TypeOf(c.of).NumField(); n != c.want {
			t.Errorf("%T has %d fields, the wire knows %d", c.of, n, c.want)
		}
	}
	// The numbers of both sides are the same ones.
	for _, n := range []struct{ wire, here int }{
		{int(pb.CookieClaim_COOKIE_CLAIM_UNJUDGED), int(tfo.ClaimUnjudged)},
		{int(pb.ArrivalEnd_ARRIVAL_END_CUT), int(tfo.ArrivalCut)},
		{int(pb.RequestKind_REQUEST_KIND_OTHER), int(tfo.RequestOther)},
		{int(pb.ListenerAlarmKind_LISTENER_ALARM_KIND_SHORTAGE), int(tfo.AlarmShortage)},
		{int(pb.NearPath_NEAR_PATH_CLEAN), int(NearPathClean)},
		{int(pb.NearPath_NEAR_PATH_STRIPS_OPTION), int(NearPathStripsOption)},
		{int(pb.NearPath_NEAR_PATH_DROPS_SYN_DATA), int(NearPathDropsSynData)},
		{int(pb.NearPath_NEAR_PATH_TERMINATES_TCP), int(NearPathTerminatesTCP)},
	} {
		if n.wire != n.here {
			t.Errorf("%d on the wire, %d here", n.wire, n.here)
		}
	}
}

func TestArrivalWireRefuses(t *testing.T) {
	for want, w := range map[string]*pb.Arrival{
		"claim 300 is out of range":      {Claim: 300},
		"arrival end -1 is out of range": {End: -1},
		"peer port 65536 is out of":      {PeerPort: 65536},
		"local address of 3 bytes: ":     {LocalAddress: []byte{1, 2, 3}},
		"SYN of 4 bytes: not the head":   {Syn: []byte("none")},
		"request kind 256 is out of":     {RequestKind: 256},
	} {
		if _, err := ArrivalFromWire(w); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if _, err := AlarmFromWire(&pb.ListenerAlarm{Kind: 256}); err == nil {
		t.Error("an alarm of a kind that cannot be")
	}
	for want, w := range map[string]*pb.ListenSpec{
		"port 65536 is out of range":  {Port: 65536},
		"allow: netip.ParsePrefix":    {Allow: []string{"192.0.2.1"}},
		"lifetime is no span of time": {Lifetime: &durationpb.Duration{Nanos: -5}},
		"patience is no span of time": {Patience: &durationpb.Duration{Seconds: 1 << 60}},
	} {
		if _, err := ListenSpecFromWire(w); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestListenSpecWire(t *testing.T) {
	for _, s := range []ListenSpec{
		{},
		{Port: 8080, Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}, Lifetime: time.Hour, Patience: time.Second, Queue: 100},
	} {
		if got, err := ListenSpecFromWire(ListenSpecToWire(s)); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%+v became %+v, %v", s, got, err)
		}
	}
	if got, err := ListenSpecFromWire(&pb.ListenSpec{}); err != nil || !reflect.DeepEqual(got, ListenSpec{}) {
		t.Errorf("nothing is %+v, %v", got, err)
	}
}

// FuzzArrivalFromWire: whatever a probe sends is an arrival or an error, and an
// arrival survives the way back.
func FuzzArrivalFromWire(f *testing.F) {
	r := road{}
	for _, a := range r.ride(Standard).Arrivals {
		b, err := proto.Marshal(ArrivalToWire(a))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var w pb.Arrival
		if proto.Unmarshal(b, &w) != nil {
			return
		}
		a, err := ArrivalFromWire(&w)
		if err != nil {
			return
		}
		got, err := ArrivalFromWire(ArrivalToWire(a))
		if diff := cmp.Diff(a, got, exact, exactPort); diff != "" || err != nil {
			t.Fatalf("%v, -before +after\n%s", err, diff)
		}
	})
}
