package controller

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"tfofleet/internal/identity"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// Config is what a Server needs. All fields without a default are required.
type Config struct {
	// Dir is for what is being sorted.
	Dir string
	// Lists is where target lists are kept until their survey is created, as
	// package dataset names places; default lists in Dir. All controllers of a
	// fleet have the same. Where it is on the file system of the datasets, a list
	// is linked, not copied.
	Lists string
	// Dataset is the place of a survey's dataset.
	Dataset func(survey string) string
	// Datasets is the place that has them all, by the id of their survey; empty:
	// there is none, and meshes that have ended are not listed.
	Datasets string
	Store    store.Store
	// Heartbeat is the interval probes are asked to keep; default 10 s. The
	// store's rules have the TTL that goes with it.
	Heartbeat time.Duration
	// TTL is that of the store's rules.
	TTL time.Duration
	// MaxAge is when probes are asked to renew their sessions; default 1 h.
	MaxAge time.Duration
	// Name is this controller's among those that share the store; what an earlier
	// process left under it is its own. Default "controller".
	Name string
	// Shared: other controllers use the store as well.
	Shared bool
	// Reflectors are the addresses of this controller's own TFO listener, see
	// Welcome; Mirror is that listener.
	Reflectors []string
	Mirror     Mirror
	// Metrics takes what there is to count; nil: nobody looks.
	Metrics prometheus.Registerer
	Version string // of this program, for survey.json
	// Authority says who a probe is and lets new ones in. Without one the server
	// is for its own process, see ServeInMemory.
	Authority *identity.Authority
	// Addresses of controllers, host:port, for join tokens.
	Addresses []string
	Logger    hclog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Mirror tells what a TFO listener saw of a measurement, as reflector.Mirror
// does.
type Mirror interface {
	Seen(measure.Nonce) *pb.ArrivalBatch
}

// Server is a controller.
type Server struct {
	pb.UnsafeControlServiceServer
	pb.UnsafeProbeServiceServer

	cfg    Config
	log    hclog.Logger
	ctx    context.Context // until Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	draining sync.Once
	drained  chan struct{} // closed by Drain

	work    signal // chunks may wait for a probe
	over    signal // chunks may be over and not written
	trouble trouble
	metrics *metrics
	tasks   tasks
	room    *semaphore.Weighted // bytes of batches on their way to the disk

	meshTimes meshTimes
	ended     sync.Map // id -> *pb.SurveyState, of meshes

	starting sync.Mutex // one survey is started at a time

	mu       sync.Mutex
	surveys  map[string]*survey // that have not ended
	sessions map[string]*session
	names    map[string]bool // of probes that were connected
	freeze   lease.Freeze
	// elsewhere is how many probes are connected to other controllers.
	elsewhere int
}

// New starts a controller, and goes on with what the store holds.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 10 * time.Second
	}
	if cfg.Lists == "" {
		cfg.Lists = filepath.Join(cfg.Dir, "lists")
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = time.Hour
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Name == "" {
		cfg.Name = "controller"
	}
	s := &Server{cfg: cfg, log: cfg.Logger.Named("controller"), drained: make(chan struct{}), meshTimes: usualMeshTimes, room: semaphore.NewWeighted(roomForBatches),
		surveys: make(map[string]*survey), sessions: make(map[string]*session), names: make(map[string]bool)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.freeze.TTL = cfg.TTL
	s.metrics = newMetrics(cfg.Metrics, s)
	s.trouble.changed, s.trouble.now = s.notifyAll, cfg.Now
	if err := s.resume(ctx); err != nil {
		s.Close()
		return nil, err
	}
	s.wg.Go(s.finishChunks)
	s.wg.Go(s.writeLate)
	s.wg.Go(s.expireLeases)
	s.wg.Go(s.poll)
	return s, nil
}

// Register registers the services.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	pb.RegisterControlServiceServer(r, s)
	pb.RegisterProbeServiceServer(r, s)
}

// Close ends what the server does of its own accord, and closes its files; the
// store stays open. The gRPC server has to be stopped before.
func (s *Server) Close() {
	s.cancel()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.surveys {
		v.close()
	}
}

// resume takes up the surveys that have not ended.
func (s *Server) resume(ctx context.Context) error {
	if err := s.cfg.Store.Freeze(ctx, s.cfg.TTL); err != nil {
		return err
	}
	if err := s.endOldSessions(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(s.sortingDir()); err != nil {
		return err
	}
	if !s.cfg.Shared {
		if err := s.removeOrphanLists(ctx); err != nil {
			return err
		}
	}
	open, err := s.cfg.Store.Surveys(ctx)
	if err != nil {
		return err
	}
	for _, rec := range open {
		if err := s.adopt(rec); err != nil {
			return fmt.Errorf("survey %s: %w", rec.ID, err)
		}
	}
	return nil
}

// endOldSessions ends those that an earlier process of this controller left.
func (s *Server) endOldSessions(ctx context.Context) error {
	sessions, err := s.cfg.Store.Sessions(ctx, s.stale())
	if err != nil {
		return err
	}
	for _, old := range sessions {
		if s.cfg.Shared && old.Controller != s.cfg.Name {
			continue
		}
		if err := s.cfg.Store.CloseSession(ctx, old.Probe, old.ID); err != nil {
			return err
		}
	}
	return nil
}

// carryOut does what a step of the lease machine asks for, except what only the
// caller can: Send, Drop and the answers to a batch.
func (s *Server) carryOut(c store.Chunk, effects []lease.Effect) {
	for _, f := range effects {
		switch f {
		case lease.Stop:
			s.tell(c.Probe, &pb.Cancel{Ref: ref(c)})
		case lease.Requeue:
			s.work.notify()
		case lease.Finish:
			if c.Phase == lease.Poisoned {
				s.log.Warn("chunk given up: no probe accepted it", "survey", c.Survey, "chunk", c.Chunk, "offers", c.Offers)
			}
			s.over.notify()
		}
	}
	if len(effects) > 0 {
		s.notify(c.Survey)
	}
}

// expireLeases tells chunks that their time has passed. Nobody waits for it:
// what it finds was given up a TTL ago.
func (s *Server) expireLeases() {
	tick := time.NewTicker(max(time.Millisecond, min(time.Second, s.cfg.TTL/8)))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		s.trouble.forget()
		keys, err := s.cfg.Store.Due(s.ctx)
		s.trouble.failed(writeLeases, err)
		_ = together(keys, func(k store.Key) error {
			c, effects, err := s.cfg.Store.Apply(s.ctx, k, lease.Expire{}, nil)
			s.trouble.set(writeLeases, err)
			if err == nil {
				s.carryOut(c, effects)
			}
			return err
		})
	}
}

// together calls f for all, many at a time: the store puts calls that come
// together into one transaction. The error is one of f's.
func together[T any](all []T, f func(T) error) error {
	var g errgroup.Group
	g.SetLimit(64)
	for _, x := range all {
		g.Go(func() error { return f(x) })
	}
	return g.Wait()
}

func ref(c store.Chunk) *pb.LeaseRef {
	return &pb.LeaseRef{Survey: c.Survey, Chunk: c.Chunk, Epoch: c.Epoch}
}

// newID is a name that will not come again: short, for it is part of file names,
// and random, for datasets of several controllers end up in one place.
func newID() string { return strings.ToLower(rand.Text()[:13]) }
