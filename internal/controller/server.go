package controller

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"tfofleet/internal/identity"
	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// Config is what a Server needs. All fields without a default are required.
type Config struct {
	// Dir is where target lists are kept until their survey is created. Where
	// it is on the file system of the datasets, a list is linked, not copied.
	Dir string
	// Dataset is the directory of a survey's dataset.
	Dataset func(survey string) string
	Store   store.Store
	// Heartbeat is the interval probes are asked to keep; default 10 s. The
	// store's rules have the TTL that goes with it.
	Heartbeat time.Duration
	// TTL is that of the store's rules.
	TTL     time.Duration
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

// Server is a controller.
type Server struct {
	pb.UnimplementedControlServiceServer
	pb.UnsafeProbeServiceServer

	cfg    Config
	log    hclog.Logger
	ctx    context.Context // until Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	draining sync.Once
	drained  chan struct{} // closed by Drain

	work    signal // chunks may wait for a probe
	over    queue  // chunks that are over and not written
	trouble trouble

	starting  sync.Mutex // one survey is started at a time
	finishing sync.Mutex // one chunk is finished at a time

	mu       sync.Mutex
	surveys  map[string]*survey // that have not ended
	sessions map[string]*session
	names    map[string]bool // of probes that were connected
	freeze   lease.Freeze
}

// New starts a controller, and goes on with what the store holds.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, log: cfg.Logger.Named("controller"), drained: make(chan struct{}),
		surveys: make(map[string]*survey), sessions: make(map[string]*session), names: make(map[string]bool)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.freeze.TTL = cfg.TTL
	s.freeze.Start(cfg.Now())
	s.trouble.changed, s.trouble.now = s.notifyAll, cfg.Now
	if err := s.resume(ctx); err != nil {
		s.Close()
		return nil, err
	}
	s.wg.Go(s.finishChunks)
	s.wg.Go(s.expireLeases)
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
	if err := s.removeOrphanLists(ctx); err != nil {
		return err
	}
	open, err := s.cfg.Store.Surveys(ctx)
	if err != nil {
		return err
	}
	for _, rec := range open {
		v, err := s.start(ctx, rec)
		if err != nil {
			return fmt.Errorf("survey %s: %w", rec.ID, err)
		}
		if v.rec.Cancel {
			if err := s.cancelChunks(ctx, rec.ID); err != nil {
				return err
			}
		}
		// It may be that all was written but the end.
		s.over.put(store.Key{Survey: rec.ID, Chunk: noChunk})
	}
	keys, err := s.cfg.Store.Unwritten(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		s.over.put(k)
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
			s.over.put(c.Key)
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
		s.mu.Lock()
		e := lease.Expire{FrozenUntil: s.freeze.Until()}
		s.mu.Unlock()
		together(keys, func(k store.Key) {
			c, effects, err := s.cfg.Store.Apply(s.ctx, k, e, nil)
			s.trouble.set(writeLeases, err)
			if err == nil {
				s.carryOut(c, effects)
			}
		})
	}
}

// together calls f for all, many at a time: the store puts calls that come
// together into one transaction.
func together[T any](all []T, f func(T)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for _, x := range all {
		slots <- struct{}{}
		wg.Go(func() {
			f(x)
			<-slots
		})
	}
	wg.Wait()
}

func ref(c store.Chunk) *pb.LeaseRef {
	return &pb.LeaseRef{Survey: c.Survey, Chunk: c.Chunk, Epoch: c.Epoch}
}

// newID is a name that will not come again: short, for it is part of file names,
// and random, for datasets of several controllers end up in one place.
func newID() string { return strings.ToLower(rand.Text()[:13]) }
