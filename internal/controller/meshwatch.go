package controller

import (
	"fmt"
	"slices"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/targets"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// giveUp says who has not done his part in time.
func (m *meshRun) giveUp(phase pb.MeshPhase, done func(*meshMember) bool) {
	for _, p := range m.sorted() {
		if p.lost || done(p) {
			continue
		}
		switch phase {
		case pb.MeshPhase_MESH_PHASE_LISTENING:
			m.trouble(p, "did not say whether it listens")
			p.listening, p.listenOver = []*pb.Listening{}, true
			m.s.endTask(p.listen)
		case pb.MeshPhase_MESH_PHASE_MEASURING:
			m.trouble(p, fmt.Sprintf("is not done within the %v that the mesh may take: it made %d of %d measurements", m.lifetime, p.reported, p.peers))
			m.s.endTask(p.connect)
		case pb.MeshPhase_MESH_PHASE_JOINING:
			if !p.listenOver {
				p.deaf = true
				m.trouble(p, "did not report all that its listeners saw")
			}
		}
	}
}

// look takes what came since the last look, and notes who is away.
func (m *meshRun) look() {
	now := time.Now()
	for _, p := range m.sorted() {
		m.s.mu.Lock()
		session := m.s.sessions[p.probe]
		m.s.mu.Unlock()
		switch {
		case session == nil && p.awaySince.IsZero():
			p.awaySince = now
		case session == nil:
			if now.Sub(p.awaySince) > m.s.meshTimes.away {
				m.lose(p, "is gone")
			}
		case session.instance != p.instance:
			m.lose(p, "was started again, and knows nothing of the mesh")
		default:
			p.awaySince = time.Time{}
			p.near = session.near()
			if session.id != p.session {
				p.session = session.id
				m.s.remind(p.listen)
				m.s.remind(p.connect)
			}
		}
		taken, parts, over := p.listen.take()
		if taken != nil && p.listening == nil {
			m.listens(p, taken)
		}
		m.heard(p, parts)
		p.listenOver = p.listenOver || over
		if p.connect == nil {
			continue
		}
		taken, parts, over = p.connect.take()
		m.heard(p, parts)
		if taken.GetRefused() != "" && !p.connectOver {
			m.trouble(p, "does not connect: "+taken.GetRefused())
		}
		p.connectOver = p.connectOver || over
	}
}

func (m *meshRun) lose(p *meshMember, how string) {
	if !p.lost {
		p.lost = true
		m.trouble(p, how)
	}
}

func (m *meshRun) listens(p *meshMember, taken *pb.TaskState) {
	p.listening = taken.GetListening()
	if p.listening == nil {
		p.listening = []*pb.Listening{}
	}
	if why := taken.GetRefused(); why != "" {
		m.trouble(p, "does not listen: "+why)
		return
	}
	for _, l := range p.listening {
		if l.GetFailed() != "" {
			m.trouble(p, fmt.Sprintf("does not listen on port %d: %s", l.GetPort(), l.GetFailed()))
		}
	}
}

// heard takes parts of what came of a probe's tasks.
func (m *meshRun) heard(p *meshMember, parts []*pb.ReportTaskRequest) {
	for _, part := range parts {
		if why := part.GetFailed(); why != "" {
			p.deaf = true
			m.trouble(p, "did not do all that it was asked: "+why)
		}
		if len(part.GetArrivals()) > 0 {
			arrivals, alarms, err := measure.DecodeArrivals(part.GetArrivals())
			if err != nil {
				p.deaf = true
				m.trouble(p, "reports arrivals that cannot be read: "+err.Error())
				continue
			}
			p.alarms = append(p.alarms, alarms...)
			m.arrived(p, arrivals)
		}
		if len(part.GetMeasurements()) > 0 {
			ms, err := measure.DecodeBatch(part.GetMeasurements())
			if err != nil {
				m.trouble(p, "reports measurements that cannot be read: "+err.Error())
				continue
			}
			for i := range ms {
				at := ms[i].Item
				if at < uint64(len(m.pairs)) && m.pairs[at].Client == p.probe && m.results[at] == nil {
					ms[i].Observed = p.observed
					if near, faulty := p.near.Condition(); faulty {
						ms[i].Conditions = append(ms[i].Conditions, near)
						slices.Sort(ms[i].Conditions)
					}
					m.results[at] = &ms[i]
					p.reported++
					switch ms[i].Outcome {
					case measure.OutcomeMeasured:
						m.state.Measured++
					case measure.OutcomeRefused:
						m.state.Refused++
					}
					if slices.Contains(ms[i].Conditions, noAddress) {
						m.troubleOnce(p, "knows no address of probe "+m.pairs[at].Server+" but its own: probes on one host do not measure each other")
					}
				}
			}
		}
	}
}

// strangers is how many arrivals are kept of a probe that do not say that they are
// of the mesh, beside ten for each that it measures itself. A part of the mesh may
// be among them, where its payload was stripped; but anybody may connect to an open
// port, as often as he likes.
const strangers = 1000

// arrived keeps what reached the listeners of a probe.
func (m *meshRun) arrived(p *meshMember, arrivals []*tfo.Arrival) {
	for _, a := range arrivals {
		tag, tagged := measure.TagOf(a.Request)
		if own := tagged && m.own[tag.Nonce]; !own {
			if p.strangers >= strangers+10*p.peers {
				p.deaf = true
				m.troubleOnce(p, "has more connections of strangers than can be kept")
				continue
			}
			p.strangers++
		}
		p.arrivals = append(p.arrivals, a)
	}
}

func (m *meshRun) trouble(p *meshMember, what string) { m.say(p.probe, what) }

func (m *meshRun) say(probe, what string) {
	m.state.Troubles = append(m.state.Troubles, "probe "+probe+" "+what)
}

func (m *meshRun) troubleOnce(p *meshMember, what string) {
	if !slices.Contains(m.state.Troubles, "probe "+p.probe+" "+what) {
		m.trouble(p, what)
	}
}

// noAddress is of a pair whose client found no address to dial.
var noAddress = measure.CondRefused(targets.ReasonNotAnAddress)
