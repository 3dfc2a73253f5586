package store_test

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"tfofleet/internal/identity"
	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// turns is the stores of two controllers, one call to this one, one to that:
// every probe talks to either.
type turns struct {
	stores [2]*store.Postgres
	n      atomic.Uint64
}

func (s *turns) next() *store.Postgres { return s.stores[s.n.Add(1)%2] }

func (s *turns) PutList(ctx context.Context, l store.List) error { return s.next().PutList(ctx, l) }
func (s *turns) List(ctx context.Context, id string) (store.List, error) {
	return s.next().List(ctx, id)
}
func (s *turns) CreateSurvey(ctx context.Context, v store.Survey) (store.Survey, error) {
	return s.next().CreateSurvey(ctx, v)
}
func (s *turns) Survey(ctx context.Context, id string) (store.Survey, error) {
	return s.next().Survey(ctx, id)
}
func (s *turns) Surveys(ctx context.Context) ([]store.Survey, error) { return s.next().Surveys(ctx) }
func (s *turns) AllSurveys(ctx context.Context) ([]store.Survey, error) {
	return s.next().AllSurveys(ctx)
}
func (s *turns) SetPhase(ctx context.Context, id string, p store.Phase, reason string) (store.Survey, error) {
	return s.next().SetPhase(ctx, id, p, reason)
}
func (s *turns) CancelSurvey(ctx context.Context, id string) error {
	return s.next().CancelSurvey(ctx, id)
}
func (s *turns) Tally(ctx context.Context, id string) (lease.Tally, error) {
	return s.next().Tally(ctx, id)
}
func (s *turns) PutProbe(ctx context.Context, p store.Probe) error { return s.next().PutProbe(ctx, p) }
func (s *turns) Probes(ctx context.Context, survey string) ([]store.Probe, error) {
	return s.next().Probes(ctx, survey)
}
func (s *turns) Claim(ctx context.Context, probe, instance string) (store.Chunk, error) {
	return s.next().Claim(ctx, probe, instance)
}
func (s *turns) Apply(ctx context.Context, k store.Key, e lease.Event, b *store.Batch) (store.Chunk, []lease.Effect, error) {
	return s.next().Apply(ctx, k, e, b)
}
func (s *turns) Due(ctx context.Context) ([]store.Key, error) { return s.next().Due(ctx) }
func (s *turns) HeldBy(ctx context.Context, probe string) ([]store.Chunk, error) {
	return s.next().HeldBy(ctx, probe)
}
func (s *turns) Open(ctx context.Context, survey string) ([]store.Key, error) {
	return s.next().Open(ctx, survey)
}
func (s *turns) Unwritten(ctx context.Context) ([]store.Key, error) { return s.next().Unwritten(ctx) }
func (s *turns) Batches(ctx context.Context, k store.Key) (store.Chunk, []store.Batch, error) {
	return s.next().Batches(ctx, k)
}
func (s *turns) Written(ctx context.Context, k store.Key, items []lease.Item) (bool, error) {
	return s.next().Written(ctx, k, items)
}
func (s *turns) Settle(ctx context.Context, survey string) error { return s.next().Settle(ctx, survey) }
func (s *turns) PauseSurvey(ctx context.Context, id string, paused bool) error {
	return s.next().PauseSurvey(ctx, id, paused)
}
func (s *turns) Missing(ctx context.Context, survey string, n int) ([]string, error) {
	return s.next().Missing(ctx, survey, n)
}
func (s *turns) Probe(ctx context.Context, name string) (store.Probe, error) {
	return s.next().Probe(ctx, name)
}
func (s *turns) AllProbes(ctx context.Context) ([]store.Probe, error) { return s.next().AllProbes(ctx) }
func (s *turns) DrainProbe(ctx context.Context, name string, drained bool) error {
	return s.next().DrainProbe(ctx, name, drained)
}
func (s *turns) LimitProbe(ctx context.Context, name string, rate float64) error {
	return s.next().LimitProbe(ctx, name, rate)
}
func (s *turns) Limits(ctx context.Context) (map[string]float64, error) { return s.next().Limits(ctx) }
func (s *turns) PutEvent(ctx context.Context, e store.ProbeEvent) error {
	return s.next().PutEvent(ctx, e)
}
func (s *turns) Events(ctx context.Context, probe string, n int) ([]*pb.ProbeEvent, error) {
	return s.next().Events(ctx, probe, n)
}
func (s *turns) SpoolThrough(ctx context.Context, spool string) (uint64, error) {
	return s.next().SpoolThrough(ctx, spool)
}
func (s *turns) OpenSession(ctx context.Context, v store.Session, stale time.Duration) error {
	return s.next().OpenSession(ctx, v, stale)
}
func (s *turns) Beat(ctx context.Context, probe, id string, state []byte) error {
	return s.next().Beat(ctx, probe, id, state)
}
func (s *turns) CloseSession(ctx context.Context, probe, id string) error {
	return s.next().CloseSession(ctx, probe, id)
}
func (s *turns) Sessions(ctx context.Context, stale time.Duration) ([]store.Session, error) {
	return s.next().Sessions(ctx, stale)
}
func (s *turns) Summon(ctx context.Context, probes, addresses []string) error {
	return s.next().Summon(ctx, probes, addresses)
}
func (s *turns) Summoned(ctx context.Context, controller string) (map[string][]string, error) {
	return s.next().Summoned(ctx, controller)
}
func (s *turns) Freeze(ctx context.Context, d time.Duration) error { return s.next().Freeze(ctx, d) }
func (s *turns) HasWork(ctx context.Context) (bool, error)         { return s.next().HasWork(ctx) }
func (s *turns) Pinned(ctx context.Context, probe string) ([]store.Key, error) {
	return s.next().Pinned(ctx, probe)
}
func (s *turns) TakeUnwritten(ctx context.Context, writer string, d time.Duration, limit int) ([]store.Key, error) {
	return s.next().TakeUnwritten(ctx, writer, d, limit)
}
func (s *turns) Late(ctx context.Context) ([]store.Key, error) { return s.next().Late(ctx) }
func (s *turns) LateBatches(ctx context.Context, k store.Key) (store.Chunk, uint32, []store.Batch, error) {
	return s.next().LateBatches(ctx, k)
}
func (s *turns) LateWritten(ctx context.Context, k store.Key, n uint32, items []lease.Item) error {
	return s.next().LateWritten(ctx, k, n, items)
}
func (s *turns) LateDone(ctx context.Context, k store.Key, n uint32) error {
	return s.next().LateDone(ctx, k, n)
}
func (s *turns) Finished(ctx context.Context) ([]string, error) { return s.next().Finished(ctx) }
func (s *turns) Close() error                                   { return errors.Join(s.stores[0].Close(), s.stores[1].Close()) }

// identityTurns is the same of who may do what.
type identityTurns struct{ *turns }

func (s identityTurns) View(ctx context.Context, do func(identity.Reader) error) error {
	return s.next().Identity().View(ctx, do)
}
func (s identityTurns) Update(ctx context.Context, do func(identity.Tx) error) error {
	return s.next().Identity().Update(ctx, do)
}
