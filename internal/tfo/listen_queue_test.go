package tfo_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

var testKey = tfo.Key{'l', 'i', 's', 't', 'e', 'n'}

func loopback(l *listener) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.Addr().Port())
}

// The limit on pending TFO connections (RFC 7413, section 5.1): once it is
// reached the listener gives no cookie and takes no data, and to a client that
// looks like a host without Fast Open. Nothing but the counter and our alarm
// tells.
func TestFullQueueFallsBack(t *testing.T) {
	const queue = 4
	ns := newNetNS(t)
	peer := newRawPeer(t, ns)
	l := hear(t, tfo.ListenConfig{Addr: netip.MustParseAddrPort("0.0.0.0:0"), NetNS: ns, Keys: []tfo.Key{testKey}, Queue: queue})
	to, port := loopback(l), l.Addr().Port()
	if l.Queue() != queue {
		t.Fatalf("queue %d, want %d", l.Queue(), queue)
	}

	first := attempt(t, ns, to, tryRequest("hello"), tryData("hello"))
	if first[1].SynAcked != 5 {
		t.Fatalf("before: %d of 5 bytes acknowledged", first[1].SynAcked)
	}
	l.arrived(t, 2)
	before := readMIB(t, ns)

	// Fill the queue with connections whose last ACK never comes.
	var isn [queue]uint32
	for i := range queue {
		p := uint16(2000 + i)
		peer.send(port, peer.dataSYN(p, testKey, "pending"))
		sa := peer.expect(p, "SYN-ACK", synAck)
		if want := 1000*uint32(p) + 1 + 7; sa.ack != want {
			t.Fatalf("connection %d: acknowledged up to %d, want %d: no TFO child", i, sa.ack, want)
		}
		isn[i] = sa.seq
		// The application has the data and has answered, all before the ACK.
		peer.expect(p, "response", func(s segment) bool { return s.payload != "" })
	}
	l.wait(t, "alarm that the queue is nearly full", func() bool {
		return slices.ContainsFunc(l.alarms, func(a tfo.Alarm) bool {
			return a.Kind == tfo.AlarmQueueNear && a.InUse == 3 && a.Queue == queue
		})
	})

	// A client with a cookie: its data is not acknowledged, yet it is served.
	full := attempt(t, ns, to, tryData("hello"))[0]
	if full.SynBytes != 5 || full.SynAcked != 0 || full.End != tfo.EndResponse || full.ClientFail != tfo.FailDataNotAcked {
		t.Errorf("data to a full queue: %d sent in the SYN, %d acknowledged, client_fail %d, end %v", full.SynBytes, full.SynAcked, full.ClientFail, full.End)
	}
	if !full.CookieAfter.Equal(full.CookieBefore) {
		t.Error("a full queue gave a new cookie")
	}
	// A client without one, from an address of its own, gets none.
	other := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port)
	none := attempt(t, ns, other, tryRequest("hello"))[0]
	if none.CookieAfter.State != tfo.CookieNone || none.End != tfo.EndResponse {
		t.Errorf("request to a full queue: cookie %v, end %v", none.CookieAfter, none.End)
	}
	moved := readMIB(t, ns).Since(before)
	if moved[tfo.CountListenOverflow] != 2 {
		t.Errorf("TCPFastOpenListenOverflow moved by %d, want 2", moved[tfo.CountListenOverflow])
	}
	got := l.arrived(t, 4)[2:]
	if a := got[0]; a.Claim != tfo.ClaimValid || a.Child != tfo.No || a.SynBytes != 5 || a.SynTaken != 0 {
		t.Errorf("listener's view of refused data: claim %v, child %v, %d of %d bytes taken", a.Claim, a.Child, a.SynTaken, a.SynBytes)
	}
	if a := got[1]; a.Claim != tfo.ClaimRequest || a.Child != tfo.No {
		t.Errorf("listener's view of a refused request: claim %v, child %v", a.Claim, a.Child)
	}
	overflow := int64(0)
	l.wait(t, "alarm that the queue overflowed", func() bool {
		overflow = 0
		for _, a := range l.alarms {
			if a.Kind == tfo.AlarmQueueOverflow {
				overflow += a.Count
			}
		}
		return overflow == 2
	})

	// The last ACKs come, the queue empties, and all is well again.
	for i := range queue {
		p := uint16(2000 + i)
		peer.send(port, segment{port: p, flags: "A", seq: 1000*uint32(p) + 1 + 7, ack: isn[i] + 1 + uint32(len("tfofleet listener\n"))})
		fin := peer.expect(p, "FIN", func(s segment) bool { return s.flags == "AF" })
		peer.send(port, segment{port: p, flags: "A", seq: 1000*uint32(p) + 1 + 7, ack: fin.seq + uint32(len(fin.payload)) + 1})
	}
	for _, a := range l.arrived(t, 4+queue)[4:] {
		if a.AnsweredEarly != tfo.Yes || a.HandshakeNS <= 0 || a.End != tfo.ArrivalServed || a.Child != tfo.Yes {
			t.Errorf("pending connection: answered early %v, handshake after %d ns, end %v, child %v", a.AnsweredEarly, a.HandshakeNS, a.End, a.Child)
		}
	}
	after := attempt(t, ns, to, tryRequest("hello"), tryData("hello"))
	if after[1].SynAcked != 5 {
		t.Errorf("after: %d of 5 bytes acknowledged", after[1].SynAcked)
	}
}

// A TFO child that its peer resets keeps its place in the queue for 60 s: a
// prober's own raw SYNs can fill it.
func TestResetChildrenKeepTheirPlace(t *testing.T) {
	const queue = 4
	ns := newNetNS(t)
	peer := newRawPeer(t, ns)
	l := hear(t, tfo.ListenConfig{Addr: netip.MustParseAddrPort("0.0.0.0:0"), NetNS: ns, Keys: []tfo.Key{testKey}, Queue: queue})
	port := l.Addr().Port()
	before := readMIB(t, ns)
	for i := range queue {
		s := peer.dataSYN(uint16(2000+i), testKey, "reset")
		peer.send(port, s)
		sa := peer.expect(s.port, "response", func(s segment) bool { return s.payload != "" })
		peer.send(port, segment{port: s.port, flags: "R", seq: sa.ack})
	}
	for i, a := range l.arrived(t, queue) {
		if a.End != tfo.ArrivalBroken || a.Errno != "ECONNRESET" || a.Child != tfo.Yes || a.HandshakeNS != tfo.NotKnown || a.AnsweredEarly != tfo.Yes {
			t.Errorf("arrival %d: end %v (%s), child %v, handshake %d, answered early %v", i, a.End, a.Errno, a.Child, a.HandshakeNS, a.AnsweredEarly)
		}
	}
	l.wait(t, "alarm that the queue is nearly full", func() bool {
		return slices.ContainsFunc(l.alarms, func(a tfo.Alarm) bool { return a.Kind == tfo.AlarmQueueNear })
	})
	if ev := attempt(t, ns, loopback(l), tryRequest("hello"))[0]; ev.CookieAfter.State != tfo.CookieNone {
		t.Error("a cookie from a queue that is full")
	}
	if n := readMIB(t, ns).Since(before)[tfo.CountListenOverflow]; n != 1 {
		t.Errorf("TCPFastOpenListenOverflow moved by %d, want 1", n)
	}
}

// A SYN with data may come twice (RFC 7413, section 2.1), and then so does the
// data: the kernel remembers no SYN once its connection is gone.
func TestDuplicateSYNDeliversDataTwice(t *testing.T) {
	ns := newNetNS(t)
	peer := newRawPeer(t, ns)
	l := hear(t, tfo.ListenConfig{Addr: netip.MustParseAddrPort("0.0.0.0:0"), NetNS: ns, Keys: []tfo.Key{testKey}})
	port := l.Addr().Port()
	syn := peer.packet(port, peer.dataSYN(2000, testKey, "pay 100 to Bob"))

	answered := func(s segment) bool { return s.payload != "" }
	peer.inject(syn)
	sa := peer.expect(2000, "response", answered)
	// While the connection lives, the duplicate is its duplicate.
	peer.inject(syn)
	peer.send(port, segment{port: 2000, flags: "R", seq: sa.ack})
	if a := l.arrived(t, 1)[0]; string(a.Request) != "pay 100 to Bob" {
		t.Fatalf("request %q", a.Request)
	}
	// Once it is gone, the same bytes are a new connection.
	peer.inject(syn)
	again := peer.expect(2000, "second response", func(s segment) bool { return answered(s) && s.seq != sa.seq })
	peer.send(port, segment{port: 2000, flags: "R", seq: again.ack})
	both := l.arrived(t, 2)
	for i, a := range both {
		if string(a.Request) != "pay 100 to Bob" || a.Child != tfo.Yes || a.SYN.Seq != both[0].SYN.Seq {
			t.Errorf("arrival %d: request %q, child %v, sequence number %d", i, a.Request, a.Child, a.SYN.Seq)
		}
	}
	l.Close()
	if len(l.arrivals) != 2 {
		t.Errorf("%d arrivals, want 2", len(l.arrivals))
	}
}

func readMIB(t testing.TB, ns tfo.NetNS) tfo.MIB {
	t.Helper()
	m, err := tfo.ReadMIB(ns)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Because data may come twice, what we send must mean the same once and twice.
// That is so by construction: HEAD is a safe method (RFC 9110, section 9.2.1);
// a ClientHello without early data changes nothing until the handshake goes on
// (RFC 8446, section 8), and it never does; a DNS query only reads (RFC 1035).
// An operator's own bytes are the operator's to answer for.
func TestPayloadsAreIdempotent(t *testing.T) {
	ns := newNetNS(t)
	peer := newRawPeer(t, ns)
	l := hear(t, tfo.ListenConfig{Addr: netip.MustParseAddrPort("0.0.0.0:0"), NetNS: ns, Keys: []tfo.Key{testKey}})
	port := l.Addr().Port()
	target := measure.Target{Addr: peer.host, Port: port, Hostname: "idempotent.example"}
	for i, tt := range []struct {
		kind measure.PayloadKind
		want tfo.RequestKind
		safe func(b []byte) bool
	}{
		{measure.PayloadHTTP, tfo.RequestHTTP, func(b []byte) bool {
			req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
			return err == nil && req.Method == http.MethodHead && req.ContentLength == 0
		}},
		{measure.PayloadTLS, tfo.RequestTLS, harmlessHello},
		{measure.PayloadDNS, tfo.RequestDNS, func(b []byte) bool {
			var p dnsmessage.Parser
			h, err := p.Start(b[2:])
			return err == nil && !h.Response && h.OpCode == 0
		}},
	} {
		payload := measure.PayloadFor(tt.kind, nil, target).Bytes
		if len(payload) == 0 || len(payload) > measure.MaxPayload || !tt.safe(payload) {
			t.Errorf("%v: a payload of %d bytes that may not be sent twice: %q", tt.kind, len(payload), payload)
		}
		// And the same SYN twice gets the same answer twice.
		p := uint16(6000 + i)
		syn := peer.packet(port, peer.dataSYN(p, testKey, string(payload)))
		var responses [2]segment
		for j := range responses {
			peer.inject(syn)
			responses[j] = peer.expect(p, "response", func(s segment) bool { return s.payload != "" && (j == 0 || s.seq != responses[0].seq) })
			peer.send(port, segment{port: p, flags: "R", seq: responses[j].ack})
			l.arrived(t, 2*i+j+1)
		}
		if responses[0].payload != responses[1].payload {
			t.Errorf("%v: answers %q and %q", tt.kind, responses[0].payload, responses[1].payload)
		}
		for _, a := range l.arrived(t, 2*i+2)[2*i:] {
			if a.RequestKind != tt.want || !bytes.Equal(a.Request, payload) {
				t.Errorf("%v: %v arrived: %q", tt.kind, a.RequestKind, a.Request)
			}
		}
	}
}

// harmlessHello says that the bytes are one ClientHello without the extensions
// pre_shared_key (41) and early_data (42) of RFC 8446.
func harmlessHello(b []byte) bool {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		theirs.Write(b)
		theirs.Close()
	}()
	var extensions []uint16
	seen := errors.New("seen")
	err := tls.Server(ours, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		extensions = h.Extensions
		return nil, seen
	}}).Handshake()
	return errors.Is(err, seen) && len(b) == 5+int(binary.BigEndian.Uint16(b[3:])) &&
		!slices.Contains(extensions, 41) && !slices.Contains(extensions, 42)
}
