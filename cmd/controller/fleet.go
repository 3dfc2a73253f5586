package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"tfofleet/internal/controller"
	"tfofleet/internal/identity"
	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	"tfofleet/internal/version"
)

// fleet is the controller of a fleet.
type fleet struct {
	log       hclog.Logger
	db        *store.SQLite
	authority *identity.Authority
	server    *controller.Server
	guard     *identity.Guard
	health    *health.Server
	rpc       *grpc.Server
	failed    chan error // a listener broke

	stop    context.CancelFunc
	workers sync.WaitGroup
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
	if c.db, err = store.OpenSQLite(ctx, filepath.Join(f.data, "state.db"), store.Options{Rules: rules}); err != nil {
		return nil, err
	}
	ca, err := identity.OpenCA(filepath.Join(f.data, "ca"), time.Now())
	if err != nil {
		return nil, err
	}
	c.authority, err = identity.NewAuthority(ctx, identity.Config{CA: ca, Store: c.db.Identity(), Names: hosts(addresses), Logger: log.Named("identity")})
	if err != nil {
		return nil, err
	}
	surveys := filepath.Join(f.data, "surveys")
	if err := os.MkdirAll(surveys, 0o700); err != nil {
		return nil, unwritable(surveys, err)
	}
	c.server, err = controller.New(ctx, controller.Config{
		Dir: f.data, Dataset: func(id string) string { return filepath.Join(surveys, id) }, Store: c.db,
		Heartbeat: f.heartbeat, TTL: rules.TTL, Version: version.String(), Authority: c.authority, Addresses: addresses, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	c.build()
	c.workers.Go(func() { c.recheck(life) })
	return c, nil
}

// build makes the gRPC server with all its services. Who may call what is one
// table, which the guard enforces.
func (c *fleet) build() {
	c.guard = c.authority.Guard(identity.Methods())
	options := append(c.guard.ServerOptions(),
		// A probe pings every 30 s; the default policy would end its connection.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 15 * time.Second, PermitWithoutStream: true}),
		// A probe that vanished without a word must not keep its name taken.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
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
	}
}

// close stops everything, in the order that loses nothing: streams end, calls
// may, and then the store.
func (c *fleet) close() error {
	c.stop()
	if c.rpc != nil {
		c.health.Shutdown()
		c.server.Drain()
		cut := time.AfterFunc(stopping, c.rpc.Stop)
		c.rpc.GracefulStop()
		cut.Stop()
		c.guard.Wait()
	}
	c.workers.Wait()
	if c.server != nil {
		c.server.Close()
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
