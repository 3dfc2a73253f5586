package measure

import (
	"encoding/binary"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

func genAddr() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		octets := func(n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "octets") }
		switch rapid.IntRange(0, 4).Draw(t, "form") {
		case 0:
			return netip.Addr{}
		case 1:
			return netip.AddrFrom4([4]byte(octets(4)))
		case 2: // v4-mapped stays v4-mapped
			return netip.AddrFrom16(netip.AddrFrom4([4]byte(octets(4))).As16())
		case 3:
			return netip.MustParseAddr("fe80::1").WithZone(rapid.StringMatching(`[a-z0-9.]{1,15}`).Draw(t, "zone"))
		}
		return netip.AddrFrom16([16]byte(octets(16)))
	})
}

func genTime() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		ns := rapid.Int64().Draw(t, "ns")
		if ns == 0 {
			return time.Time{}
		}
		return time.Unix(0, ns).UTC()
	})
}

func genBytes() *rapid.Generator[[]byte] {
	return rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 300), some)
}

func genCount() *rapid.Generator[int] { return rapid.IntRange(math.MinInt32, math.MaxInt32) }

func genCookie() *rapid.Generator[tfo.Cookie] {
	return rapid.Custom(func(t *rapid.T) tfo.Cookie {
		return tfo.Cookie{State: tfo.CookieState(rapid.Byte().Draw(t, "state")), Bytes: genBytes().Draw(t, "bytes")}
	})
}

func genEvidence() *rapid.Generator[tfo.Evidence] {
	return rapid.Custom(func(t *rapid.T) tfo.Evidence {
		return tfo.Evidence{
			Kind:            tfo.Kind(rapid.Byte().Draw(t, "kind")),
			Start:           genTime().Draw(t, "start"),
			Local:           netip.AddrPortFrom(genAddr().Draw(t, "local"), rapid.Uint16().Draw(t, "port")),
			Remote:          netip.AddrPortFrom(genAddr().Draw(t, "remote"), rapid.Uint16().Draw(t, "port")),
			OptionKind:      rapid.Byte().Draw(t, "option"),
			Offered:         genCount().Draw(t, "offered"),
			SynBytes:        genCount().Draw(t, "syn bytes"),
			SynAcked:        genCount().Draw(t, "syn acked"),
			End:             tfo.End(rapid.Byte().Draw(t, "end")),
			Errno:           rapid.String().Draw(t, "errno"),
			ConnectNS:       rapid.Int64().Draw(t, "connect"),
			FirstByteNS:     rapid.Int64().Draw(t, "first byte"),
			TotalNS:         rapid.Int64().Draw(t, "total"),
			SynRetransmits:  genCount().Draw(t, "syn retransmits"),
			DataRetransmits: genCount().Draw(t, "data retransmits"),
			ClientFail:      rapid.Byte().Draw(t, "fail"),
			TCPIOptions:     rapid.Byte().Draw(t, "options"),
			InfoHandshake:   genBytes().Draw(t, "info"),
			InfoFinal:       genBytes().Draw(t, "info"),
			CookieCleared:   tfo.Tri(rapid.Byte().Draw(t, "cleared")),
			CookieBefore:    genCookie().Draw(t, "before"),
			CookieAfter:     genCookie().Draw(t, "after"),
			ResponseBytes:   genCount().Draw(t, "response"),
			ResponseHash:    rapid.Uint64().Draw(t, "hash"),
			WireAbsent:      rapid.String().Draw(t, "wire"),
			Wire:            genWire().Draw(t, "seen"),
		}
	})
}

// genWire draws wire facts, or none.
func genWire() *rapid.Generator[*tfo.Wire] {
	return rapid.Custom(func(t *rapid.T) *tfo.Wire {
		if rapid.Bool().Draw(t, "absent") {
			return nil
		}
		return &tfo.Wire{
			Syns:            genCount().Draw(t, "syns"),
			Syn:             genSegment().Draw(t, "syn"),
			RetransmitsBare: tfo.Tri(rapid.Byte().Draw(t, "bare")),
			SynAcks:         genCount().Draw(t, "syn-acks"),
			SynAck:          genSegment().Draw(t, "syn-ack"),
			Acked:           genCount().Draw(t, "acked"),
			AfterSyns:       genCount().Draw(t, "after"),
			OverAcked:       rapid.Bool().Draw(t, "over"),
			Resets:          genCount().Draw(t, "resets"),
			ResetTTL:        rapid.Byte().Draw(t, "ttl"),
			ResetHandshake:  rapid.Bool().Draw(t, "after handshake"),
			ICMPErrors:      genCount().Draw(t, "icmp"),
			ICMPType:        rapid.Byte().Draw(t, "type"),
			ICMPCode:        rapid.Byte().Draw(t, "code"),
			ICMPFrom:        genAddr().Draw(t, "from"),
			Incomplete:      rapid.Bool().Draw(t, "incomplete"),
		}
	})
}

// genSegment draws a segment with any options, over either family, or none.
func genSegment() *rapid.Generator[tfo.Segment] {
	return rapid.Custom(func(t *rapid.T) tfo.Segment {
		ip, payload := rapid.SampledFrom([]int{0, 20, 40}).Draw(t, "ip"), rapid.IntRange(0, 1400).Draw(t, "payload")
		if ip == 0 {
			return tfo.Segment{}
		}
		words := rapid.IntRange(5, 15).Draw(t, "length")
		raw := rapid.SliceOfN(rapid.Byte(), ip+words*4, ip+words*4).Draw(t, "headers")
		raw[ip+12] = byte(words)<<4 | raw[ip+12]&15
		if ip == 20 {
			raw[0], raw[9] = 0x45, 6
			raw[6], raw[7] = 0, 0
			binary.BigEndian.PutUint16(raw[2:], uint16(len(raw)+payload))
		} else {
			raw[0], raw[6] = 0x60, 6
			binary.BigEndian.PutUint16(raw[4:], uint16(words*4+payload))
		}
		s, err := tfo.ParseSegment(raw)
		if err != nil || s.Payload != payload {
			t.Fatal(s, err)
		}
		return s
	})
}

func genMeasurement() *rapid.Generator[Measurement] {
	return rapid.Custom(func(t *rapid.T) Measurement {
		m := Measurement{
			Target: Target{
				Item: rapid.Uint64().Draw(t, "item"), Addr: genAddr().Draw(t, "addr"),
				Port: rapid.Uint16().Draw(t, "port"), Hostname: rapid.String().Draw(t, "hostname"),
			},
			Outcome:  Outcome(rapid.Byte().Draw(t, "outcome")),
			Verdict:  Verdict(rapid.Byte().Draw(t, "verdict")),
			Cookie:   genBytes().Draw(t, "cookie"),
			Started:  genTime().Draw(t, "started"),
			Duration: time.Duration(rapid.Int64().Draw(t, "duration")),
		}
		for range rapid.IntRange(0, 3).Draw(t, "conditions") {
			m.Conditions = append(m.Conditions, Condition(rapid.String().Draw(t, "condition")))
		}
		for range rapid.IntRange(0, 3).Draw(t, "attempts") {
			m.Attempts = append(m.Attempts, genEvidence().Draw(t, "attempt"))
		}
		return m
	})
}

var exact = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var exactPort = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func TestWireLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.SliceOfN(genMeasurement(), 0, 3).Draw(t, "measurements")
		b, err := EncodeBatch(ms)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeBatch(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ms, got, exact, exactPort); diff != "" && len(ms)+len(got) > 0 {
			t.Fatalf("-sent +received\n%s", diff)
		}
	})
}

// A field that is added to the evidence and forgotten here would be lost in
// silence: the generators above know all of them.
func TestWireKnowsEveryField(t *testing.T) {
	for _, c := range []struct {
		of   any
		want int
		// Observed, the ninth of a measurement, is the controller's to say.
	}{{tfo.Evidence{}, 26}, {tfo.Wire{}, 17}, {Measurement{}, 9}, {Target{}, 4}, {tfo.Cookie{}, 2}} {
		if n := reflect.TypeOf(c.of).NumField(); n != c.want {
			t.Errorf("%T has %d fields, the wire knows %d", c.of, n, c.want)
		}
	}
}

func TestWireRefuses(t *testing.T) {
	for want, w := range map[string]*pb.Measurement{
		"outcome 300 is out of range":                {Outcome: 300},
		"verdict -1 is out of range":                 {Verdict: -1},
		"port 65536 is out of range":                 {Target: &pb.Target{Port: 65536}},
		"option kind 256 is out of range":            {Attempts: []*pb.Attempt{{OptionKind: 256}}},
		"attempt end 1000 is out of range":           {Attempts: []*pb.Attempt{{End: 1000}}},
		"local port 70000 is out of range":           {Attempts: []*pb.Attempt{{LocalPort: 70000}}},
		"cookie cleared 256 is out of range":         {Attempts: []*pb.Attempt{{CookieCleared: 256}}},
		"tcpi options 65536 is out of range":         {Attempts: []*pb.Attempt{{TcpiOptions: 65536}}},
		"reset TTL 256 is out of range":              {Attempts: []*pb.Attempt{{Wire: &pb.Wire{ResetTtl: 256}}}},
		"SYN-ACK: 20 bytes that are not the headers": {Attempts: []*pb.Attempt{{Wire: &pb.Wire{SynAck: make([]byte, 20)}}}},
		"ICMP source of 1 bytes: ":                   {Attempts: []*pb.Attempt{{Wire: &pb.Wire{IcmpFrom: []byte{1}}}}},
		"attempt kind -7 is out of range":            {Attempts: []*pb.Attempt{{Kind: -7}}},
		"remote address of 3 bytes: ":                {Attempts: []*pb.Attempt{{RemoteAddress: []byte{1, 2, 3}}}},
	} {
		_, err := FromWire(w)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// FuzzDecodeBatch: whatever a probe sends is a batch or an error, and a batch
// survives the way back.
func FuzzDecodeBatch(f *testing.F) {
	for _, ms := range [][]Measurement{
		nil,
		{{Target: Target{Item: 1, Addr: netip.MustParseAddr("192.0.2.1"), Port: 443, Hostname: "example.org"}, Outcome: OutcomeMeasured, Verdict: Offline, Conditions: []Condition{CondOffline}}},
		{{Attempts: []tfo.Evidence{{Kind: tfo.KindData, InfoFinal: make([]byte, 280), SynAcked: tfo.NotKnown}}}},
	} {
		b, err := EncodeBatch(ms)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	raw, err := proto.Marshal(&pb.MeasurementBatch{Measurements: []*pb.Measurement{{Outcome: 4711}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(compressor().EncodeAll(raw, nil))
	f.Add(compressor().EncodeAll(make([]byte, 2*maxBatch), nil)) // unfolds to too much
	f.Fuzz(func(t *testing.T, b []byte) {
		ms, err := DecodeBatch(b)
		if err != nil {
			return
		}
		again, err := EncodeBatch(ms)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeBatch(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ms, got, exact, exactPort); diff != "" {
			t.Fatalf("-before +after\n%s", diff)
		}
	})
}
