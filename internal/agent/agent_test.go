package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/measure"
	"tfofleet/internal/targets"
	pb "tfofleet/proto/tfofleet/v1"
)

// bench is an agent without a controller: leases are put into its hand, and its
// batches are looked at before they are sent.
type bench struct {
	*Agent
	t      *testing.T
	runner *agenttest.Runner
	seen   int // batches that were looked at
	chunk  uint32
}

func newBench(t *testing.T, runner *agenttest.Runner, change func(*Config)) *bench {
	cfg := Config{Name: "p", NewRunner: func(*pb.SurveySpec) (Runner, error) { return runner, nil }, Logger: hclog.NewNullLogger()}
	if change != nil {
		change(&cfg)
	}
	b := &bench{Agent: New(cfg), t: t, runner: runner}
	b.hear()
	return b
}

func spec() *pb.SurveySpec {
	return &pb.SurveySpec{Family: pb.Family_FAMILY_ANY, Concurrency: 4}
}

// lease is a lease of these targets.
func (b *bench) lease(sp *pb.SurveySpec, ts ...measure.Target) *pb.Lease {
	l := &pb.Lease{Ref: &pb.LeaseRef{Survey: "s", Chunk: b.chunk, Epoch: 1}, Spec: sp, FirstItem: 100}
	b.chunk++
	for i, t := range ts {
		t.Item = 100 + uint64(i)
		l.Targets = append(l.Targets, measure.TargetToWire(t))
	}
	return l
}

func (b *bench) give(l *pb.Lease) {
	b.t.Helper()
	if _, err := b.accept(l); err != nil {
		b.t.Fatal(err)
	}
}

// inHand is what a heartbeat says of leases.
func (b *bench) inHand() []*pb.HeldLease {
	held, _ := b.held()
	return held
}

// hear answers every heartbeat that is asked for.
func (b *bench) hear() {
	over := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-b.beat:
				_, said := b.held()
				b.confirmed(said, time.Hour)
			case <-stop:
				return
			}
		}
	}()
	b.t.Cleanup(func() { close(stop); <-over })
}

// next waits for the next batch.
func (b *bench) next() (*pb.ReportResultsRequest, []measure.Measurement) {
	b.t.Helper()
	for {
		b.uplink.mu.Lock()
		more := b.uplink.more
		if len(b.uplink.batches) > b.seen {
			req := b.uplink.batches[b.seen].req
			b.uplink.mu.Unlock()
			b.seen++
			if len(req.GetMeasurements()) == 0 {
				return req, nil
			}
			ms, err := measure.DecodeBatch(req.GetMeasurements())
			if err != nil {
				b.t.Fatal(err)
			}
			for i, m := range ms {
				if req.GetIndexes()[i] != uint32(m.Item-100) || req.GetOutcomes()[i] != pb.Outcome(m.Outcome) || req.GetVerdicts()[i] != pb.Verdict(m.Verdict) {
					b.t.Errorf("the batch says %d %v %v of %+v", req.GetIndexes()[i], req.GetOutcomes()[i], req.GetVerdicts()[i], m.Target)
				}
			}
			return req, ms
		}
		b.uplink.mu.Unlock()
		<-more
	}
}

// all waits for the outcomes of n targets of one lease, by index.
func (b *bench) all(n int) map[int]measure.Measurement {
	b.t.Helper()
	got := make(map[int]measure.Measurement)
	for len(got) < n {
		req, ms := b.next()
		for _, m := range ms {
			got[int(m.Item-100)] = m
		}
		for _, i := range req.GetReturned() {
			got[int(i)] = measure.Measurement{}
		}
	}
	return got
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestPolicy(t *testing.T) {
	runner := &agenttest.Runner{}
	b := newBench(t, runner, func(c *Config) {
		c.Policy = targets.Policy{
			Allow: targets.NewPrefixes(netip.MustParsePrefix("10.1.0.0/16")),
			Block: targets.NewPrefixes(netip.MustParsePrefix("8.8.4.0/24")),
		}
	})
	ts := []struct {
		addr string
		want measure.Condition // "" when it is measured
	}{
		{"8.8.8.8", ""},
		{"10.1.2.3", ""},
		{"10.2.2.3", measure.CondRefused(targets.ReasonSpecialPurpose)},
		{"127.0.0.1", measure.CondRefused(targets.ReasonSpecialPurpose)},
		{"169.254.169.254", measure.CondRefused(targets.ReasonSpecialPurpose)},
		{"::ffff:10.2.2.3", measure.CondRefused(targets.ReasonSpecialPurpose)},
		{"64:ff9b::a02:203", measure.CondRefused(targets.ReasonSpecialPurpose)},
		{"8.8.4.4", measure.CondRefused(targets.ReasonBlocklist)},
		{"::ffff:8.8.4.4", measure.CondRefused(targets.ReasonBlocklist)},
	}
	l := b.lease(spec())
	for i, x := range ts {
		l.Targets = append(l.Targets, measure.TargetToWire(measure.Target{Item: 100 + uint64(i), Addr: addr(x.addr), Port: 443}))
	}
	b.give(l)
	got := b.all(len(ts))
	for i, x := range ts {
		m := got[i]
		if x.want == "" {
			if m.Outcome != measure.OutcomeMeasured || len(m.Attempts) == 0 {
				t.Errorf("%s: %+v, want it measured", x.addr, m)
			}
			continue
		}
		if m.Outcome != measure.OutcomeRefused || m.Verdict != measure.Inconclusive || !slices.Equal(m.Conditions, []measure.Condition{x.want}) || m.Attempts != nil || m.Started.IsZero() {
			t.Errorf("%s: %+v, want it refused with %s", x.addr, m, x.want)
		}
	}
	if n := runner.Counts().Submitted; n != 2 {
		t.Errorf("%d targets came to the runner, want 2", n)
	}
}

// dnsServer answers from a table, over UDP on the loopback.
type dnsServer struct {
	conn net.PacketConn
	mu   sync.Mutex
	asks []string
}

func newDNS(t *testing.T) *dnsServer {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{conn: conn}
	t.Cleanup(func() { conn.Close() })
	go s.serve()
	return s
}

func (s *dnsServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "udp", s.conn.LocalAddr().String())
}

// zone is what there is; a name that is not here does not exist.
var zone = map[string]struct {
	v4, v6 string
	rcode  dnsmessage.RCode
	silent bool
}{
	"both.test.":   {v4: "8.0.0.1", v6: "2600::1"},
	"four.test.":   {v4: "8.0.0.2"},
	"six.test.":    {v6: "2600::3"},
	"empty.test.":  {},
	"broken.test.": {rcode: dnsmessage.RCodeServerFailure},
	"silent.test.": {silent: true},
	"inside.test.": {v4: "10.0.0.1"},
	"www.test.":    {v4: "8.0.0.1"},
	"mail.test.":   {v4: "8.0.0.1"},
}

func (s *dnsServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var q dnsmessage.Message
		if q.Unpack(buf[:n]) != nil || len(q.Questions) != 1 {
			continue
		}
		name := q.Questions[0].Name.String()
		s.mu.Lock()
		s.asks = append(s.asks, name)
		s.mu.Unlock()
		z, ok := zone[name]
		if z.silent {
			continue
		}
		a := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true, RCode: z.rcode}, Questions: q.Questions}
		if !ok {
			a.RCode = dnsmessage.RCodeNameError
		}
		h := dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60}
		switch q.Questions[0].Type {
		case dnsmessage.TypeA:
			if z.v4 != "" {
				a.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: addr(z.v4).As4()}}}
			}
		case dnsmessage.TypeAAAA:
			if z.v6 != "" {
				a.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AAAAResource{AAAA: addr(z.v6).As16()}}}
			}
		}
		if b, err := a.Pack(); err == nil {
			s.conn.WriteTo(b, from)
		}
	}
}

func TestLookup(t *testing.T) {
	s := newDNS(t)
	const any, four, six = pb.Family_FAMILY_ANY, pb.Family_FAMILY_IPV4, pb.Family_FAMILY_IPV6
	for _, c := range []struct {
		name   string
		family pb.Family
		addr   string
		cond   measure.Condition
	}{
		{"both.test", any, "8.0.0.1", ""},
		{"both.test", four, "8.0.0.1", ""},
		{"both.test", six, "2600::1", ""},
		{"four.test", any, "8.0.0.2", ""},
		{"four.test", six, "", measure.CondNameNoAddress},
		{"six.test", any, "2600::3", ""},
		{"six.test", four, "", measure.CondNameNoAddress},
		{"empty.test", any, "", measure.CondNameNotFound},
		{"empty.test", six, "", measure.CondNameNotFound},
		{"missing.test", any, "", measure.CondNameNotFound},
		{"missing.test", four, "", measure.CondNameNotFound},
		{"broken.test", any, "", measure.CondNameFailed},
		{"broken.test", six, "", measure.CondNameFailed},
		{"silent.test", any, "", measure.CondNameTimeout},
	} {
		r := newResolver(s.dial)
		if c.cond == measure.CondNameTimeout {
			r.patience = 100 * time.Millisecond
		}
		got, cond := r.lookup(context.Background(), c.name, c.family)
		want := netip.Addr{}
		if c.addr != "" {
			want = addr(c.addr)
		}
		if got != want || cond != c.cond {
			t.Errorf("%s, %v: %v %q, want %v %q", c.name, c.family, got, cond, want, c.cond)
		}
	}
	// Only what was asked for was looked up: no search list.
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.asks {
		if _, ok := zone[name]; !ok && name != "missing.test." {
			t.Errorf("somebody asked for %q", name)
		}
	}
}

// TestLookupWithoutAResolver: where no DNS server can be reached, nothing is
// known of the target; that is this machine's doing.
func TestLookupWithoutAResolver(t *testing.T) {
	r := newResolver(func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
	})
	if _, cond := r.lookup(context.Background(), "four.test", pb.Family_FAMILY_ANY); cond != measure.CondVantageNoResolver {
		t.Errorf("%q, want %q", cond, measure.CondVantageNoResolver)
	}
	if m := unresolved(measure.Target{}, measure.CondVantageNoResolver, time.Now()); m.Verdict != measure.Inconclusive {
		t.Errorf("verdict %v", m.Verdict)
	}
}

// TestNames: a name that cannot be resolved is a result, one that can is
// measured at the address it gave, if the policy lets it.
func TestNames(t *testing.T) {
	runner := &agenttest.Runner{Concurrency: 4}
	b := newBench(t, runner, func(c *Config) { c.DialDNS = newDNS(t).dial })
	var ts []measure.Target
	names := []string{"four.test", "missing.test", "inside.test", "six.test"}
	for _, n := range names {
		ts = append(ts, measure.Target{Hostname: n, Port: 443})
	}
	b.give(b.lease(spec(), ts...))
	got := b.all(len(ts))
	for i, want := range []struct {
		addr    string
		outcome measure.Outcome
		verdict measure.Verdict
		cond    measure.Condition
	}{
		{"8.0.0.2", measure.OutcomeMeasured, measure.Supported, measure.CondWorks},
		{"", measure.OutcomeMeasured, measure.Offline, measure.CondNameNotFound},
		{"10.0.0.1", measure.OutcomeRefused, measure.Inconclusive, measure.CondRefused(targets.ReasonSpecialPurpose)},
		{"2600::3", measure.OutcomeMeasured, measure.Supported, measure.CondWorks},
	} {
		m := got[i]
		a := ""
		if m.Addr.IsValid() {
			a = m.Addr.String()
		}
		if a != want.addr || m.Outcome != want.outcome || m.Verdict != want.verdict || !slices.Contains(m.Conditions, want.cond) || m.Hostname != names[i] || m.Started.IsZero() {
			t.Errorf("%s became %+v, want %+v", names[i], m, want)
		}
	}
}

// TestFamilyOfAddresses: the list has an address of the other family.
func TestFamilyOfAddresses(t *testing.T) {
	b := newBench(t, &agenttest.Runner{}, nil)
	sp := spec()
	sp.Family = pb.Family_FAMILY_IPV6
	b.give(b.lease(sp, measure.Target{Addr: addr("8.8.8.8"), Port: 1}, measure.Target{Addr: addr("2600::1"), Port: 1}))
	got := b.all(2)
	if !slices.Equal(got[0].Conditions, []measure.Condition{measure.CondNameNoAddress}) || len(got[0].Attempts) != 0 || len(got[1].Attempts) == 0 {
		t.Errorf("measured %+v", got)
	}
}

// TestSharedAddress: names of one address and port are one measurement, whether
// it is under way or over; another port is another.
func TestSharedAddress(t *testing.T) {
	release := make(chan struct{})
	runner := &agenttest.Runner{Concurrency: 4, Script: func(x measure.Target) measure.Measurement {
		<-release
		return agenttest.Healthy(x)
	}}
	b := newBench(t, runner, func(c *Config) { c.DialDNS = newDNS(t).dial })
	target := func(name string, port uint16) measure.Target { return measure.Target{Hostname: name, Port: port} }
	b.give(b.lease(spec(), target("both.test", 443), target("www.test", 443), target("mail.test", 443), target("www.test", 80),
		measure.Target{Addr: addr("8.0.0.1"), Port: 443}))
	close(release)
	first := b.all(5)
	b.give(b.lease(spec(), target("mail.test", 443), target("mail.test", 80)))
	second := b.all(2)

	var attempts, copies int
	for _, m := range []measure.Measurement{first[0], first[1], first[2], first[4], second[0]} {
		if m.Outcome != measure.OutcomeMeasured || m.Verdict != measure.Supported || m.Addr != addr("8.0.0.1") || m.Started.IsZero() {
			t.Errorf("measured %+v", m)
		}
		if slices.Contains(m.Conditions, measure.CondSharedAddress) {
			copies++
			if !slices.Contains(m.Conditions, measure.CondWorks) || !slices.IsSorted(m.Conditions) || m.Attempts != nil || m.Cookie != nil {
				t.Errorf("a copy is %+v", m)
			}
		} else if len(m.Attempts) == 5 {
			attempts++
		}
	}
	if attempts != 1 || copies != 4 {
		t.Errorf("%d measured and %d copies, want 1 and 4", attempts, copies)
	}
	if first[3].Attempts == nil || !slices.Contains(second[1].Conditions, measure.CondSharedAddress) {
		t.Errorf("port 80: %+v, then %+v", first[3], second[1])
	}
	if got := runner.Counts().Started; len(got) != 2 || got[netip.MustParseAddrPort("8.0.0.1:443")] != 1 {
		t.Errorf("the runner measured %v", got)
	}
}

// TestSharedForgets: two generations, no more.
func TestSharedForgets(t *testing.T) {
	s := newShared(10)
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, 0, byte(i >> 8), byte(i)}), 443)
	}
	for i := range 100 {
		if turn, _ := s.join(at(i), sharer{}); turn != first {
			t.Fatalf("address %d: turn %v", i, turn)
		}
		s.settle(at(i), measure.Measurement{Outcome: measure.OutcomeMeasured, Verdict: measure.Verdict(i % 3)})
		if n := len(s.young) + len(s.old); n > 20 {
			t.Fatalf("%d addresses remembered", n)
		}
	}
	for i, want := range map[int]turn{99: seen, 91: seen, 85: seen, 50: first, 0: first} {
		turn, k := s.join(at(i), sharer{})
		if turn != want || want == seen && k.verdict != measure.Verdict(i%3) {
			t.Errorf("address %d: turn %v, want %v; %+v", i, turn, want, k)
		}
	}
	// What did not come to its end is not remembered, and who waits is told.
	a := at(1000)
	s.join(a, sharer{})
	if turn, _ := s.join(a, sharer{}); turn != waits {
		t.Errorf("the second of two at once: turn %v", turn)
	}
	if got := s.settle(a, measure.Measurement{Outcome: measure.OutcomeInterrupted}); len(got) != 1 {
		t.Errorf("%d waited, want 1", len(got))
	}
	if turn, _ := s.join(a, sharer{}); turn != first {
		t.Errorf("after an interruption: turn %v", turn)
	}
}

// TestDrain: what runs is interrupted, what was not started is given back, a
// name that is being looked up too, and so is who waits for another's result.
func TestDrain(t *testing.T) {
	runner := &agenttest.Runner{Concurrency: 2, Took: func(x measure.Target) time.Duration {
		if x.Port == 1 {
			return 0
		}
		return time.Hour
	}}
	b := newBench(t, runner, func(c *Config) { c.DialDNS = newDNS(t).dial })
	sp := spec()
	sp.Concurrency = 2
	ts := []measure.Target{
		{Addr: addr("8.1.0.0"), Port: 1},
		{Addr: addr("8.1.0.1"), Port: 2},
		{Addr: addr("8.1.0.2"), Port: 2},
		{Addr: addr("8.1.0.1"), Port: 2},
		{Hostname: "silent.test", Port: 2},
	}
	for i := range 400 { // more than are announced
		ts = append(ts, measure.Target{Addr: netip.AddrFrom4([4]byte{8, 2, byte(i >> 8), byte(i)}), Port: 2})
	}
	l := b.lease(sp, ts...)
	l.Again = []uint32{1, 9}
	b.give(l)
	_, ms := b.next() // the first is through, and two are running
	if len(ms) != 1 || ms[0].Port != 1 {
		t.Fatalf("first %+v", ms)
	}
	for runner.Counts().Running != 2 {
		time.Sleep(time.Millisecond)
	}
	if held := b.inHand(); len(held) != 1 || held[0].GetTaken() < 5 || held[0].GetTaken() == uint32(len(ts)) {
		t.Errorf("held %v", held)
	}
	begun := time.Now()
	b.drain()
	got := b.all(len(ts) - 1)
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it took %v", took)
	}
	for i, m := range got {
		want := measure.Outcome(0)
		if i == 1 || i == 2 {
			want = measure.OutcomeInterrupted
		}
		if m.Outcome != want {
			t.Errorf("target %d: %v, want %v", i, m.Outcome, want)
		}
	}
	if !slices.Contains(got[1].Conditions, measure.CondVantageRepeated) || slices.Contains(got[2].Conditions, measure.CondVantageRepeated) {
		t.Errorf("marked as repeated: %v, %v", got[1].Conditions, got[2].Conditions)
	}
	if _, err := b.accept(b.lease(sp, ts...)); err == nil {
		t.Error("a lease was accepted after the drain")
	}
}

// TestBatches: full ones go at once, the last one too, and no result waits
// long for company.
func TestBatches(t *testing.T) {
	if _, err := measure.EncodeBatch(nil); err != nil { // it keeps an encoder for life: not that of a bubble
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		runner := &agenttest.Runner{Concurrency: 1000, Took: func(x measure.Target) time.Duration {
			switch {
			case x.Item < 100+2*batchSize+5:
				return time.Millisecond
			case x.Item < 100+2*batchSize+10:
				return time.Minute
			}
			return 2 * time.Minute
		}}
		b := newBench(t, runner, nil)
		sp := spec()
		sp.Concurrency = 1000
		var ts []measure.Target
		for i := range 2*batchSize + 11 {
			ts = append(ts, measure.Target{Addr: netip.AddrFrom4([4]byte{8, 0, byte(i >> 8), byte(i)}), Port: 443})
		}
		begun := time.Now()
		b.give(b.lease(sp, ts...))
		var at []time.Duration
		var sizes []int
		sequences := map[uint64]bool{}
		for range 5 {
			req, ms := b.next()
			at, sizes = append(at, time.Since(begun)), append(sizes, len(ms))
			sequences[req.GetSequence()] = true
		}
		if want := []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond + batchAge, time.Minute + batchAge, 2 * time.Minute}; !slices.Equal(at, want) {
			t.Errorf("batches at %v, want %v", at, want)
		}
		if want := []int{batchSize, batchSize, 5, 5, 1}; !slices.Equal(sizes, want) {
			t.Errorf("batches of %v, want %v", sizes, want)
		}
		if len(sequences) != 5 {
			t.Errorf("sequences %v", sequences)
		}
		b.drain()
	})
}

// TestWanted: neither too little in hand nor too much.
func TestWanted(t *testing.T) {
	b := newBench(t, &agenttest.Runner{Concurrency: 1, Took: func(measure.Target) time.Duration { return time.Hour }}, nil)
	want := func(n uint64) {
		t.Helper()
		if got := b.wanted(); got != n {
			t.Errorf("%d leases wanted, want %d", got, n)
		}
	}
	lease := func(n int) *pb.Lease {
		sp := spec()
		sp.Concurrency = 50 // so that 200 targets are enough
		var ts []measure.Target
		for i := range n {
			ts = append(ts, measure.Target{Addr: netip.AddrFrom4([4]byte{8, byte(b.chunk), byte(i >> 8), byte(i)}), Port: 443})
		}
		return b.lease(sp, ts...)
	}
	want(2) // it does not know yet how large they are
	b.give(lease(64))
	want(3) // of 64 each, to have 200
	b.give(lease(64))
	b.give(lease(64))
	want(1)
	b.give(lease(64))
	want(0)
	b.drain()
	want(0)
}

// TestForget: a lease that is somebody else's by now is not gone on with.
func TestForget(t *testing.T) {
	runner := &agenttest.Runner{Concurrency: 1, Took: func(x measure.Target) time.Duration { return time.Hour }}
	b := newBench(t, runner, nil)
	sp := spec()
	sp.Concurrency = 1
	var ts []measure.Target
	for i := range 100 {
		ts = append(ts, measure.Target{Addr: netip.AddrFrom4([4]byte{8, 0, 0, byte(i)}), Port: 443})
	}
	l := b.lease(sp, ts...)
	b.give(l)
	for runner.Counts().Submitted < 66 { // all slots are taken
		time.Sleep(time.Millisecond)
	}
	b.cancel(&pb.Cancel{Ref: l.GetRef(), Forget: true})
	if held := b.inHand(); len(held) != 0 {
		t.Errorf("held %v", held)
	}
	b.drain()
	b.all(100)
	if n := runner.Counts().Submitted; n != 66 {
		t.Errorf("%d targets came to the runner, want the 66 from before", n)
	}
}

// TestCancelledSurvey: one cancel ends all leases of a survey, and no other.
func TestCancelledSurvey(t *testing.T) {
	forever := func(measure.Target) time.Duration { return time.Hour }
	runners := map[pb.Plan]*agenttest.Runner{pb.Plan_PLAN_QUICK: {Took: forever}, pb.Plan_PLAN_STANDARD: {Took: forever}}
	b := newBench(t, nil, func(c *Config) {
		c.NewRunner = func(sp *pb.SurveySpec) (Runner, error) { return runners[sp.GetPlan()], nil }
	})
	give := func(survey string, plan pb.Plan) *pb.LeaseRef {
		sp := spec()
		sp.Plan = plan
		l := b.lease(sp, measure.Target{Addr: addr("8.0.0.1"), Port: uint16(b.chunk + 1)})
		l.Ref.Survey = survey
		b.give(l)
		return l.Ref
	}
	one := give("one", pb.Plan_PLAN_QUICK)
	give("one", pb.Plan_PLAN_QUICK)
	give("other", pb.Plan_PLAN_STANDARD)
	b.cancel(&pb.Cancel{Ref: one})
	for range 2 {
		if req, _ := b.next(); req.GetLease().GetSurvey() != "one" {
			t.Errorf("a batch of survey %s", req.GetLease().GetSurvey())
		}
	}
	if c := runners[pb.Plan_PLAN_STANDARD].Counts(); c.Interrupted+c.NeverBegun > 0 {
		t.Errorf("the other survey: %+v", c)
	}
	b.drain()
}

func TestLeaseThatMakesNoSense(t *testing.T) {
	b := newBench(t, &agenttest.Runner{}, nil)
	good := measure.Target{Addr: addr("8.0.0.1"), Port: 1}
	for name, change := range map[string]func(*pb.Lease){
		"no targets":   func(l *pb.Lease) { l.Targets = nil },
		"out of order": func(l *pb.Lease) { l.Targets[0], l.Targets[1] = l.Targets[1], l.Targets[0] },
		"before first": func(l *pb.Lease) { l.FirstItem = 101 },
		"bad address":  func(l *pb.Lease) { l.Targets[1].Address = []byte{1} },
	} {
		l := b.lease(spec(), good, good)
		change(l)
		if reason, err := b.accept(l); err == nil || reason != pb.RefusalReason_REFUSAL_REASON_UNSUPPORTED {
			t.Errorf("%s: %v, %v", name, reason, err)
		}
	}
	b.cfg.NewRunner = func(*pb.SurveySpec) (Runner, error) { return nil, fmt.Errorf("no such plan") }
	if reason, err := b.accept(b.lease(spec(), good)); err == nil || reason != pb.RefusalReason_REFUSAL_REASON_UNSUPPORTED {
		t.Errorf("a runner that cannot be made: %v, %v", reason, err)
	}
	if len(b.inHand()) != 0 {
		t.Errorf("held %v", b.inHand())
	}
}

// TestBackoff: full jitter, doubling, from the start again after a healthy time.
func TestBackoff(t *testing.T) {
	b := backoff{first: time.Second, longest: 2 * time.Minute}
	limit := time.Second
	for range 12 {
		if d := b.pause(false); d > limit {
			t.Errorf("a pause of %v, want at most %v", d, limit)
		}
		limit = min(2*limit, 2*time.Minute)
	}
	if b.next != 2*time.Minute {
		t.Errorf("next pause up to %v", b.next)
	}
	b.pause(true)
	if b.next != 2*time.Second {
		t.Errorf("next pause up to %v after a healthy time", b.next)
	}
}

// TestTurnedAway: what no patience can mend is returned.
func TestTurnedAway(t *testing.T) {
	for _, c := range []codes.Code{codes.FailedPrecondition, codes.InvalidArgument, codes.PermissionDenied, codes.Unimplemented} {
		conn := failing{status.Error(c, "no")}
		a := New(Config{Name: "p", Session: conn, Results: conn, Logger: hclog.NewNullLogger()})
		if err := a.Run(context.Background()); status.Code(err) != c {
			t.Errorf("Run returned %v, want %v", err, c)
		}
	}
}
