package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"tfofleet/internal/controller"
	"tfofleet/internal/dashboard"
	"tfofleet/internal/dataset"
	"tfofleet/internal/dataset/place"
	"tfofleet/internal/identity"
	"tfofleet/internal/lease"
	"tfofleet/internal/reflector"
	"tfofleet/internal/store"
	"tfofleet/internal/tfo"
	"tfofleet/internal/version"
	pb "tfofleet/proto/tfofleet/v1"
)

// fleet is the controller of a fleet.
type fleet struct {
	log       hclog.Logger
	db        fleetStore
	ca        *identity.CA
	mirror    *reflector.Mirror
	authority *identity.Authority
	registry  *prometheus.Registry
	figures   *http.Server
	server    *controller.Server
	guard     *identity.Guard
	health    *health.Server
	rpc       *grpc.Server
	memory    *controller.Memory // what the dashboard asks
	asks      *grpc.ClientConn
	web       *identity.Web
	failed    chan error // a listener broke

	stop    context.CancelFunc
	workers sync.WaitGroup
}

// fleetStore is a store that knows who is who as well.
type fleetStore interface {
	store.Store
	Identity() identity.Store
}

// openStore opens the state of the fleet, and says whether others share it.
func openStore(ctx context.Context, f *serveFlags, o store.Options) (db fleetStore, shared bool, err error) {
	if f.store == "" {
		db, err := store.OpenSQLite(ctx, filepath.Join(f.data, "state.db"), o)
		return db, false, err
	}
	if u, err := url.Parse(f.store); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, false, fail(exitUsage, errors.New("--store: want a URL such as postgres://HOST/DATABASE"))
	}
	p, err := store.OpenPostgres(ctx, f.store, o)
	return p, true, err
}

// startFleet opens the data directory, or makes it, and goes on with what it
// holds. Nobody is served yet.
func startFleet(ctx context.Context, f *serveFlags, addresses []string, log hclog.Logger) (_ *fleet, err error) {
	c := &fleet{log: log, failed: make(chan error, 2)}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := os.MkdirAll(f.data, 0o700); err != nil {
		return nil, unwritable(f.data, err)
	}
	rules := lease.DefaultRules(f.heartbeat)
	db, shared, err := openStore(ctx, f, store.Options{Rules: rules})
	if err != nil {
		return nil, err
	}
	c.db = db
	if c.ca, err = identity.OpenCAOf(ctx, c.db.Identity(), f.ca, time.Now()); err != nil {
		return nil, err
	}
	c.authority, err = identity.NewAuthority(ctx, identity.Config{CA: c.ca, Store: c.db.Identity(), Names: hosts(addresses), Logger: log.Named("identity")})
	if err != nil {
		return nil, err
	}
	if err := dataset.CheckDir(f.dataset); err != nil {
		return nil, fail(exitUsage, err, "--dataset takes a directory, or s3://BUCKET/PREFIX")
	}
	if strings.HasPrefix(f.dataset, "s3://") {
		// Not at the first survey: whoever starts it is there to mend it.
		if _, err := dataset.Dirs(f.dataset); err != nil {
			return nil, fail(exitCannotWrite, err, "--dataset names the bucket; the credentials are those of the environment (AWS_*)")
		}
	}
	c.registry = prometheus.NewRegistry()
	c.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reflectors, err := c.openMirror(f.reflector)
	if err != nil {
		return nil, err
	}
	cfg := controller.Config{
		Dir: f.data, Lists: place.Join(f.dataset, "lists"), Datasets: f.dataset, Dataset: func(id string) string { return place.Join(f.dataset, id) }, Store: c.db, Shared: shared, Name: f.name, Metrics: c.registry,
		Heartbeat: f.heartbeat, TTL: rules.TTL, Version: version.String(), Authority: c.authority, Addresses: addresses, Logger: log,
		Reflectors: reflectors,
	}
	if c.mirror != nil {
		cfg.Mirror = c.mirror
	}
	if c.server, err = controller.New(ctx, cfg); err != nil {
		return nil, err
	}
	if err := c.openDashboard(f.dataset); err != nil {
		return nil, err
	}
	c.build()
	c.workers.Go(func() { c.recheck(life) })
	return c, nil
}

// openMirror opens the TFO listener for the self-tests of probes, and returns
// its addresses as probes are told them. Without it the fleet works as well.
func (c *fleet) openMirror(addr string) ([]string, error) {
	if addr == "" {
		return nil, nil
	}
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fail(exitUsage, fmt.Errorf("--reflector: %w", err))
	}
	host, err := tfo.ReadHost("")
	if err != nil {
		return nil, err
	}
	if host.FastOpen != tfo.NotKnown && host.FastOpen&tfo.SysctlServer == 0 {
		c.log.Warn("no reflector: TCP Fast Open is off for listeners here, so that probes cannot test themselves",
			"net.ipv4.tcp_fastopen", host.FastOpen, "needed", host.FastOpen|tfo.SysctlServer)
		return nil, nil
	}
	bind := netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(at.Port))
	if ip, ok := netip.AddrFromSlice(at.IP); ok && !ip.IsUnspecified() {
		bind = netip.AddrPortFrom(ip.Unmap(), uint16(at.Port))
	}
	if c.mirror, err = reflector.Open(bind, ""); err != nil {
		return nil, fail(exitFailure, err, `--reflector ADDR names another address or port, --reflector "" none`)
	}
	told := c.mirror.Addr()
	if told.Addr().IsUnspecified() {
		return []string{fmt.Sprintf(":%d", told.Port())}, nil // at whatever address the probe dials
	}
	return []string{told.String()}, nil
}

// openDashboard begins to serve the dashboard to operators, on the port of the
// server that build makes.
func (c *fleet) openDashboard(datasets string) (err error) {
	c.memory = c.server.ServeInMemory()
	if c.asks, err = c.memory.Dial(); err != nil {
		return err
	}
	c.guard = c.authority.Guard(identity.Methods())
	c.web = c.guard.Web(dashboard.New(dashboard.Config{Control: pb.NewControlServiceClient(c.asks), Datasets: surveysIn(datasets), Logger: c.log.Named("dashboard")}))
	return nil
}

// surveysIn is the place of all datasets.
type surveysIn string

// Dataset implements dashboard.Datasets. Names of surveys come from the store.
func (s surveysIn) Dataset(survey string) (string, error) { return place.Join(string(s), survey), nil }

// handshake is the time for TLS and the beginning of HTTP/2; maxCalls is how many
// calls a connection may have open.
const (
	handshake = 10 * time.Second
	maxCalls  = 100
)

// build makes the gRPC server with all its services. Who may call what is one
// table, which the guard enforces.
func (c *fleet) build() {
	options := append(c.guard.ServerOptions(),
		// A probe pings every 30 s; the default policy would end its connection.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 15 * time.Second, PermitWithoutStream: true}),
		// A probe that vanished without a word must not keep its name taken.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// A caller that is slow on purpose takes up little, and not for long: what
		// it may do before anybody knows who it is, and how many calls it may leave
		// open. A probe has two at a time, and opens the next ones before those end.
		grpc.ConnectionTimeout(handshake),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.WaitForHandlers(true))
	c.rpc = grpc.NewServer(options...)
	c.server.Register(c.rpc)
	c.authority.Register(c.rpc)
	c.health = health.NewServer()
	grpc_health_v1.RegisterHealthServer(c.rpc, c.health)
	reflection.Register(c.rpc)
}

// serve begins to serve probes and operators.
func (c *fleet) serve(probes net.Listener, socket string) error {
	operators, err := identity.ListenSocket(socket)
	if err != nil {
		return err
	}
	for _, l := range []net.Listener{probes, operators} {
		c.workers.Go(func() {
			if err := c.rpc.Serve(l); err != nil {
				c.failed <- err
			}
		})
	}
	return nil
}

// serveMetrics begins to serve figures and health, for programs on this host
// unless the address says otherwise: there is nothing secret in them, and nothing
// that can be changed by them.
func (c *fleet) serveMetrics(addr string) error {
	if addr == "" {
		return nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.registry, promhttp.HandlerOpts{Registry: c.registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if why := c.server.Trouble(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	c.figures = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: c.log.Named("metrics").StandardLogger(nil)}
	c.workers.Go(func() {
		if err := c.figures.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			c.failed <- err
		}
	})
	return nil
}

// recheckEvery is how soon a certificate that ran out ends its streams.
const recheckEvery = 5 * time.Second

func (c *fleet) recheck(ctx context.Context) {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := c.authority.Recheck(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("callers not checked again", "reason", err)
		}
		if err := c.ca.Reload(); err != nil {
			c.log.Error("the CA was not read again", "reason", err)
		}
	}
}

// close stops everything, in the order that loses nothing: streams end, calls
// may, and then the store.
func (c *fleet) close() error {
	c.stop()
	if c.figures != nil {
		c.figures.Close()
	}
	if c.web != nil {
		c.web.Close() // its pages would be looked at for ever
	}
	if c.rpc != nil {
		c.health.Shutdown()
		c.server.Drain()
		cut := time.AfterFunc(stopping, c.rpc.Stop)
		c.rpc.GracefulStop()
		cut.Stop()
		c.guard.Wait()
	}
	c.workers.Wait()
	if c.asks != nil {
		c.asks.Close()
	}
	if c.memory != nil {
		c.memory.Stop()
	}
	if c.server != nil {
		c.server.Close()
	}
	if c.mirror != nil {
		c.mirror.Close()
	}
	if c.db == nil {
		return nil
	}
	return c.db.Close()
}

// hosts leaves the ports out.
func hosts(addresses []string) (names []string) {
	for _, a := range addresses {
		if host, _, err := net.SplitHostPort(a); err == nil {
			names = append(names, host)
		}
	}
	return names
}
