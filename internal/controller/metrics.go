package controller

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// metrics are the figures of a controller for Prometheus. Those of surveys are
// read from the store when somebody asks.
type metrics struct {
	connected  prometheus.Gauge
	heartbeats prometheus.Counter
	offers     prometheus.Counter
	batches    prometheus.Counter
	bytes      prometheus.Counter
	results    *prometheus.CounterVec
	durable    prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, s *Server) *metrics {
	const ns = "tfofleet"
	m := &metrics{
		connected:  prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Name: "probes_connected", Help: "Probes with a session at this controller."}),
		heartbeats: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: "heartbeats_total", Help: "Heartbeats taken."}),
		offers:     prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: "leases_offered_total", Help: "Leases sent to probes."}),
		batches:    prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: "result_batches_total", Help: "Batches of results that are durable."}),
		bytes:      prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: "result_bytes_total", Help: "Compressed bytes of these batches."}),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: "results_total",
			Help: "Targets that are durable, by outcome and verdict. One that was sent twice counts twice."}, []string{"outcome", "verdict"}),
		durable: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Name: "result_durable_seconds",
			Help: "From the receipt of a batch until it was durable.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}),
	}
	if r != nil {
		r.MustRegister(m.connected, m.heartbeats, m.offers, m.batches, m.bytes, m.results, m.durable, &surveyCollector{s})
	}
	return m
}

// took counts a batch.
func (m *metrics) took(e lease.Results, took time.Duration, bytes int) {
	m.batches.Inc()
	m.bytes.Add(float64(bytes))
	m.durable.Observe(took.Seconds())
	var n lease.Tally
	for _, x := range e.Items {
		n[x.Result]++
	}
	for item, count := range n {
		if count > 0 {
			i := lease.Item(item)
			m.results.WithLabelValues(outcomeNames[i.Outcome()], i.Verdict().String()).Add(float64(count))
		}
	}
}

var outcomeNames = map[lease.Outcome]string{
	lease.Unfinished: "pending", lease.Measured: "measured", lease.Refused: "refused", lease.Interrupted: "interrupted",
	lease.Cancelled: "cancelled", lease.Lost: "lost",
}

// surveyCollector reads where the running surveys and the probes stand.
type surveyCollector struct{ s *Server }

var (
	targetsDesc = prometheus.NewDesc("tfofleet_survey_targets", "Planned targets of running surveys, by how they ended.", []string{"survey", "outcome"}, nil)
	stalledDesc = prometheus.NewDesc("tfofleet_stalled", "1 while nothing can be stored.", nil, nil)
	probesDesc  = prometheus.NewDesc("tfofleet_fleet_probes", "Probes with a session at any controller, by readiness.", []string{"readiness"}, nil)
)

// Describe implements prometheus.Collector.
func (c *surveyCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- targetsDesc
	ch <- stalledDesc
	ch <- probesDesc
}

// collectFor is less than a scrape waits for its answer.
const collectFor = 5 * time.Second

// Collect implements prometheus.Collector. What the store does not tell is left
// out: an error here would hide all other figures, and who looks at them when
// the store is away looks for tfofleet_stalled.
func (c *surveyCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(c.s.ctx, collectFor)
	defer cancel()
	for _, v := range c.s.all() {
		tally, err := c.s.cfg.Store.Tally(ctx, v.rec.ID)
		if err != nil {
			continue
		}
		for o, name := range outcomeNames {
			ch <- prometheus.MustNewConstMetric(targetsDesc, prometheus.GaugeValue, float64(tally.Of(o)), v.rec.ID, name)
		}
	}
	stalled := 0.0
	if c.s.trouble.reason() != "" {
		stalled = 1
	}
	ch <- prometheus.MustNewConstMetric(stalledDesc, prometheus.GaugeValue, stalled)
	sessions, err := c.s.cfg.Store.Sessions(ctx, c.s.stale())
	if err != nil {
		return
	}
	for readiness, n := range readinesses(sessions) {
		ch <- prometheus.MustNewConstMetric(probesDesc, prometheus.GaugeValue, float64(n), readiness)
	}
}

// readinesses counts probes.
func readinesses(sessions []store.Session) map[string]int {
	n := make(map[string]int)
	for _, open := range sessions {
		n[readinessName(statusOf(open).GetReadiness())]++
	}
	return n
}

// readinessName is the word for people, such as "ready" or "spool_full".
func readinessName(r pb.Readiness) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "READINESS_"))
}

// statusOf is what a probe last said of itself; one of a newer probe may not be
// readable, and is nil.
func statusOf(open store.Session) *pb.ProbeStatus {
	info := &pb.ProbeInfo{}
	if proto.Unmarshal(open.State, info) != nil {
		return nil
	}
	return info.GetStatus()
}
