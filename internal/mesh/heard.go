package mesh

import (
	"net/netip"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// Heard is all that a server's listeners heard, sorted once so that what is of
// one measurement is found at once.
type Heard struct {
	of     map[measure.Nonce][]*tfo.Arrival
	rest   map[uint16][]*tfo.Arrival // without a nonce, by the listener's port
	alarms []tfo.Alarm
}

// Hear sorts what a server reported.
func Hear(arrivals []*tfo.Arrival, alarms []tfo.Alarm) *Heard {
	h := &Heard{rest: map[uint16][]*tfo.Arrival{}, alarms: alarms}
	var rest []*tfo.Arrival
	h.of, rest = measure.SortArrivals(arrivals)
	for _, a := range rest {
		h.rest[a.Local.Port()] = append(h.rest[a.Local.Port()], a)
	}
	return h
}

// Of is what may be of a measurement: every arrival that carries its nonce; of
// those that carry none, what came to the port while it ran; and the alarms of
// that time. Of a client that was lost only the nonce is known.
func (h *Heard) Of(nonce measure.Nonce, client *measure.Measurement) ([]*tfo.Arrival, []tfo.Alarm) {
	own := h.of[nonce]
	var w window
	var rest []*tfo.Arrival
	if client == nil {
		w = around(own)
	} else {
		rest = h.rest[client.Port]
		w = during(client.Attempts, own, rest)
	}
	arrivals := own[:len(own):len(own)]
	for _, a := range rest {
		if w.known && w.has(a.Accepted) {
			arrivals = append(arrivals, a)
		}
	}
	var alarms []tfo.Alarm
	for _, a := range h.alarms {
		// Where nothing arrived it is open when the measurement was, and whether
		// the alarm says why.
		if !w.known || w.has(a.Time) || lasting(a) && a.Time.Before(w.to) {
			alarms = append(alarms, a)
		}
	}
	return arrivals, alarms
}

// lasting tells alarms that are raised once, and hold until nobody says so.
func lasting(a tfo.Alarm) bool {
	return a.Kind == tfo.AlarmServerOff || a.Kind == tfo.AlarmQueueCapped || a.Kind == tfo.AlarmSyncookies && a.Count == 0
}

// window is the time of a measurement by the server's clock.
type window struct {
	from, to time.Time
	known    bool
}

// margin is how far the window reaches beyond what is known: two repetitions of
// a SYN take 3 s, and an alarm is up to a second late.
const margin = 4 * time.Second

func (w window) has(t time.Time) bool { return !t.Before(w.from) && !t.After(w.to) }

// around is the window of arrivals whose client is not known.
func around(own []*tfo.Arrival) (w window) {
	for _, a := range own {
		if !w.known || a.Accepted.Before(w.from) {
			w.from = a.Accepted
		}
		if !w.known || a.Accepted.After(w.to) {
			w.to = a.Accepted
		}
		w.known = true
	}
	w.from, w.to = w.from.Add(-margin), w.to.Add(margin)
	return w
}

// during is the time from the first attempt to the end of the last one, moved
// from the client's clock to the server's: the two need not agree. What arrived
// of an attempt tells how far they are apart; least is nearest, for a SYN is only
// ever late. Without any such arrival the window is not known, and no other
// arrival can be of the measurement.
func during(attempts []tfo.Evidence, own, rest []*tfo.Arrival) (w window) {
	if len(attempts) == 0 {
		return w
	}
	apart, ok := clocks(attempts, own, rest)
	if !ok {
		return w
	}
	last := &attempts[len(attempts)-1]
	return window{
		from:  attempts[0].Start.Add(apart - margin),
		to:    last.Start.Add(apart + time.Duration(max(0, last.TotalNS)) + margin),
		known: true,
	}
}

// clocks is how far the server's clock is ahead of the client's, by the surest
// kind of arrival there is: with the nonce, with the sequence number of an
// attempt's SYN, with its address and port.
func clocks(attempts []tfo.Evidence, own, rest []*tfo.Arrival) (apart time.Duration, ok bool) {
	note := func(a *tfo.Arrival, of *tfo.Evidence) {
		if d := a.Accepted.Sub(of.Start); !ok || d < apart {
			apart, ok = d, true
		}
	}
	for _, a := range own {
		if tag, _ := measure.TagOf(a.Request); tag.Attempt < len(attempts) {
			note(a, &attempts[tag.Attempt])
		}
	}
	for _, same := range []func(*tfo.Arrival, *tfo.Evidence) bool{sameISN, samePort} {
		if ok {
			break
		}
		for _, a := range rest {
			for i := range attempts {
				if same(a, &attempts[i]) {
					note(a, &attempts[i])
				}
			}
		}
	}
	return apart, ok
}

func sameISN(a *tfo.Arrival, ev *tfo.Evidence) bool {
	return ev.Wire != nil && ev.Wire.Syns > 0 && a.SYN.Raw != nil && a.SYN.Seq == ev.Wire.Syn.Seq
}

func samePort(a *tfo.Arrival, ev *tfo.Evidence) bool {
	return ev.Local.IsValid() && plain(a.Peer) == plain(ev.Local)
}

// plain is an address as both ends write it.
func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
