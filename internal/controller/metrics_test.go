package controller_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tfofleet/internal/controller"
	"tfofleet/internal/lease"
	"tfofleet/internal/store"
)

// closed is a store that the test closes, and not the rig.
type closed struct{ store.Store }

func (closed) Close() error { return nil }

// TestMetricsWithoutStore: when the store is away, what it alone knows is left
// out, and tfofleet_stalled can be seen.
func TestMetricsWithoutStore(t *testing.T) {
	t.Parallel()
	dir, rules := t.TempDir(), lease.DefaultRules(10*time.Second)
	db := sqlite(t, dir, store.Options{Rules: rules})
	registry := prometheus.NewRegistry()
	r := serveFor(t, controller.Config{Dir: dir, Dataset: func(string) string { return dir }, Store: closed{db}, Metrics: registry, Heartbeat: 10 * time.Second, TTL: rules.TTL})
	id := r.survey(t, 3, spec())
	r.await(t, "it was taken up", func() bool { return r.server.Knows(id) })
	gather := func() map[string]float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		figures := make(map[string]float64)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				figures[f.GetName()] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		return figures
	}
	if f := gather(); f["tfofleet_survey_targets"] != 3 || f["tfofleet_stalled"] != 0 {
		t.Errorf("with its store: %v", f)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r.await(t, "it is stalled", func() bool { return gather()["tfofleet_stalled"] == 1 })
	f := gather()
	if _, told := f["tfofleet_survey_targets"]; told {
		t.Errorf("without its store: %v", f)
	}
	if _, told := f["tfofleet_probes_connected"]; !told {
		t.Errorf("without its store: %v", f)
	}
}
