package controller

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/mesh"
	pb "tfofleet/proto/tfofleet/v1"
)

// create begins the dataset of the mesh.
func (m *meshRun) create() (err error) {
	m.writer, err = dataset.Create(m.s.cfg.Dataset(m.id), m.document(dataset.StateRunning))
	return err
}

func (m *meshRun) document(state dataset.State) *dataset.Survey {
	timeout := cmp.Or(m.req.GetTimeout().AsDuration(), meshPatience)
	doc := &dataset.Survey{
		ID: m.id, Name: cmp.Or(m.req.GetName(), fmt.Sprintf("mesh of %d probes", len(m.members))), Mesh: true, State: state, Created: m.begun,
		Spec: dataset.Spec{
			Plan: measure.Plan(m.req.GetPlan()).String(), Family: familyNames[m.req.GetFamily()], Payload: payloadNames[pb.Payload_PAYLOAD_AUTO],
			Seed: m.req.GetSeed(), Rate: m.req.GetRate(), TimeoutUS: timeout.Microseconds(), ChunkSize: 1,
		},
		Versions: map[string]string{"controller": m.s.cfg.Version, "go": runtime.Version()},
		Counts:   dataset.Counts{Planned: uint64(m.state.GetPlanned()), Verdicts: make(map[string]uint64)},
		Probes:   []dataset.Probe{},
	}
	for _, p := range m.sorted() {
		doc.Probes = append(doc.Probes, probeDocument(p.probe, p.version, p.host))
	}
	if state != dataset.StateRunning {
		doc.Ended = m.s.cfg.Now().UTC()
	}
	if state == dataset.StateDone {
		m.count(&doc.Counts)
	} else {
		doc.Counts.Cancelled = doc.Counts.Planned
	}
	return doc
}

// count counts what was made of every pair.
func (m *meshRun) count(c *dataset.Counts) {
	for _, r := range m.results {
		switch {
		case r == nil:
			c.Lost++
		case r.Outcome == measure.OutcomeMeasured:
			c.Measured++
			c.Verdicts[r.Verdict.String()]++
		case r.Outcome == measure.OutcomeRefused:
			c.Refused++
		default:
			c.Interrupted++
		}
	}
}

// abandon leaves the dataset of a mesh that came to no end, without a row.
func (m *meshRun) abandon() {
	if err := m.writer.PutSurvey(m.document(dataset.StateCancelled)); err != nil {
		m.s.log.Error("the dataset of a mesh that was given up cannot be written", "mesh", m.id, "reason", err)
	}
}

// refusals says what the policies of the probes forbade.
func (m *meshRun) refusals() {
	for _, p := range m.sorted() {
		refused := 0
		var why []string
		for i, r := range m.results {
			if r == nil || m.pairs[i].Client != p.probe || r.Outcome != measure.OutcomeRefused || slices.Contains(r.Conditions, noAddress) { // that was said
				continue
			}
			refused++
			for _, c := range r.Conditions {
				if reason, ok := strings.CutPrefix(string(c), string(measure.CondRefused(""))); ok && !slices.Contains(why, reason) {
					why = append(why, reason)
				}
			}
		}
		if refused > 0 {
			slices.Sort(why)
			m.trouble(p, fmt.Sprintf("refuses %d of %d measurements by its policy: %s", refused, p.peers, strings.Join(why, ", ")))
		}
	}
}

// write joins the ends of every pair and writes the dataset.
func (m *meshRun) write() (err error) {
	m.refusals()
	rows := make([]dataset.MeshRow, len(m.pairs))
	byClient := make(map[string][]measure.Measurement)
	heard := make(map[string]*mesh.Heard)
	for i, pair := range m.pairs {
		server := m.members[pair.Server]
		if heard[pair.Server] == nil {
			heard[pair.Server] = mesh.Hear(server.arrivals, server.alarms)
		}
		ends := mesh.Ends{
			Plan: measure.Plan(m.req.GetPlan()), Payload: measure.PayloadAuto, Nonce: m.nonces[i], Client: m.results[i],
			ServerLost: server.lost || server.deaf,
		}
		ends.Arrivals, ends.Alarms = heard[pair.Server].Of(ends.Nonce, ends.Client)
		j := mesh.Judge(ends)
		if rows[i], err = m.row(pair, &ends, &j); err != nil {
			return err
		}
		switch {
		case j.Verdict == measure.JointPeerLost:
			m.state.Lost++
		case j.Doubt != measure.DoubtRefused:
			m.state.Joined++
		}
		if r := m.results[i]; r != nil {
			byClient[pair.Client] = append(byClient[pair.Client], *r)
		}
	}
	for n, client := range slices.Sorted(maps.Keys(byClient)) {
		if err := m.writer.WriteChunk(dataset.ChunkKey{Survey: m.id, Probe: client, Chunk: uint32(n)}, byClient[client]); err != nil {
			return err
		}
	}
	if err := m.writer.WriteMesh(rows); err != nil {
		return err
	}
	return m.writer.PutSurvey(m.document(dataset.StateDone))
}

// row is what the dataset has of a pair.
func (m *meshRun) row(pair mesh.Pair, ends *mesh.Ends, j *measure.Judgement) (r dataset.MeshRow, err error) {
	r = dataset.MeshRow{
		Mesh: m.id, Client: pair.Client, Server: pair.Server, Family: 4, Port: pair.Port, Address: pair.Address[0], Item: uint64(pair.Index),
		ClientLost: ends.Client == nil, ServerLost: ends.ServerLost, Nonce: ends.Nonce,
	}
	if pair.V6 {
		r.Family = 6
	}
	if c := ends.Client; c != nil {
		r.Started, r.Address, r.ClientVerdict = c.Started, c.Addr, c.Verdict
	}
	r.Judged(j)
	r.Evidence, err = ends.Evidence()
	return r, err
}
