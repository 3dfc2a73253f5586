package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/testing/protocmp"

	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

func testSessions(t *testing.T, f *fixture) {
	const stale = time.Minute
	session := func(probe, id, instance string) store.Session {
		return store.Session{Probe: probe, ID: id, Instance: instance, Hostname: "host of " + instance, Controller: "c", State: []byte{0, 1}}
	}
	are := func(want ...store.Session) {
		t.Helper()
		got, err := f.Sessions(ctx, stale)
		must(t, err)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("-want +got\n%s", diff)
		}
	}
	are()
	p, q := session("p", "1", "i"), session("q", "1", "i")
	must(t, f.OpenSession(ctx, q, stale))
	must(t, f.OpenSession(ctx, p, stale))
	p.Since, p.Heard, q.Since, q.Heard = f.now, f.now, f.now, f.now
	are(p, q)
	f.reopen()
	are(p, q)
	f.now = f.now.Add(30 * time.Second)
	must(t, f.Beat(ctx, "p", "1", []byte("state")))
	p.Heard, p.State = f.now, []byte("state")
	are(p, q)
	if err := f.Beat(ctx, "p", "2", nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a beat of no session: %v", err)
	}
	if err := f.Beat(ctx, "r", "1", nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a beat of no probe: %v", err)
	}

	// Another process is kept out for as long as the first one is heard of.
	f.now = f.now.Add(stale - time.Microsecond)
	var taken *store.TakenError
	err := f.OpenSession(ctx, session("p", "2", "j"), stale)
	if !errors.Is(err, store.ErrTaken) || !errors.As(err, &taken) {
		t.Fatalf("a second process: %v", err)
	}
	if diff := cmp.Diff(p, taken.Session); diff != "" {
		t.Errorf("taken by -want +got\n%s", diff)
	}
	are(p) // q was not heard of
	f.now = f.now.Add(time.Microsecond)
	are()
	two := session("p", "2", "j")
	must(t, f.OpenSession(ctx, two, stale))
	two.Since, two.Heard = f.now, f.now
	are(two)
	if err := f.Beat(ctx, "p", "1", nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a beat of a session that was taken over: %v", err)
	}
	must(t, f.CloseSession(ctx, "p", "1"))
	are(two)

	// The same process comes back on another connection.
	three := session("p", "3", "j")
	f.now = f.now.Add(time.Second)
	must(t, f.OpenSession(ctx, three, stale))
	three.Since, three.Heard = f.now, f.now
	are(three)
	must(t, f.CloseSession(ctx, "p", "3"))
	are()
	must(t, f.OpenSession(ctx, session("p", "4", "k"), stale))
}

// testBeats: everybody beats at once, some twice, and some have lost their
// session.
func testBeats(t *testing.T, f *fixture) {
	const probes = 60
	for i := range probes {
		must(t, f.OpenSession(ctx, store.Session{Probe: fmt.Sprint("p", i), ID: "1"}, time.Minute))
	}
	var wg sync.WaitGroup
	for i := range probes {
		for range 2 {
			wg.Go(func() {
				if err := f.Beat(ctx, fmt.Sprint("p", i), "1", fmt.Append(nil, i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			if err := f.Beat(ctx, fmt.Sprint("p", i), "0", nil); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a session that was lost: %v", err)
			}
		})
	}
	wg.Wait()
	all, err := f.Sessions(ctx, time.Minute)
	must(t, err)
	if len(all) != probes {
		t.Errorf("%d sessions", len(all))
	}
	for _, s := range all {
		if "p"+string(s.State) != s.Probe {
			t.Errorf("the state of %s is %q", s.Probe, s.State)
		}
	}
}

// testOneProcess: of many that want to be a probe, one is.
func testOneProcess(t *testing.T, f *fixture) {
	var wg sync.WaitGroup
	won := make(chan string, 20)
	for i := range cap(won) {
		wg.Go(func() {
			id := fmt.Sprint(i)
			err := f.OpenSession(ctx, store.Session{Probe: "p", ID: id, Instance: id}, time.Minute)
			if err == nil {
				won <- id
			} else if !errors.Is(err, store.ErrTaken) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("%d processes are one probe", len(won))
	}
	all, err := f.Sessions(ctx, time.Minute)
	must(t, err)
	if id := <-won; len(all) != 1 || all[0].ID != id {
		t.Errorf("%s has the session, and there is %+v", id, all)
	}
}

func testFreeze(t *testing.T, f *fixture) {
	f.survey("a", 1, 1, nil)
	k := f.claim("p").Key
	f.apply(k, lease.Accept{Probe: "p", Epoch: 1, TTL: time.Minute})
	must(t, f.Freeze(ctx, time.Hour))
	must(t, f.Freeze(ctx, time.Minute)) // the latest end counts
	f.now = f.now.Add(time.Minute)
	f.reopen()
	frozen := start.Add(time.Hour)
	c := f.apply(k, lease.Expire{FrozenUntil: f.now.Add(time.Second)})
	if c.Phase != lease.Held || c.Deadline.Before(frozen) || c.TTL != time.Minute {
		t.Errorf("frozen: %+v", c.State)
	}
	until := f.now.Add(2 * time.Hour) // what the caller knows counts as well
	if c = f.apply(k, lease.Expire{FrozenUntil: until}); !c.Deadline.Equal(until) {
		t.Errorf("frozen by the caller: %+v", c.State)
	}
	f.now = until
	if c = f.apply(k, lease.Expire{}); c.Phase != lease.Suspect || !c.Deadline.Equal(until.Add(time.Minute)) {
		t.Errorf("lapsed: %+v", c.State)
	}
}

func testTakeUnwritten(t *testing.T, f *fixture) {
	take := func(writer string, limit int, want ...uint32) {
		t.Helper()
		keys, err := f.TakeUnwritten(ctx, writer, time.Minute, limit)
		must(t, err)
		var got []uint32
		for _, k := range keys {
			got = append(got, k.Chunk)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s takes %v, want %v", writer, got, want)
		}
	}
	finished := func(want ...string) {
		t.Helper()
		if got, err := f.Finished(ctx); err != nil || !slices.Equal(got, want) {
			t.Fatalf("finished: %q, %v, want %q", got, err, want)
		}
	}
	f.survey("a", 5, 1, nil)
	f.survey("gone", 1, 1, nil)
	f.apply(store.Key{Survey: "gone"}, lease.Cancel{}, lease.Finish) // nothing to write
	finished("gone")
	take("x", 9)
	over := func() {
		t.Helper()
		k := f.claim("p").Key
		f.report(k, of("p", 1, lease.ItemResult{Index: 0, Result: good}), uint64(k.Chunk), "x", lease.Keep, lease.Finish)
	}
	for range 4 {
		over()
	}
	take("x", 2, 0, 1)
	take("y", 1, 2)
	f.reopen()
	take("y", 9, 2, 3)
	take("x", 9, 0, 1)
	over()
	take("x", 9, 0, 1, 4)
	f.now = f.now.Add(time.Minute) // x and y are gone
	take("z", 9, 0, 1, 2, 3, 4)
	take("x", 9)
	for n := range uint32(5) {
		finished("gone")
		_, err := f.Written(ctx, store.Key{Survey: "a", Chunk: n}, []lease.Item{good})
		must(t, err)
	}
	take("z", 9)
	finished("a", "gone")
	_, err := f.SetPhase(ctx, "a", store.Done, "")
	must(t, err)
	finished("gone")
}

// testWriters: several at once, and none gets what another one has.
func testWriters(t *testing.T, f *fixture) {
	const chunks = 40
	f.survey("a", chunks, 1, nil)
	for n := range uint32(chunks) {
		c := f.claim("p")
		f.report(c.Key, of("p", 1, lease.ItemResult{Index: 0, Result: good}), uint64(n), "x", lease.Keep, lease.Finish)
	}
	var mu sync.Mutex
	writers := map[store.Key]string{}
	var wg sync.WaitGroup
	for i := range 6 {
		writer := fmt.Sprint("w", i)
		wg.Go(func() {
			for range 6 {
				keys, err := f.TakeUnwritten(ctx, writer, time.Minute, 5)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, k := range keys {
					if w, ok := writers[k]; ok && w != writer {
						t.Errorf("%v is written by %s and %s", k, w, writer)
					}
					writers[k] = writer
				}
				mu.Unlock()
				for _, k := range keys {
					if _, err := f.Written(ctx, k, []lease.Item{good}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for { // passed over while another one looked
		keys, err := f.TakeUnwritten(ctx, "last", time.Minute, chunks)
		must(t, err)
		if len(keys) == 0 {
			break
		}
		for _, k := range keys {
			writers[k] = "last"
			_, err := f.Written(ctx, k, []lease.Item{good})
			must(t, err)
		}
	}
	if len(writers) != chunks {
		t.Errorf("%d of %d chunks were written", len(writers), chunks)
	}
}

func testSpools(t *testing.T, f *fixture) {
	through := func(spool string, want uint64) {
		t.Helper()
		if got, err := f.SpoolThrough(ctx, spool); err != nil || got != want {
			t.Fatalf("spool %s came to %d, %v, want %d", spool, got, err, want)
		}
	}
	f.survey("a", 3, 3, nil)
	k := f.claim("p").Key
	report := func(spool string, sequence uint64, index uint32, want ...lease.Effect) {
		t.Helper()
		e := of("p", 1, lease.ItemResult{Index: index, Result: good})
		_, effects, err := f.Apply(ctx, k, e, &store.Batch{Epoch: 1, Spool: spool, Sequence: sequence, Probe: "p", Body: fmt.Append(nil, spool, sequence)})
		must(t, err)
		if !slices.Equal(effects, want) {
			t.Fatalf("effects %v, want %v", effects, want)
		}
	}
	through("s", 0)
	report("s", 7, 0, lease.Keep)
	report("s", 5, 0, lease.Keep) // an older one
	report("s", 7, 0)             // again
	report("s2", 7, 1, lease.Keep)
	report("", 7, 1, lease.Keep)
	through("s", 7)
	through("s2", 7)
	through("", 0)
	_, effects, err := f.Apply(ctx, k, of("q", 1), &store.Batch{Epoch: 1, Spool: "s", Sequence: 99, Probe: "q"})
	must(t, err)
	if !slices.Equal(effects, []lease.Effect{lease.Reject}) {
		t.Fatalf("effects %v", effects)
	}
	through("s", 7) // a stranger's word
	f.reopen()
	through("s", 7)
	_, bs, err := f.Batches(ctx, k)
	must(t, err)
	var got []string
	for _, b := range bs {
		got = append(got, fmt.Sprint(b.Spool, b.Sequence))
	}
	if want := []string{"s7", "s5", "s27", "7"}; !slices.Equal(got, want) {
		t.Errorf("batches %q, want %q", got, want)
	}

	put := func(probe, spool string, sequence uint64, detail string) {
		t.Helper()
		e := &pb.ProbeEvent{Kind: 1, Detail: detail}
		must(t, f.PutEvent(ctx, store.ProbeEvent{Probe: probe, Spool: spool, Sequence: sequence, Event: e}))
	}
	put("p", "s", 8, "one")
	put("p", "s", 9, "two")
	put("p", "s", 8, "one")
	put("q", "s3", 1, "other")
	put("p", "s4", 8, "three")
	through("s", 9)
	through("s4", 8)
	f.reopen()
	events := func(n int, want ...string) {
		t.Helper()
		es, err := f.Events(ctx, "p", n)
		must(t, err)
		var got []*pb.ProbeEvent
		for _, w := range want {
			got = append(got, &pb.ProbeEvent{Kind: 1, Detail: w})
		}
		if diff := cmp.Diff(got, es, protocmp.Transform()); diff != "" {
			t.Errorf("events -want +got\n%s", diff)
		}
	}
	events(9, "one", "two", "three")
	events(2, "two", "three")
	report("s", 10, 2, lease.Keep, lease.Finish)
	through("s", 10)
	put("p", "s", 8, "one") // sent again
	through("s", 10)
	// The chunk is over: what comes is known, though nothing is kept.
	report("s", 11, 2)
	through("s", 11)
}

// testSummon: it is about a session, and the next one knows nothing of it.
func testSummon(t *testing.T, f *fixture) {
	open := func(probe, id, controller string) {
		t.Helper()
		must(t, f.OpenSession(ctx, store.Session{Probe: probe, ID: id, Instance: "i", Controller: controller}, time.Minute))
	}
	are := func(controller, want string) {
		t.Helper()
		got, err := f.Summoned(ctx, controller)
		must(t, err)
		if s := fmt.Sprint(got); s != want {
			t.Errorf("summoned from %s: %s, want %s", controller, s, want)
		}
	}
	open("p", "1", "c1")
	open("q", "1", "c1")
	open("r", "1", "c2")
	are("c1", "map[]")
	must(t, f.Summon(ctx, []string{"r", "p", "nobody"}, []string{"c3:1", "c3:2"}))
	are("c1", "map[p:[c3:1 c3:2]]")
	are("c2", "map[r:[c3:1 c3:2]]")
	must(t, f.Summon(ctx, []string{"p"}, []string{"c4:1"}))
	f.reopen()
	are("c1", "map[p:[c4:1]]")
	open("p", "2", "c1") // it came back
	are("c1", "map[]")
	must(t, f.Summon(ctx, []string{"p"}, []string{"c4:1"}))
	are("c1", "map[p:[c4:1]]")
	open("p", "3", "c4")
	are("c1", "map[]")
	are("c4", "map[]")
}
