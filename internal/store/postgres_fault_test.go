package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"tfofleet/internal/identity"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store/pgtest"
	pb "tfofleet/proto/tfofleet/v1"
)

// wire is between a controller and its database. It breaks at one message of the
// controller, counted over all connections.
type wire struct {
	sent   bool            // the message gets to the database, and its answer is lost
	kill   func()          // kills the controller; nil if it can connect again
	hung   atomic.Bool     // what is sent is lost, and nobody is told
	healed context.Context // when it is done, connections that hang break

	mu     sync.Mutex
	at     int // the message, counted from arm; 0 for none
	n      int
	broken bool
}

// arm makes the wire break at a message.
func (w *wire) arm(at int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at, w.n, w.broken = at, 0, false
}

func (w *wire) isBroken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken
}

// cut breaks the wire. The lock is held.
func (w *wire) cut() {
	w.broken = true
	if w.kill != nil {
		w.kill()
	}
}

var errCut = errors.New("the wire was cut")

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if w.isBroken() && w.kill != nil {
		return nil, errCut
	}
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	return &wireConn{c, w}, err
}

type wireConn struct {
	net.Conn
	w *wire
}

func (c *wireConn) Write(b []byte) (int, error) {
	w := c.w
	if w.hung.Load() {
		context.AfterFunc(w.healed, func() { c.Conn.Close() })
		return len(b), nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	now := w.n == w.at
	if w.broken && w.kill != nil || now && !w.sent {
		w.cut()
		c.Conn.Close()
		return 0, errCut
	}
	n, err := c.Conn.Write(b)
	if now {
		w.cut()
		c.Conn.Close()
	}
	return n, err
}

// openOver opens the store at the other end of the wire.
func openOver(t testing.TB, url string, w *wire) *Postgres {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.DialFunc = w.dial
	s, err := openPostgres(context.Background(), cfg, Options{Rules: lease.DefaultRules(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPostgresCut breaks the connection of a controller at its first message to
// the database, at the second one, and so on until all that it had to do is
// done, before and after the message. In the end nothing is lost and nothing is
// there twice; the controller that lives goes on by itself, for one that was
// killed another one does.
func TestPostgresCut(t *testing.T) {
	for i, sent := range []bool{false, true, true} {
		mode := []Mode{Shard, Shard, Copies}[i]
		t.Run(fmt.Sprintf("mode=%d,sent=%v", mode, sent), func(t *testing.T) {
			t.Parallel()
			url := pgtest.New(t)
			w := &wire{sent: sent}
			a, b := openOver(t, url, w), openOver(t, url, new(wire))
			defer a.Close()
			defer b.Close()
			everyCut(t, func(t *testing.T, at int) *wire {
				w.arm(at)
				story{t, context.Background(), fmt.Sprint("cut at ", at), mode, a, b, w}.run()
				return w
			})
		})
		t.Run(fmt.Sprintf("mode=%d,sent=%v,killed", mode, sent), func(t *testing.T) {
			t.Parallel()
			url := pgtest.New(t)
			b := openOver(t, url, new(wire))
			defer b.Close()
			var closing sync.WaitGroup
			defer closing.Wait()
			everyCut(t, func(t *testing.T, at int) *wire {
				alive, kill := context.WithCancel(context.Background())
				defer kill()
				w := &wire{sent: sent, kill: kill}
				a := openOver(t, url, w)
				defer closing.Go(func() { a.Close() }) // it tries for a second
				w.arm(at)
				story{t, alive, fmt.Sprint("cut at ", at), mode, a, b, w}.run()
				return w
			})
		})
	}
}

// everyCut runs do until it ends before its wire breaks.
func everyCut(t *testing.T, do func(t *testing.T, at int) *wire) {
	for at := 1; ; at++ {
		w := do(t, at)
		if t.Failed() {
			t.Fatalf("cut at message %d", at)
		}
		if !w.isBroken() {
			if at < 20 {
				t.Errorf("all was done with %d messages", at)
			}
			return
		}
	}
}

// story is a chunk of two targets from its claim to its end.
type story struct {
	t      *testing.T
	alive  context.Context // of a
	survey string
	mode   Mode
	a, b   *Postgres
	w      *wire
}

func (s story) run() {
	ctx := context.Background()
	good := lease.Result(lease.Measured, measure.Supported)
	l := List{ID: s.survey, Targets: 2, ChunkSize: 2}
	s.must(s.b.PutList(ctx, l))
	_, err := s.b.CreateSurvey(ctx, Survey{ID: s.survey, Request: s.survey, List: l, Spec: &pb.SurveySpec{}, Mode: s.mode, Copies: 1, Probes: []string{s.survey}})
	s.must(err)
	_, err = s.b.SetPhase(ctx, s.survey, Running, "")
	s.must(err)

	session := Session{Probe: s.survey, ID: "1", Instance: "1"}
	s.do("session", func(ctx context.Context, p *Postgres) error { return p.OpenSession(ctx, session, time.Hour) })
	s.do("freeze", func(ctx context.Context, p *Postgres) error { return p.Freeze(ctx, time.Hour) })
	var c Chunk
	s.do("claim", func(ctx context.Context, p *Postgres) (err error) {
		// An offer that was never sent: the probe does not know of it.
		held, err := p.HeldBy(ctx, s.survey)
		if err != nil {
			return err
		}
		for _, h := range held {
			if _, _, err := p.Apply(ctx, h.Key, lease.Forgotten{Probe: s.survey}, nil); err != nil {
				return err
			}
		}
		c, err = p.Claim(ctx, s.survey, "1")
		return err
	})
	if c.Survey != s.survey || len(c.Items) != 2 {
		s.t.Fatalf("claimed %+v", c)
	}
	s.do("accept", func(ctx context.Context, p *Postgres) error {
		_, effects, err := p.Apply(ctx, c.Key, lease.Accept{Probe: s.survey, Epoch: c.Epoch}, nil)
		if slices.Contains(effects, lease.Drop) {
			s.t.Errorf("accept: effects %v", effects)
		}
		return err
	})
	finished := false
	for i := range 2 {
		s.do("report", func(ctx context.Context, p *Postgres) error {
			e := lease.Results{Probe: s.survey, Epoch: c.Epoch, Items: []lease.ItemResult{{Index: uint32(i), Result: good}}}
			_, effects, err := p.Apply(ctx, c.Key, e, &Batch{Epoch: c.Epoch, Spool: s.survey, Sequence: uint64(i), Probe: s.survey, Body: fmt.Append(nil, "batch ", i)})
			if slices.Contains(effects, lease.Reject) {
				s.t.Errorf("batch %d: effects %v", i, effects)
			}
			finished = finished || slices.Contains(effects, lease.Finish)
			return err
		})
	}
	if !finished && s.alive.Err() == nil {
		s.t.Error("nobody was told that the chunk is over")
	}
	s.do("beat", func(ctx context.Context, p *Postgres) error { return p.Beat(ctx, s.survey, "1", []byte("state")) })
	if there, err := s.b.Sessions(ctx, time.Hour); err != nil || !slices.ContainsFunc(there, func(v Session) bool { return v.Probe == s.survey && string(v.State) == "state" }) {
		s.t.Errorf("sessions %+v, %v", there, err)
	}
	s.do("event", func(ctx context.Context, p *Postgres) error {
		return p.PutEvent(ctx, ProbeEvent{Probe: s.survey, Spool: s.survey, Sequence: 2, Event: &pb.ProbeEvent{Detail: "x"}})
	})
	through, err := s.b.SpoolThrough(ctx, s.survey)
	s.must(err)
	events, err := s.b.Events(ctx, s.survey, 9)
	s.must(err)
	if through != 2 || len(events) != 1 {
		s.t.Errorf("the spool came to %d, with %d events", through, len(events))
	}
	s.do("unwritten", func(ctx context.Context, p *Postgres) error {
		for end := time.Now().Add(time.Minute); ; {
			unwritten, err := p.TakeUnwritten(ctx, "writer", time.Hour, 9)
			if err != nil || slices.Equal(unwritten, []Key{c.Key}) {
				return err
			}
			// The database may still be at what was asked over a connection that was cut,
			// or by a controller that was killed.
			if len(unwritten) > 0 || s.alive.Err() == nil && !s.w.isBroken() || time.Now().After(end) {
				return fmt.Errorf("to be written: %v", unwritten)
			}
		}
	})
	s.tally(good)
	var bodies []string
	s.do("batches", func(ctx context.Context, p *Postgres) error {
		_, bs, err := p.Batches(ctx, c.Key)
		bodies = nil
		for _, b := range bs {
			bodies = append(bodies, string(b.Body))
		}
		return err
	})
	if want := []string{"batch 0", "batch 1"}; !slices.Equal(bodies, want) {
		s.t.Errorf("batches %q, want %q", bodies, want)
	}
	s.do("written", func(ctx context.Context, p *Postgres) error {
		last, err := p.Written(ctx, c.Key, []lease.Item{good, good})
		if err == nil && !last {
			s.t.Error("the only chunk is not the last")
		}
		return err
	})
	s.tally(good)
	_, bs, err := s.b.Batches(ctx, c.Key)
	s.must(err)
	if len(bs) != 0 {
		s.t.Errorf("%d batches are left", len(bs))
	}
}

func (s story) tally(good lease.Item) {
	s.t.Helper()
	got, err := s.b.Tally(context.Background(), s.survey)
	s.must(err)
	var want lease.Tally
	want[good] = 2
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("tally:\n%s", diff)
	}
}

func (s story) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// do does a step at a, and at b if a was killed. A claim is made again when the
// one before was committed after all, unheard.
func (s story) do(what string, step func(context.Context, *Postgres) error) {
	s.t.Helper()
	twice := func(ctx context.Context, p *Postgres) error {
		err := step(ctx, p)
		if errors.Is(err, ErrNotFound) && s.w.isBroken() {
			err = step(ctx, p)
		}
		return err
	}
	err := twice(s.alive, s.a)
	if s.alive.Err() != nil {
		err = twice(context.Background(), s.b)
	}
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// TestPostgresRestart: idle connections that the server has closed are replaced.
func TestPostgresRestart(t *testing.T) {
	ctx := context.Background()
	url := pgtest.New(t)
	s := openOver(t, url, &wire{})
	defer s.Close()
	if err := s.PutList(ctx, List{ID: "l", Targets: 1, ChunkSize: 1}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, url)
	for range 3 {
		if _, err := c.Exec(ctx, `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.List(ctx, "l"); err != nil {
			t.Error(err)
		}
	}
}

// TestPostgresIdentityCut: an update is there or not when the connection breaks,
// and never twice; it is only at the commit that nobody knows.
func TestPostgresIdentityCut(t *testing.T) {
	ctx := context.Background()
	url := pgtest.New(t)
	b := openOver(t, url, &wire{})
	defer b.Close()
	used := func() (n int) {
		t.Helper()
		err := b.Identity().View(ctx, func(r identity.Reader) error {
			v, err := r.Token("t")
			n = v.Used
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := b.Identity().Update(ctx, func(tx identity.Tx) error { return tx.PutToken(identity.Token{ID: "t"}) }); err != nil {
		t.Fatal(err)
	}
	for _, sent := range []bool{false, true} {
		doubts := 0
		for at := 1; ; at++ {
			w := &wire{sent: sent}
			a := openOver(t, url, w)
			w.arm(at)
			before := used()
			err := a.Identity().Update(ctx, func(tx identity.Tx) error {
				v, err := tx.Token("t")
				if err != nil {
					return err
				}
				v.Used++
				return tx.PutToken(v)
			})
			a.Close()
			added := used() - before
			switch {
			case errors.Is(err, errDoubt):
				doubts++
				if added != 0 && added != 1 {
					t.Errorf("sent %v, cut at message %d: added %d times", sent, at, added)
				}
			case err != nil || added != 1:
				t.Errorf("sent %v, cut at message %d: added %d times, %v", sent, at, added, err)
			}
			if !w.isBroken() {
				break
			}
		}
		if doubts != 1 {
			t.Errorf("sent %v: %d commits in doubt, there is 1", sent, doubts)
		}
	}
}

// TestPostgresDoesNotAnswer: that the database hangs is told as its fault. A
// deadline would be taken for the caller's.
func TestPostgresDoesNotAnswer(t *testing.T) {
	ctx := context.Background()
	healed, heal := context.WithCancel(ctx)
	w := &wire{healed: healed}
	s := openOver(t, pgtest.New(t), w)
	defer s.Close()
	s.patience = 50 * time.Millisecond
	w.hung.Store(true)
	_, listErr := s.List(ctx, "l")
	_, claimErr := s.Claim(ctx, "p", "1")
	for _, err := range []error{listErr, claimErr} {
		if err == nil || !strings.Contains(err.Error(), "did not answer") || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	w.hung.Store(false)
	heal()
	s.patience = defaultPatience
	if _, err := s.List(ctx, "l"); !errors.Is(err, ErrNotFound) {
		t.Errorf("when it answers again: %v", err)
	}
}
