package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
)

func config(path string) Config {
	return Config{Path: path, Logger: hclog.NewNullLogger(), BootID: "boot"}
}

func open(t *testing.T, cfg Config) (*Spool, *Recovery) {
	t.Helper()
	s, r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

// crash ends a spool as SIGKILL would: nothing more is written.
func (s *Spool) crash() {
	s.mu.Lock()
	s.closing = true
	s.broken = errors.New("killed")
	s.mu.Unlock()
	s.poke()
	<-s.done
	s.db.Close()
}

func path(t *testing.T) string { return filepath.Join(t.TempDir(), "spool.db") }

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func result(l Lease, data string, items ...uint32) Record {
	return Record{Kind: KindResult, Lease: l, Items: items, Data: []byte(data)}
}

// queued returns all that is to be sent.
func queued(t *testing.T, s *Spool) []Record {
	t.Helper()
	must(t, s.Sync())
	rs, err := s.read(0, 1<<30)
	must(t, err)
	return rs
}

// results are the queued records without the events.
func results(t *testing.T, s *Spool) (rs []Record) {
	t.Helper()
	return slices.DeleteFunc(queued(t, s), func(r Record) bool { return r.Kind == KindEvent })
}

func events(t *testing.T, s *Spool) (kinds []EventKind) {
	t.Helper()
	for _, r := range queued(t, s) {
		if r.Kind == KindEvent {
			e, err := ParseEvent(r.Data)
			must(t, err)
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

var leaseA, leaseB = Lease{"survey", 1, 1}, Lease{"survey", 2, 7}

func TestCrash(t *testing.T) {
	cfg := config(path(t))
	s, r := open(t, cfg)
	if !r.Created || r.Crashed || len(r.Leases) != 0 {
		t.Errorf("a new one: %+v", r)
	}
	must(t, s.Accept(leaseA, []uint32{2, 3, 5, 8, 13}, []byte("offer A")))
	must(t, s.Accept(leaseB, []uint32{0}, []byte("offer B")))
	must(t, s.Start(leaseA, 2, 5, 8))
	must(t, s.Append(result(leaseA, "two", 2)))
	must(t, s.Append(result(leaseA, "thirteen, refused without a start", 13)))
	must(t, s.Sync())
	must(t, s.Append(result(leaseA, "not durable", 5)))
	first := results(t, s)[:2]
	s.crash()

	s, r = open(t, cfg)
	defer s.Close()
	want := &Recovery{Crashed: true, Leases: []Held{
		{Lease: leaseA, Offer: []byte("offer A"), Interrupted: []uint32{8}, Fresh: []uint32{3}, Queued: 3},
		{Lease: leaseB, Offer: []byte("offer B"), Fresh: []uint32{0}},
	}}
	if d := cmp.Diff(want, r); d != "" {
		t.Error("recovery", d)
	}
	if got := results(t, s); !cmp.Equal(got[:2], first, cmp.Comparer(time.Time.Equal)) {
		t.Errorf("sent again: %+v, want %+v", got, first)
	}
	if got := events(t, s); !slices.Equal(got, []EventKind{EventStart, EventCrashFound, EventStart}) {
		t.Errorf("events %v", got)
	}
	for _, i := range []uint32{2, 5, 8, 13} {
		if err := s.Start(leaseA, i); !errors.Is(err, ErrStarted) {
			t.Errorf("target %d is started again: %v", i, err)
		}
	}
	must(t, s.Start(leaseA, 3))
}

// Start marks all of its targets or none.
func TestStartRefused(t *testing.T) {
	s, _ := open(t, config(path(t)))
	defer s.Close()
	must(t, s.Accept(leaseA, []uint32{1, 2, 3}, nil))
	must(t, s.Start(leaseA, 1))
	if err := s.Start(leaseA, 2, 1); !errors.Is(err, ErrStarted) {
		t.Error(err)
	}
	if err := s.Start(leaseA, 2, 4); err == nil {
		t.Error("a target that is not of the lease")
	}
	if err := s.Start(leaseB, 2); !errors.Is(err, ErrUnknownLease) {
		t.Error(err)
	}
	must(t, s.Start(leaseA, 2))
}

func TestAcceptRefused(t *testing.T) {
	s, _ := open(t, config(path(t)))
	defer s.Close()
	if err := s.Accept(leaseA, nil, nil); err == nil {
		t.Error("no targets")
	}
	if err := s.Accept(leaseA, []uint32{maxIndex}, nil); err == nil {
		t.Error("index out of range")
	}
	if err := s.Accept(leaseA, []uint32{0}, make([]byte, MaxData+1)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if err := s.Append(Record{Kind: KindResult, Data: make([]byte, MaxData+1)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if err := s.Append(result(leaseA, "", maxIndex)); err == nil {
		t.Error("index out of range")
	}
	must(t, s.Accept(leaseA, []uint32{maxIndex - 1}, make([]byte, MaxData)))
	must(t, s.Append(Record{Kind: KindResult, Lease: leaseA, Items: []uint32{maxIndex - 1}, Data: make([]byte, MaxData)}))
	if rs := results(t, s); len(rs) != 1 || len(rs[0].Data) != MaxData {
		t.Error("the largest record")
	}
}

// A lease goes with the acknowledgement of the last record about it, and not
// before all of its targets have one.
func TestLeaseIsOver(t *testing.T) {
	cfg := config(path(t))
	var over []Lease
	s, _ := open(t, cfg)
	s.OnFinished(func(l Lease) { over = append(over, l) })
	must(t, s.Accept(leaseA, []uint32{0, 1, 2}, []byte("offer")))
	must(t, s.Append(result(leaseA, "a", 0)))
	rs := results(t, s)
	s.Ack(rs[0].Key)
	must(t, s.Sync())
	if len(over) != 0 || s.Status().Leases != 1 {
		t.Error("two targets have no result")
	}
	must(t, s.Append(result(leaseA, "b", 2, 1, 2)))
	rs = results(t, s)
	if len(rs) != 1 || !slices.Equal(rs[0].Items, []uint32{1, 2}) {
		t.Fatalf("%+v", rs)
	}
	if len(over) != 0 {
		t.Error("the last record was not acknowledged")
	}
	s.Ack(rs[0].Key, rs[0].Key)
	s.Ack(rs[0].Key)
	must(t, s.Sync())
	if !slices.Equal(over, []Lease{leaseA}) || s.Status().Leases != 0 {
		t.Errorf("over: %v", over)
	}
	must(t, s.Close())
	s, r := open(t, cfg)
	defer s.Close()
	if r.Crashed || r.Rebooted || len(r.Leases) != 0 || len(results(t, s)) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestForget(t *testing.T) {
	s, _ := open(t, config(path(t)))
	defer s.Close()
	must(t, s.Accept(leaseA, []uint32{0, 1}, nil))
	must(t, s.Append(result(leaseA, "late", 0)))
	must(t, s.Forget(leaseA))
	must(t, s.Append(result(leaseA, "later", 1)))
	if rs := results(t, s); len(rs) != 2 {
		t.Errorf("what was measured is sent: %v", rs)
	}
	if err := s.Start(leaseA, 1); !errors.Is(err, ErrUnknownLease) {
		t.Error(err)
	}
	must(t, s.Forget(leaseA))
}

// An old acknowledgement, of another spool under the same number, removes
// nothing.
func TestAckOfAnother(t *testing.T) {
	s, _ := open(t, config(path(t)))
	defer s.Close()
	must(t, s.Append(result(leaseA, "a", 0)))
	k := results(t, s)[0].Key
	s.Ack(Key{newID(), k.Sequence}, Key{k.Spool, k.Sequence + 100})
	must(t, s.Sync())
	if len(results(t, s)) != 1 {
		t.Error("the record is gone")
	}
}

func TestNext(t *testing.T) {
	s, _ := open(t, config(path(t)))
	ctx := context.Background()
	for i := range 10 {
		must(t, s.Append(result(leaseA, fmt.Sprint(i), uint32(i))))
	}
	must(t, s.Sync())
	var got []string
	after := uint64(0)
	for len(got) < 11 {
		rs, err := s.Next(ctx, after, 100)
		must(t, err)
		if len(rs) > 3 {
			t.Errorf("%d records in 100 bytes", len(rs))
		}
		for _, r := range rs {
			if r.Key.Sequence != after+1 || r.Key.Spool != s.Status().ID {
				t.Errorf("key %v after %d", r.Key, after)
			}
			got = append(got, string(r.Data))
			after = r.Key.Sequence
		}
	}
	if d := cmp.Diff([]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, got[1:]); d != "" {
		t.Error(d)
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Next(short, after, 100); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	came := make(chan Record)
	go func() {
		rs, err := s.Next(ctx, after, 100)
		if err != nil {
			t.Error(err)
		}
		came <- rs[0]
		_, err = s.Next(ctx, after+1, 100)
		if !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		close(came)
	}()
	must(t, s.Append(result(leaseA, "new", 11)))
	if r := <-came; string(r.Data) != "new" {
		t.Errorf("%+v", r)
	}
	must(t, s.Close())
	<-came
}

func TestReject(t *testing.T) {
	cfg := config(path(t))
	over := 0
	s, _ := open(t, cfg)
	s.OnFinished(func(Lease) { over++ })
	must(t, s.Accept(leaseA, []uint32{0, 1}, nil))
	must(t, s.Append(result(leaseA, "bad", 0)))
	must(t, s.Append(result(leaseA, "good", 1)))
	rs := results(t, s)
	must(t, s.Reject(rs[0].Key, "no such survey"))
	must(t, s.Reject(rs[0].Key, "twice"))
	s.Ack(rs[0].Key) // comes too late
	if got := results(t, s); len(got) != 1 || string(got[0].Data) != "good" {
		t.Errorf("the queue goes on: %v", got)
	}
	s.Ack(rs[1].Key)
	must(t, s.Sync())
	if over != 1 {
		t.Error("a rejected record holds up its lease")
	}
	if n := s.Status().Quarantined; n != 1 {
		t.Errorf("%d in quarantine", n)
	}
	check := func(st Status, rejected []Rejected) {
		t.Helper()
		if st.Quarantined != 1 || len(rejected) != 1 {
			t.Fatalf("%+v %+v", st, rejected)
		}
		if r := rejected[0]; r.Reason != "no such survey" || string(r.Record.Data) != "bad" || r.Record.Key != rs[0].Key || time.Since(r.Time) > time.Minute {
			t.Errorf("%+v", r)
		}
	}
	if _, _, err := Inspect(cfg.Path); !errors.Is(err, ErrLocked) {
		t.Errorf("while it is open: %v", err)
	}
	must(t, s.Close())
	st, rejected, err := Inspect(cfg.Path)
	must(t, err)
	check(st, rejected)

	s, _ = open(t, cfg)
	defer s.Close()
	if n, err := s.Retry(); n != 1 || err != nil {
		t.Error(n, err)
	}
	if got := results(t, s); len(got) != 1 || got[0].Key != rs[0].Key || s.Status().Quarantined != 0 {
		t.Errorf("under the same key: %v, want %v", got, rs[0].Key)
	}
}

func TestOneProcess(t *testing.T) {
	cfg := config(path(t))
	s, _ := open(t, cfg)
	if _, _, err := Open(cfg); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	must(t, s.Close())
	for _, err := range []error{
		s.Close(), s.Accept(leaseA, []uint32{0}, nil), s.Start(leaseA, 0), s.Append(Record{}), s.Sync(), s.Forget(leaseA), s.Reject(Key{}, ""),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	s.Ack(Key{Sequence: 1})
	if s.Credit() {
		t.Error("credit after Close")
	}
	info, err := os.Stat(cfg.Path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(cfg.Path), "*"))
	must(t, err)
	if len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

func TestReboot(t *testing.T) {
	cfg := config(path(t))
	s, _ := open(t, cfg)
	must(t, s.Close())
	cfg.BootID = "another"
	s, r := open(t, cfg)
	if r.Crashed || !r.Rebooted {
		t.Errorf("%+v", r)
	}
	s.crash()
	cfg.BootID = "third"
	s, r = open(t, cfg)
	defer s.Close()
	if !r.Crashed || !r.Rebooted {
		t.Errorf("%+v", r)
	}
}

// Whatever is put back, no key is ever given to two records.
func TestRestoredSnapshot(t *testing.T) {
	cfg := config(path(t))
	content := map[Key]string{}
	see := func(s *Spool) {
		for _, r := range queued(t, s) {
			if before, ok := content[r.Key]; ok && before != string(r.Data) {
				t.Errorf("key %v: %q and %q", r.Key, before, r.Data)
			}
			content[r.Key] = string(r.Data)
		}
	}
	s, _ := open(t, cfg)
	must(t, s.Append(result(leaseA, "before", 0)))
	see(s)
	must(t, s.Close())
	snapshot, err := os.ReadFile(cfg.Path)
	must(t, err)

	s, _ = open(t, cfg)
	for i := range 5 {
		must(t, s.Append(result(leaseA, fmt.Sprint("lost future ", i), uint32(i))))
	}
	see(s)
	last := queued(t, s)[len(queued(t, s))-1].Key
	if restored, err := s.Reconcile(last); restored || err != nil {
		t.Error("nothing happened yet", err)
	}
	must(t, s.Close())

	must(t, os.WriteFile(cfg.Path, snapshot, 0o600))
	s, _ = open(t, cfg)
	defer s.Close()
	for i := range 10 {
		must(t, s.Append(result(leaseA, fmt.Sprint("new ", i), uint32(i))))
	}
	see(s)
	if restored, err := s.Reconcile(last); !restored || err != nil {
		t.Error("the controller has a record of a run this file does not know", err)
	}
	if got := events(t, s); got[len(got)-1] != EventRestored {
		t.Errorf("%v", got)
	}
	if restored, err := s.Reconcile(Key{}); restored || err != nil {
		t.Error("a new controller", err)
	}
	for _, r := range queued(t, s) { // each is one the controller may have as its last
		if restored, err := s.Reconcile(r.Key); restored || err != nil {
			t.Errorf("%v is here: %v", r.Key, err)
		}
	}

	// The process itself is put back: the controller has more of its run.
	before := results(t, s)
	id := s.Status().ID
	if restored, err := s.Reconcile(Key{id, s.Status().Spooled + 3}); !restored || err != nil {
		t.Error("records of this run that are not here", err)
	}
	for i, r := range results(t, s) {
		switch {
		case string(r.Data) != string(before[i].Data):
			t.Errorf("%q became %q", before[i].Data, r.Data)
		case r.Key.Spool == id:
			t.Errorf("%q keeps its key", r.Data)
		case string(r.Data) == "before" && r.Key != before[i].Key:
			t.Errorf("%q is of another run and has a new key", r.Data)
		}
	}
}

// The ids of old runs are forgotten only when nothing has them any more.
func TestRunsArePruned(t *testing.T) {
	cfg := config(path(t))
	keys := map[string]Key{}
	for i := range 20 {
		s, _ := open(t, cfg)
		switch i {
		case 3:
			must(t, s.Append(result(leaseA, "rejected", 0)))
			keys["rejected"] = results(t, s)[0].Key
			must(t, s.Reject(keys["rejected"], ""))
		case 5:
			must(t, s.Append(result(leaseA, "acked", 0)))
			keys["acked"] = results(t, s)[0].Key
		}
		for _, r := range queued(t, s) {
			s.Ack(r.Key)
		}
		must(t, s.Close())
	}
	_, rejected, err := Inspect(cfg.Path)
	must(t, err)
	s, _ := open(t, cfg)
	defer s.Close()
	if rejected[0].Record.Key != keys["rejected"] {
		t.Error("a rejected record has another key")
	}
	_, err = s.Retry()
	must(t, err)
	for _, r := range queued(t, s) {
		s.Ack(r.Key)
	}
	must(t, s.Sync())
	before := len(s.durable.runs)
	must(t, s.Close())
	s, _ = open(t, cfg)
	defer s.Close()
	if after := len(s.durable.runs); after >= before || after > 4 {
		t.Errorf("%d runs, %d before", after, before)
	}
}
