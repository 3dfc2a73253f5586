package store_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	b.Helper()
	benchSurveyOf(b, s, store.Survey{}, chunks, size)
}

func benchSurveyOf(b *testing.B, s store.Store, v store.Survey, chunks, size int) {
	b.Helper()
	ctx := context.Background()
	if v.ID == "" {
		v.ID = "s"
	}
	l := store.List{ID: "list of " + v.ID, Targets: uint64(chunks) * uint64(size), ChunkSize: size}
	if err := s.PutList(ctx, l); err != nil {
		b.Fatal(err)
	}
	v.Request, v.List, v.Spec, v.Created = v.ID, l, &pb.SurveySpec{}, time.Now()
	if _, err := s.CreateSurvey(ctx, v); err != nil {
		b.Fatal(err)
	}
	if _, err := s.SetPhase(ctx, v.ID, store.Running, ""); err != nil {
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

// BenchmarkClaim: probes ask for chunks, of a survey of each mode.
func BenchmarkClaim(b *testing.B) {
	for mode, name := range map[store.Mode]string{store.Shard: "shard", store.Every: "every", store.Copies: "copies"} {
		b.Run(name, func(b *testing.B) {
			benchmark(b, func(b *testing.B, stores ...store.Store) {
				// Each probe gets as much in every mode, of copies four of each.
				sources, v := b.N, store.Survey{Mode: mode}
				switch mode {
				case store.Every:
					sources = (b.N + benchProbes - 1) / benchProbes
					v.Probes = benchNames(benchProbes)
				case store.Copies:
					sources, v.Copies = (b.N+3)/4, 4
					v.Probes = benchNames(benchProbes)
				}
				benchSurveyOf(b, stores[0], v, sources, 64)
				var claimed atomic.Int64
				b.ResetTimer()
				var probes sync.WaitGroup
				for i, name := range benchNames(benchProbes) {
					probes.Go(func() {
						for {
							_, err := stores[i%len(stores)].Claim(context.Background(), name, "1")
							if errors.Is(err, store.ErrNotFound) {
								return
							}
							if err != nil {
								b.Error(err)
								return
							}
							claimed.Add(1)
						}
					})
				}
				probes.Wait()
				if claimed.Load() < int64(b.N) {
					b.Errorf("%d claimed, want %d", claimed.Load(), b.N)
				}
				b.ReportMetric(float64(claimed.Load())/b.Elapsed().Seconds(), "claims/s")
				b.ReportMetric(0, "ns/op")
			})
		})
	}
}

func benchNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("p%04d", i))
	}
	return names
}

// BenchmarkPoll: a fleet of 1,000 asks for work, and all there is, 50,000
// chunks, is pinned to others, and of 4,000 copies each has had its own.
func BenchmarkPoll(b *testing.B) {
	benchmark(b, func(b *testing.B, stores ...store.Store) {
		const sources = 2
		names := benchNames(2000)
		benchSurveyOf(b, stores[0], store.Survey{ID: "copies", Mode: store.Copies, Copies: 2000, Probes: names}, sources, 64)
		var claims sync.WaitGroup
		for _, name := range names[:1000] {
			claims.Go(func() {
				for range sources {
					if _, err := stores[0].Claim(context.Background(), name, "1"); err != nil {
						b.Error(err)
					}
				}
			})
		}
		claims.Wait()
		benchSurveyOf(b, stores[0], store.Survey{ID: "every", Mode: store.Every, Probes: names[1000:1050]}, 1000, 64)
		var next atomic.Int64
		b.ResetTimer()
		var probes sync.WaitGroup
		for i := range 1000 {
			probes.Go(func() {
				for next.Add(1) <= int64(b.N) {
					if _, err := stores[i%len(stores)].Claim(context.Background(), names[i], "1"); !errors.Is(err, store.ErrNotFound) {
						b.Error(err)
					}
				}
			})
		}
		probes.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "polls/s")
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkBeat: the sessions of 1,000 probes.
func BenchmarkBeat(b *testing.B) {
	benchmark(b, func(b *testing.B, stores ...store.Store) {
		ctx := context.Background()
		names, state := benchNames(1000), make([]byte, 500)
		for _, name := range names {
			if err := stores[0].OpenSession(ctx, store.Session{Probe: name, ID: "1"}, time.Hour); err != nil {
				b.Fatal(err)
			}
		}
		var next atomic.Int64
		b.ResetTimer()
		var probes sync.WaitGroup
		for i, name := range names {
			probes.Go(func() {
				for next.Add(1) <= int64(b.N) {
					if err := stores[i%len(stores)].Beat(ctx, name, "1", state); err != nil {
						b.Error(err)
					}
				}
			})
		}
		probes.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "beats/s")
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkCreate: a survey with 100 copies of 1,000 chunks.
func BenchmarkCreate(b *testing.B) {
	benchmark(b, func(b *testing.B, stores ...store.Store) {
		for i := range b.N {
			benchSurveyOf(b, stores[0], store.Survey{ID: fmt.Sprint("s", i), Mode: store.Every, Probes: benchNames(100)}, 1000, 64)
		}
	})
}
