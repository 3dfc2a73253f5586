package reflector

import (
	"net/netip"
	"sync"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// remembered is how many arrivals are: a thousand probes that come back at
	// once make some six each.
	remembered = 16384
	// alarms that are remembered; of a listener in trouble the newest count.
	rememberedAlarms = 256
	// lasts is for how long: a self-test takes a minute at the most.
	lasts = 5 * time.Minute
	// patience is how long a connection may take: who tests itself waits for the
	// end of those that are dead.
	patience = 5 * time.Second
)

// Mirror is a TFO listener that remembers what arrived.
type Mirror struct {
	listener *tfo.Listener
	now      func() time.Time

	mu       sync.Mutex
	arrivals []arrival // oldest first
	alarms   []tfo.Alarm
}

// arrival is one with what names it.
type arrival struct {
	*tfo.Arrival
	at  time.Time
	tag measure.Tag
	ok  bool // there is a tag
}

// Open starts a mirror. The key makes cookies that outlive the process; with
// none they are the kernel's.
func Open(addr netip.AddrPort, ns tfo.NetNS, keys ...tfo.Key) (*Mirror, error) {
	m := &Mirror{now: time.Now}
	var err error
	m.listener, err = tfo.Listen(tfo.ListenConfig{Addr: addr, NetNS: ns, Keys: keys, Patience: patience, Arrived: m.arrived, Alarm: m.alarm})
	return m, err
}

// Addr is where the mirror listens.
func (m *Mirror) Addr() netip.AddrPort { return m.listener.Addr() }

// Close ends the listener.
func (m *Mirror) Close() error { return m.listener.Close() }

func (m *Mirror) arrived(a *tfo.Arrival) {
	tag, ok := measure.TagOf(a.Request)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
	m.arrivals = append(m.arrivals, arrival{a, m.now(), tag, ok})
}

// forget drops what is old, and the oldest of too many.
func (m *Mirror) forget() {
	n := max(0, len(m.arrivals)+1-remembered)
	for n < len(m.arrivals) && m.now().Sub(m.arrivals[n].at) > lasts {
		n++
	}
	clear(m.arrivals[:n]) // the array lives on
	m.arrivals = m.arrivals[n:]
}

func (m *Mirror) alarm(a tfo.Alarm) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alarms = append(m.alarms, a)
	if len(m.alarms) > rememberedAlarms {
		m.alarms = m.alarms[1:]
	}
}

// Seen is what the mirror saw of the measurement with the nonce: the arrivals
// with it, those without any tag from the same addresses since the first of
// them, and the alarms in that time. It is empty for a nonce that never came.
func (m *Mirror) Seen(nonce measure.Nonce) *pb.ArrivalBatch {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := make(map[netip.Addr]bool)
	for _, a := range m.arrivals {
		if a.ok && a.tag.Nonce == nonce {
			from[a.Peer.Addr().Unmap()] = true
		}
	}
	batch := &pb.ArrivalBatch{}
	var since time.Time
	for _, a := range m.arrivals {
		if a.ok && a.tag.Nonce == nonce || !a.ok && from[a.Peer.Addr().Unmap()] {
			batch.Arrivals = append(batch.Arrivals, measure.ArrivalToWire(a.Arrival))
			if since.IsZero() {
				since = a.Accepted
			}
		}
	}
	for _, a := range m.alarms {
		if !since.IsZero() && !a.Time.Before(since) {
			batch.Alarms = append(batch.Alarms, measure.AlarmToWire(a))
		}
	}
	return batch
}
