package spool

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// model is what a spool promises, as simple as can be.
type model struct {
	leases map[Lease]*modelLease
	queue  []modelRecord // durable, oldest first
	fresh  []modelRecord
	aside  []modelRecord
}

type modelLease struct{ targets, started, settled map[uint32]bool }

type modelRecord struct {
	key   Key
	lease Lease
	items []uint32
}

// about counts what a lease still waits for.
func (m *model) about(l Lease) (n int) {
	for _, r := range m.queue {
		if r.lease == l {
			n++
		}
	}
	return n
}

// tidy removes leases that are over. touched says which may be by now.
func (m *model) tidy() {
	for name, l := range m.leases {
		if len(l.settled) == len(l.targets) && m.about(name) == 0 {
			delete(m.leases, name)
		}
	}
}

// TestModel does anything in any order, with crashes, restarts and full disks
// in between, and compares with the model after every step.
func TestModel(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		cfg := config(filepath.Join(dir, "spool.db"))
		os.Remove(cfg.Path)
		full := false
		var faulty atomic.Bool // is full
		var s *Spool
		fill := func(yes bool) { full = yes; faulty.Store(yes) }
		begin := func() *Recovery {
			var r *Recovery
			var err error
			if s, r, err = Open(cfg); err != nil {
				t.Fatal(err)
			}
			s.db.NoSync = true // nobody pulls the plug here
			s.fault = func() error {
				if faulty.Load() {
					return errFull
				}
				return nil
			}
			return r
		}
		begin()
		defer func() { s.Close() }()
		m := &model{leases: map[Lease]*modelLease{}}
		leases := rapid.SampledFrom([]Lease{leaseA, leaseB, {"other", 1, 2}})
		items := rapid.SliceOfNDistinct(rapid.Uint32Range(0, 5), 1, 4, rapid.ID)
		check := func(err error) bool {
			if errors.Is(err, errFull) != full {
				t.Fatalf("full is %v: %v", full, err)
			}
			return err == nil
		}
		sync := func() {
			if !check(s.Sync()) {
				return
			}
			rs, err := s.read(0, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			rs = slices.DeleteFunc(rs, func(r Record) bool { return r.Kind == KindEvent })
			for i, r := range rs[len(m.queue):] {
				m.fresh[i].key = r.Key
			}
			for _, r := range m.fresh {
				if l := m.leases[r.lease]; l != nil {
					for _, i := range r.items {
						if l.targets[i] {
							l.settled[i] = true
						}
					}
				}
			}
			m.queue, m.fresh = append(m.queue, m.fresh...), nil
			m.tidy()
		}
		t.Repeat(map[string]func(*rapid.T){
			"accept": func(t *rapid.T) {
				name, targets := leases.Draw(t, "lease"), items.Draw(t, "targets")
				sync() // what was appended before must not settle what is accepted after
				if full || !check(s.Accept(name, targets, []byte(name.Survey))) || m.leases[name] != nil {
					return
				}
				l := &modelLease{map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}}
				for _, i := range targets {
					l.targets[i] = true
				}
				m.leases[name] = l
			},
			"start": func(t *rapid.T) {
				sync()
				name, which := leases.Draw(t, "lease"), items.Draw(t, "items")
				l := m.leases[name]
				if full {
					return
				}
				possible := l != nil && !slices.ContainsFunc(which, func(i uint32) bool { return !l.targets[i] || l.started[i] || l.settled[i] })
				if err := s.Start(name, which...); (err == nil) != possible {
					t.Fatalf("start %v %v: %v", name, which, err)
				}
				for _, i := range which {
					if possible {
						l.started[i] = true
					}
				}
			},
			"append": func(t *rapid.T) {
				r := modelRecord{lease: leases.Draw(t, "lease"), items: items.Draw(t, "items")}
				slices.Sort(r.items)
				if l := m.leases[r.lease]; l != nil { // one record for each target
					r.items = slices.DeleteFunc(r.items, func(i uint32) bool {
						return l.settled[i] || slices.ContainsFunc(m.fresh, func(f modelRecord) bool { return f.lease == r.lease && slices.Contains(f.items, i) })
					})
				}
				if len(r.items) == 0 {
					return
				}
				if err := s.Append(result(r.lease, "", r.items...)); err != nil {
					t.Fatal(err)
				}
				m.fresh = append(m.fresh, r)
			},
			"ack": func(t *rapid.T) {
				if len(m.queue) == 0 {
					return
				}
				i := rapid.IntRange(0, len(m.queue)-1).Draw(t, "record")
				if len(m.fresh) > 0 { // on a full disk the ack would overtake it, and might end its lease
					fill(false)
					sync()
				}
				s.Ack(m.queue[i].key)
				fill(false) // else a crash may undo it
				if err := s.Sync(); err != nil {
					t.Fatal(err)
				}
				m.queue = slices.Delete(m.queue, i, i+1)
				sync()
			},
			"reject": func(t *rapid.T) {
				sync()
				if len(m.queue) == 0 || full {
					return
				}
				i := rapid.IntRange(0, len(m.queue)-1).Draw(t, "record")
				check(s.Reject(m.queue[i].key, "reason"))
				m.aside = append(m.aside, m.queue[i])
				m.queue = slices.Delete(m.queue, i, i+1)
				m.tidy()
			},
			"retry": func(t *rapid.T) {
				sync()
				if full {
					return
				}
				if n, err := s.Retry(); err != nil || n != len(m.aside) {
					t.Fatal(n, err)
				}
				m.queue, m.aside = append(m.queue, m.aside...), nil
				slices.SortFunc(m.queue, func(a, b modelRecord) int { return int(a.key.Sequence) - int(b.key.Sequence) })
			},
			"forget": func(t *rapid.T) {
				sync()
				name := leases.Draw(t, "lease")
				if !full && check(s.Forget(name)) {
					delete(m.leases, name)
				}
			},
			"disk": func(t *rapid.T) { fill(!full) },
			"crash": func(t *rapid.T) {
				sync()
				s.crash()
				fill(false)
				m.fresh = nil
				r := begin()
				if !r.Crashed || len(r.Leases) != len(m.leases) {
					t.Fatalf("%+v, want %d leases", r, len(m.leases))
				}
				for _, h := range r.Leases {
					l := m.leases[h.Lease]
					for i := range uint32(6) {
						interrupted := l.targets[i] && l.started[i] && !l.settled[i]
						fresh := l.targets[i] && !l.started[i] && !l.settled[i]
						if interrupted != slices.Contains(h.Interrupted, i) || fresh != slices.Contains(h.Fresh, i) {
							t.Fatalf("target %d of %+v: %+v", i, h, l)
						}
					}
					if string(h.Offer) != h.Lease.Survey || h.Queued != m.about(h.Lease) {
						t.Fatalf("%+v, want %d", h, m.about(h.Lease))
					}
				}
			},
			"restart": func(t *rapid.T) {
				fill(false)
				sync()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if r := begin(); r.Crashed || len(r.Leases) != len(m.leases) {
					t.Fatalf("%+v, want %d leases", r, len(m.leases))
				}
			},
			"": func(t *rapid.T) {
				rs, err := s.read(0, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				rs = slices.DeleteFunc(rs, func(r Record) bool { return r.Kind == KindEvent })
				for i, want := range m.queue {
					if i >= len(rs) || rs[i].Key != want.key || rs[i].Lease != want.lease || !slices.Equal(rs[i].Items, want.items) {
						t.Fatalf("record %d is %+v, want %+v", i, rs, want)
					}
				}
				if st := s.Status(); st.Quarantined != len(m.aside) {
					t.Fatalf("%+v, want %d", st, len(m.aside))
				}
			},
		})
	})
	t.Logf("%d sequences", n)
}
