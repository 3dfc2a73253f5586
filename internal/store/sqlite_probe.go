package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pb "tfofleet/proto/tfofleet/v1"
)

// PutProbe implements Store.
func (s *SQLite) PutProbe(ctx context.Context, p Probe) error {
	host, err := proto.Marshal(p.Host)
	if err != nil {
		return err
	}
	return s.call(ctx, func(t *tx) error {
		t.exec(`INSERT INTO probe (name, version, host) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET version = excluded.version, host = excluded.host`,
			p.Name, p.Version, notNil(host))
		return nil
	})
}

// Probe implements Store.
func (s *SQLite) Probe(ctx context.Context, name string) (Probe, error) {
	return ask(ctx, s, func(t *tx) (Probe, error) {
		found := t.probes(`WHERE name = ?`, name)
		if len(found) == 0 {
			return Probe{}, fmt.Errorf("probe %s: %w", name, ErrNotFound)
		}
		return found[0], nil
	})
}

// AllProbes implements Store.
func (s *SQLite) AllProbes(ctx context.Context) ([]Probe, error) {
	return ask(ctx, s, func(t *tx) ([]Probe, error) { return t.probes(``), nil })
}

// Probes implements Store.
func (s *SQLite) Probes(ctx context.Context, survey string) ([]Probe, error) {
	return ask(ctx, s, func(t *tx) ([]Probe, error) {
		return t.probes(`JOIN survey_probe ON probe = name WHERE survey = ?`, survey), nil
	})
}

// probes are the probes of a query, by name.
func (t *tx) probes(where string, args ...any) (found []Probe) {
	t.each(`SELECT name, version, host, drained, rate FROM probe `+where+` ORDER BY name`, args, func(scan func(...any)) {
		p := Probe{Host: new(pb.Host)}
		var host []byte
		scan(&p.Name, &p.Version, &host, &p.Drained, &p.Rate)
		if t.err == nil {
			t.err = proto.Unmarshal(host, p.Host)
		}
		found = append(found, p)
	})
	return found
}

// DrainProbe implements Store.
func (s *SQLite) DrainProbe(ctx context.Context, name string, drained bool) error {
	return s.call(ctx, func(t *tx) error {
		t.exec(`INSERT INTO probe (name, version, host, drained) VALUES (?, '', x'', ?) ON CONFLICT DO UPDATE SET drained = excluded.drained`, name, drained)
		return nil
	})
}

// LimitProbe implements Store.
func (s *SQLite) LimitProbe(ctx context.Context, name string, rate float64) error {
	return s.call(ctx, func(t *tx) error {
		t.exec(`INSERT INTO probe (name, version, host, rate) VALUES (?, '', x'', ?) ON CONFLICT DO UPDATE SET rate = excluded.rate`, name, rate)
		return nil
	})
}

// limits is the query of Limits. Both databases understand it.
const limits = `SELECT name, rate FROM probe WHERE rate > 0`

// Limits implements Store.
func (s *SQLite) Limits(ctx context.Context) (map[string]float64, error) {
	return ask(ctx, s, func(t *tx) (map[string]float64, error) {
		rates := make(map[string]float64)
		t.each(limits, nil, func(scan func(...any)) {
			var name string
			var rate float64
			scan(&name, &rate)
			rates[name] = rate
		})
		return rates, nil
	})
}

// PutEvent implements Store.
func (s *SQLite) PutEvent(ctx context.Context, e ProbeEvent) error {
	body, err := proto.Marshal(e.Event)
	if err != nil {
		return err
	}
	return s.call(ctx, func(t *tx) error {
		t.exec(`INSERT INTO probe_event (probe, spool, sequence, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, e.Probe, e.Spool, int64(e.Sequence), notNil(body))
		t.through(e.Spool, e.Sequence)
		return nil
	})
}

// Events implements Store.
func (s *SQLite) Events(ctx context.Context, probe string, n int) ([]*pb.ProbeEvent, error) {
	return ask(ctx, s, func(t *tx) (events []*pb.ProbeEvent, err error) {
		t.each(`SELECT body FROM probe_event WHERE probe = ? ORDER BY id DESC LIMIT ?`, []any{probe, n}, func(scan func(...any)) {
			e := new(pb.ProbeEvent)
			var body []byte
			scan(&body)
			if t.err == nil {
				t.err = proto.Unmarshal(body, e)
			}
			events = append(events, e)
		})
		slices.Reverse(events)
		return events, nil
	})
}

// SpoolThrough implements Store.
func (s *SQLite) SpoolThrough(ctx context.Context, spool string) (uint64, error) {
	return ask(ctx, s, func(t *tx) (uint64, error) {
		t.flush()
		var through int64
		t.get(`SELECT through FROM spool WHERE id = ?`, []any{spool}, &through)
		return uint64(through), nil
	})
}

// through notes that a spool came so far.
func (t *tx) through(spool string, sequence uint64) {
	if spool != "" {
		t.spools[spool] = max(t.spools[spool], sequence)
	}
}

// OpenSession implements Store.
func (s *SQLite) OpenSession(ctx context.Context, v Session, stale time.Duration) error {
	return s.call(ctx, func(t *tx) error {
		now := t.now.UnixNano()
		if t.exec(`INSERT INTO session (probe, id, instance, hostname, controller, since, heard, stale, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)
			ON CONFLICT DO UPDATE SET id = excluded.id, instance = excluded.instance, hostname = excluded.hostname, controller = excluded.controller,
				since = excluded.since, heard = excluded.heard, stale = excluded.stale, state = excluded.state
			WHERE instance = excluded.instance OR heard <= excluded.heard - excluded.stale`,
			v.Probe, v.ID, v.Instance, v.Hostname, v.Controller, now, int64(stale), notNil(v.State)) > 0 {
			return nil
		}
		for _, there := range t.sessions(`probe = ?`, v.Probe) {
			return &TakenError{there}
		}
		return t.err
	})
}

// Beat implements Store.
func (s *SQLite) Beat(ctx context.Context, probe, id string, state []byte) error {
	return s.call(ctx, func(t *tx) error {
		if t.exec(`UPDATE session SET heard = ?, state = ? WHERE probe = ? AND id = ?`, t.now.UnixNano(), notNil(state), probe, id) == 0 {
			return noSession(probe, id)
		}
		return nil
	})
}

// CloseSession implements Store.
func (s *SQLite) CloseSession(ctx context.Context, probe, id string) error {
	return s.call(ctx, func(t *tx) error {
		t.exec(`DELETE FROM session WHERE probe = ? AND id = ?`, probe, id)
		return nil
	})
}

// summoned is the query of Summoned. Both databases understand it.
const summoned = `SELECT summons.probe, addresses FROM summons JOIN session ON session.probe = summons.probe AND session.id = summons.session WHERE controller = $1`

// Summon implements Store.
func (s *SQLite) Summon(ctx context.Context, probes, addresses []string) error {
	return s.call(ctx, func(t *tx) error {
		for _, probe := range probes {
			t.exec(`INSERT INTO summons (probe, session, addresses) SELECT probe, id, ?2 FROM session WHERE probe = ?1
				ON CONFLICT DO UPDATE SET session = excluded.session, addresses = excluded.addresses`, probe, strings.Join(addresses, ","))
		}
		return nil
	})
}

// Summoned implements Store.
func (s *SQLite) Summoned(ctx context.Context, controller string) (map[string][]string, error) {
	return ask(ctx, s, func(t *tx) (map[string][]string, error) {
		to := make(map[string][]string)
		t.each(summoned, []any{controller}, func(scan func(...any)) {
			var probe, addresses string
			scan(&probe, &addresses)
			to[probe] = strings.Split(addresses, ",")
		})
		return to, nil
	})
}

// Sessions implements Store.
func (s *SQLite) Sessions(ctx context.Context, stale time.Duration) ([]Session, error) {
	return ask(ctx, s, func(t *tx) ([]Session, error) {
		return t.sessions(`heard > ?`, t.now.Add(-stale).UnixNano()), nil
	})
}

// sessions are those that meet a condition, by the name of the probe.
func (t *tx) sessions(where string, args ...any) (found []Session) {
	t.each(`SELECT probe, id, instance, hostname, controller, since, heard, state FROM session WHERE `+where+` ORDER BY probe`, args, func(scan func(...any)) {
		var v Session
		var since, heard int64
		scan(&v.Probe, &v.ID, &v.Instance, &v.Hostname, &v.Controller, &since, &heard, &v.State)
		v.Since, v.Heard = time.Unix(0, since).UTC(), time.Unix(0, heard).UTC()
		found = append(found, v)
	})
	return found
}

// Freeze implements Store.
func (s *SQLite) Freeze(ctx context.Context, d time.Duration) error {
	return s.call(ctx, func(t *tx) error {
		t.exec(`INSERT INTO frozen (one, until) VALUES (1, ?) ON CONFLICT DO UPDATE SET until = max(until, excluded.until)`, t.now.Add(d).UnixNano())
		return nil
	})
}

// frozen is until when no TTL lapses.
func (t *tx) frozen() time.Time {
	var until int64
	if !t.get(`SELECT until FROM frozen`, nil, &until) {
		return time.Time{}
	}
	return time.Unix(0, until).UTC()
}
