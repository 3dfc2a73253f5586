package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/agent/spool"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// wire is a connection to a controller that a test plays, without a network, for
// the clock of a bubble. What the probe says takes no time; answers come when the
// test says so.
type wire struct {
	// drop says whether Welcome tells the probe to let go of what it holds.
	drop bool
	// late is how long after a heartbeat its answer comes.
	late time.Duration

	mu      sync.Mutex
	cut     bool // nothing that the probe says arrives, until the next session
	turned  bool // no session is opened
	talk    *talk
	granted map[uint32]uint32 // by chunk: what was announced up to the last answer
	newest  time.Time         // when the last heartbeat was sent that was answered
	beats   int
	got     []*pb.ReportResultsRequest
}

// talk is a session, or a stream of results.
type talk struct {
	grpc.ClientStream
	ctx  context.Context
	wire *wire
	hear chan proto.Message
	end  chan struct{}
}

const (
	fenceBeat = 10 * time.Second
	fenceTTL  = 40 * time.Second
)

func (w *wire) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return errors.New("no such call")
}

func (w *wire) NewStream(ctx context.Context, d *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &talk{ctx: ctx, wire: w, hear: make(chan proto.Message, 1000), end: make(chan struct{})}
	if d.StreamName == "Session" {
		if w.turned {
			return nil, io.ErrUnexpectedEOF
		}
		w.talk, w.cut = t, false
	}
	return t, nil
}

func (t *talk) Context() context.Context { return t.ctx }
func (t *talk) CloseSend() error         { close(t.end); return nil }

func (t *talk) RecvMsg(m any) error {
	select {
	case got := <-t.hear:
		proto.Merge(m.(proto.Message), got)
		return nil
	case <-t.end:
		return io.EOF
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
}

func (t *talk) SendMsg(m any) error {
	w := t.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	if r, ok := m.(*pb.ReportResultsRequest); ok {
		w.got = append(w.got, proto.CloneOf(r))
		t.hear <- &pb.ReportResultsResponse{Lease: r.GetLease(), Sequence: r.GetSequence()}
		return nil
	}
	if w.cut {
		return nil
	}
	sent := time.Now()
	switch m := m.(*pb.SessionRequest).GetMessage().(type) {
	case *pb.SessionRequest_Hello:
		welcome := &pb.Welcome{Session: "s", Protocol: 1, HeartbeatInterval: durationpb.New(fenceBeat), Ttl: durationpb.New(fenceTTL)}
		for _, h := range m.Hello.GetHeld() {
			if w.drop {
				welcome.Drop = append(welcome.Drop, h.GetRef())
			}
		}
		if !w.drop {
			w.heard(m.Hello.GetHeld(), sent)
		}
		t.hear <- &pb.SessionResponse{Message: &pb.SessionResponse_Welcome{Welcome: welcome}}
	case *pb.SessionRequest_Heartbeat:
		w.beats++
		held, number := m.Heartbeat.GetHeld(), m.Heartbeat.GetNumber()
		answer := func() {
			w.heard(held, sent)
			t.hear <- &pb.SessionResponse{Message: &pb.SessionResponse_HeartbeatAck{HeartbeatAck: &pb.HeartbeatAck{Number: number}}}
		}
		if w.late == 0 {
			answer()
			return nil
		}
		time.AfterFunc(w.late, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if t.ctx.Err() == nil {
				answer()
			}
		})
	}
	return nil
}

// heard is called with the lock held.
func (w *wire) heard(held []*pb.HeldLease, sent time.Time) {
	for _, h := range held {
		w.granted[h.GetRef().GetChunk()] = max(w.granted[h.GetRef().GetChunk()], h.GetTaken())
	}
	w.newest = sent
}

// give leases, and waits for what comes of it.
func (w *wire) give(l *pb.Lease) {
	w.mu.Lock()
	w.talk.hear <- &pb.SessionResponse{Message: &pb.SessionResponse_Lease{Lease: l}}
	w.mu.Unlock()
	synctest.Wait()
}

func (w *wire) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *wire) answered() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest
}

// submitted is a runner that notes what it is given.
type submitted struct {
	*agenttest.Runner
	note func(measure.Target)
}

func (r submitted) Submit(t measure.Target, begun func(), done func(measure.Measurement)) {
	r.note(t)
	r.Runner.Submit(t, begun, done)
}

// fenced is a probe in a bubble that measures one target at a time.
type fenced struct {
	*wire
	agent *Agent

	mu      sync.Mutex
	asleep  time.Duration // how long the machine slept in all
	starts  []time.Time   // of targets
	items   map[uint64]int
	unknown []uint64 // targets that were started before the controller knew that they may be
}

func newFenced(t *testing.T, w *wire, took time.Duration, change func(*Config)) *fenced {
	w.granted = make(map[uint32]uint32)
	f := &fenced{wire: w, items: make(map[uint64]int)}
	runner := submitted{&agenttest.Runner{Concurrency: 1, Took: func(measure.Target) time.Duration { return took }}, func(x measure.Target) {
		f.wire.mu.Lock()
		known := f.granted[uint32(x.Item/1000)]
		f.wire.mu.Unlock()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.starts = append(f.starts, time.Now())
		f.items[x.Item]++
		if uint32(x.Item%1000) >= known {
			f.unknown = append(f.unknown, x.Item)
		}
	}}
	base := time.Now()
	cfg := Config{
		Name: "p", NewRunner: func(*pb.SurveySpec) (Runner, error) { return runner, nil }, Host: &pb.Host{TcpFastopen: 1}, Session: w, Results: w,
		SinceBoot: func() time.Duration {
			f.mu.Lock()
			defer f.mu.Unlock()
			return time.Since(base) + f.asleep
		},
		Logger: hclog.NewNullLogger(),
	}
	if change != nil {
		change(&cfg)
	}
	f.agent = New(cfg)
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- f.agent.Run(ctx) }()
	t.Cleanup(func() {
		w.set(func() { w.turned = false })
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
		if len(f.unknown) > 0 {
			t.Errorf("started before the controller knew that they may be: %v", f.unknown)
		}
		for item, n := range f.items {
			if n != 1 {
				t.Errorf("target %d was started %d times", item, n)
			}
		}
	})
	synctest.Wait()
	return f
}

// started is how many targets were, and when the last one was.
func (f *fenced) started() (n int, last time.Time) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if n = len(f.starts); n > 0 {
		last = f.starts[n-1]
	}
	return n, last
}

// outcomes is how many targets were measured, and how many given back.
func (f *fenced) outcomes() (measured, returned int) {
	synctest.Wait()
	f.wire.mu.Lock()
	defer f.wire.mu.Unlock()
	for _, r := range f.got {
		measured, returned = measured+len(r.GetIndexes()), returned+len(r.GetReturned())
	}
	return measured, returned
}

// chunk is a lease of n addresses.
func chunk(number uint32, n int) *pb.Lease {
	sp := spec()
	sp.Concurrency = 1
	l := &pb.Lease{Ref: &pb.LeaseRef{Survey: "s", Chunk: number, Epoch: 1}, Spec: sp, FirstItem: 1000 * uint64(number)}
	for i := range n {
		l.Targets = append(l.Targets, measure.TargetToWire(measure.Target{
			Item: l.FirstItem + uint64(i), Addr: netip.AddrFrom4([4]byte{8, byte(number), byte(i >> 8), byte(i)}), Port: 443,
		}))
	}
	return l
}

// TestFence: a probe that is not heard any more starts nothing new when the time
// of its lease is over, counted from when the last heartbeat was sent that was
// answered, whenever the answer came. What it has started comes to its end. When
// it is heard again, it goes on with what it may keep, and gives back the rest.
func TestFence(t *testing.T) {
	for name, late := range map[string]time.Duration{"answers at once": 0, "answers after half a lease": fenceTTL / 2} {
		for _, drop := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", dropped ", drop), func(t *testing.T) {
				encoder(t)
				synctest.Test(t, func(t *testing.T) {
					const all = 400
					f := newFenced(t, &wire{late: late}, 3*time.Second, nil) // slow: what is announced lasts longer than the lease
					f.give(chunk(0, all))
					time.Sleep(10 * time.Minute)
					f.set(func() { f.cut = true })
					time.Sleep(10 * time.Minute)
					n, last := f.started()
					if d := last.Sub(f.answered()); d >= fenceTTL || d < fenceTTL-4*time.Second {
						t.Errorf("the last target was started %v after the last heartbeat that was answered, want less than %v, not much", d, fenceTTL)
					}
					if measured, returned := f.outcomes(); measured != n || n >= all || returned != 0 {
						t.Errorf("%d of %d started, %d measured, %d given back", n, all, measured, returned)
					}
					f.set(func() { f.drop = drop })
					close(f.talk.end)
					time.Sleep(time.Hour)
					after, _ := f.started()
					measured, returned := f.outcomes()
					if drop && (after != n || measured != n || returned != all-n) || !drop && (after != all || measured != all) {
						t.Errorf("%d, then %d started, %d measured, %d given back", n, after, measured, returned)
					}
				})
			})
		}
	}
}

// TestFenceOfWhatWasAnnounced: a probe that is fast starts nothing that it has not
// announced before, and comes to a stop there, however long its lease lasts. In
// the ordinary course of things it never waits.
func TestFenceOfWhatWasAnnounced(t *testing.T) {
	encoder(t)
	synctest.Test(t, func(t *testing.T) {
		const perSecond = 20
		f := newFenced(t, &wire{}, time.Second/perSecond, nil)
		for i := range 6 {
			f.give(chunk(uint32(i), 1000))
		}
		time.Sleep(time.Minute)
		n, _ := f.started()
		if want := 60 * perSecond; n < want || n > want+100 {
			t.Errorf("%d targets were started in a minute, want %d and those that wait for the engine", n, want)
		}
		beats := func() (n int) { f.set(func() { n = f.beats }); return n }
		before := beats()
		time.Sleep(time.Minute)
		if more := beats() - before; more > 20 {
			t.Errorf("%d heartbeats in a minute, want three every %v", more, fenceBeat)
		}
		f.set(func() { f.cut = true })
		n, _ = f.started()
		time.Sleep(10 * time.Minute)
		after, _ := f.started()
		if most := int(fenceBeat.Seconds()/2*perSecond) + 66; after-n > most || after == n {
			t.Errorf("%d targets were started after the cut, want some, and at most %d", after-n, most)
		}
	})
}

// TestFenceOfAnOffer: a lease whose accept may be lost is not begun.
func TestFenceOfAnOffer(t *testing.T) {
	encoder(t)
	synctest.Test(t, func(t *testing.T) {
		f := newFenced(t, &wire{}, time.Second, nil)
		f.set(func() { f.cut = true })
		f.give(chunk(0, 10))
		time.Sleep(10 * time.Minute)
		if n, _ := f.started(); n != 0 {
			t.Errorf("%d targets were started", n)
		}
		close(f.talk.end)
		time.Sleep(time.Minute)
		if n, _ := f.started(); n != 10 {
			t.Errorf("%d targets were started when it was heard of, want 10", n)
		}
	})
}

// TestFenceCountsSleep: the time of a lease goes on while the machine sleeps.
func TestFenceCountsSleep(t *testing.T) {
	encoder(t)
	synctest.Test(t, func(t *testing.T) {
		f := newFenced(t, &wire{}, time.Second, nil)
		f.give(chunk(0, 400))
		time.Sleep(2 * time.Minute)
		f.mu.Lock()
		f.asleep = time.Hour
		f.mu.Unlock()
		woke := time.Now()
		for f.answered().Before(woke) {
			n, last := f.started()
			if last.After(woke) {
				t.Fatalf("target %d was started when the lease was over", n)
			}
			time.Sleep(100 * time.Millisecond)
		}
		before, _ := f.started()
		time.Sleep(10 * time.Second)
		if after, _ := f.started(); after <= before {
			t.Error("it does not go on")
		}
	})
}

// TestFenceAfterACrash: what an earlier process left is not begun before the
// controller says that it is still the probe's. By then another probe may have
// it: both would contact its targets, and neither would say that it is a
// repetition.
func TestFenceAfterACrash(t *testing.T) {
	for _, drop := range []bool{false, true} {
		t.Run(fmt.Sprint("dropped ", drop), func(t *testing.T) {
			encoder(t)
			path := filepath.Join(t.TempDir(), "spool.db")
			synctest.Test(t, func(t *testing.T) {
				kept, _ := openSpool(t, path)
				l := chunk(0, 10)
				offer, err := proto.Marshal(l)
				if err != nil {
					t.Fatal(err)
				}
				name := spool.Lease{Survey: "s", Chunk: 0, Epoch: 1}
				if err := kept.Accept(name, []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, offer); err != nil {
					t.Fatal(err)
				}
				if err := kept.Start(name, 0, 1); err != nil {
					t.Fatal(err)
				}
				kept.Close()
				kept, found := openSpool(t, path)

				f := newFenced(t, &wire{turned: true, drop: drop}, time.Second, func(c *Config) { c.Spool, c.Leases = kept, found.Leases })
				time.Sleep(time.Hour)
				if n, _ := f.started(); n != 0 {
					t.Errorf("%d targets were started before anybody was asked", n)
				}
				f.set(func() { f.turned = false })
				time.Sleep(time.Hour)
				want := 8
				if drop {
					want = 0
				}
				if n, _ := f.started(); n != want {
					t.Errorf("%d targets were started, want %d", n, want)
				}
			})
		})
	}
}

// encoder makes what lives as long as the process: it is not of a bubble.
func encoder(t *testing.T) {
	t.Helper()
	if _, err := measure.EncodeBatch(nil); err != nil {
		t.Fatal(err)
	}
}

// TestFenceAsks: who comes to the end of what was announced asks for more, and does
// not wait for the next heartbeat. Here there is none that nobody asked for.
func TestFenceAsks(t *testing.T) {
	encoder(t)
	synctest.Test(t, func(t *testing.T) {
		runner := &agenttest.Runner{Took: func(x measure.Target) time.Duration { return time.Duration(x.Item%100) * 10 * time.Millisecond }}
		b := newBench(t, runner, nil)
		b.interval.Store(int64(fenceBeat))
		b.give(chunk(0, 1000))
		time.Sleep(time.Hour)
		if n := runner.Counts().Submitted; n != 1000 {
			t.Errorf("%d of 1000 targets were started", n)
		}
		b.drain()
	})
}
