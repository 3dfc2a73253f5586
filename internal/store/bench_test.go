package store_test

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	"tfofleet/internal/store/pgtest"
	pb "tfofleet/proto/tfofleet/v1"
)

// What a controller of a busy fleet does: batches of 128 measurements, 385 bytes
// each as they are compressed (targets of the lab with the standard plan), from
// 64 probes with 4 batches each on the way.
const (
	benchBatch    = 128
	benchBody     = benchBatch * 385
	benchChunk    = 8192
	benchProbes   = 64
	benchInFlight = 4
)

// benchmark runs f with each store, and with two controllers.
func benchmark(b *testing.B, f func(b *testing.B, stores ...store.Store)) {
	opts := store.Options{Rules: lease.DefaultRules(time.Hour)}
	b.Run("sqlite", func(b *testing.B) {
		s, err := store.OpenSQLite(context.Background(), filepath.Join(b.TempDir(), "state.db"), opts)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		f(b, s)
	})
	b.Run("postgres", func(b *testing.B) {
		s := openPostgres(b, pgtest.New(b), opts)
		defer s.Close()
		f(b, s)
	})
	b.Run("postgres/controllers=2", func(b *testing.B) {
		url := pgtest.New(b)
		s1, s2 := openPostgres(b, url, opts), openPostgres(b, url, opts)
		defer s1.Close()
		defer s2.Close()
		f(b, s1, s2)
	})
}

func benchSurvey(b *testing.B, s store.Store, chunks, size int) {
	ctx := context.Background()
	l := store.List{ID: "l", Targets: uint64(chunks) * uint64(size), ChunkSize: size}
	if err := s.PutList(ctx, l); err != nil {
		b.Fatal(err)
	}
	if _, err := s.CreateSurvey(ctx, store.Survey{ID: "s", Request: "s", List: l, Spec: &pb.SurveySpec{}, Created: time.Now()}); err != nil {
		b.Fatal(err)
	}
	if _, err := s.SetPhase(ctx, "s", store.Running, ""); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkIngest: batches are stored, and chunks that are full read again and
// dropped, as when they are written to the dataset.
func BenchmarkIngest(b *testing.B) {
	benchmark(b, func(b *testing.B, stores ...store.Store) {
		ctx := context.Background()
		const perChunk = benchChunk / benchBatch
		benchSurvey(b, stores[0], b.N/perChunk+benchProbes+1, benchChunk)
		body := make([]byte, benchBody)
		rand.Read(body) // as incompressible as it is
		var done atomic.Int64
		probe := func(s store.Store) {
			for done.Load() < int64(b.N) {
				c, err := s.Claim(ctx, "p", "1")
				if err != nil {
					b.Error(err)
					return
				}
				var flight sync.WaitGroup
				slots := make(chan struct{}, benchInFlight)
				for i := range perChunk {
					slots <- struct{}{}
					flight.Go(func() {
						defer func() { <-slots }()
						e := lease.Results{Probe: "p", Epoch: c.Epoch}
						for j := range benchBatch {
							e.Items = append(e.Items, lease.ItemResult{Index: uint32(i*benchBatch + j), Result: lease.Result(lease.Measured, measure.Verdict(1+j%7))})
						}
						if _, _, err := s.Apply(ctx, c.Key, e, &store.Batch{Epoch: c.Epoch, Sequence: uint64(i), Probe: "p", Body: body}); err != nil {
							b.Error(err)
						}
						done.Add(1)
					})
				}
				flight.Wait()
				full, bs, err := s.Batches(ctx, c.Key)
				if err != nil || len(bs) != perChunk {
					b.Errorf("%d batches, %v", len(bs), err)
					return
				}
				if _, err := s.Written(ctx, c.Key, full.Items); err != nil {
					b.Error(err)
				}
			}
		}
		b.ResetTimer()
		var probes sync.WaitGroup
		for i := range benchProbes {
			probes.Go(func() { probe(stores[i%len(stores)]) })
		}
		probes.Wait()
		b.ReportMetric(float64(done.Load())/b.Elapsed().Seconds(), "batches/s")
		b.ReportMetric(float64(done.Load()*benchBatch)/b.Elapsed().Seconds(), "measurements/s")
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkClaim: probes ask for chunks.
func BenchmarkClaim(b *testing.B) {
	benchmark(b, func(b *testing.B, stores ...store.Store) {
		benchSurvey(b, stores[0], b.N, 64)
		var next atomic.Int64
		b.ResetTimer()
		var probes sync.WaitGroup
		for i := range benchProbes {
			probes.Go(func() {
				for next.Add(1) <= int64(b.N) {
					if _, err := stores[i%len(stores)].Claim(context.Background(), "p", "1"); err != nil {
						b.Error(err)
					}
				}
			})
		}
		probes.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "claims/s")
		b.ReportMetric(0, "ns/op")
	})
}
