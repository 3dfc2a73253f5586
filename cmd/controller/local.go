package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"tfofleet/internal/agent"
	"tfofleet/internal/controller"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	"tfofleet/internal/tfo"
	"tfofleet/internal/version"
	pb "tfofleet/proto/tfofleet/v1"
)

// stateDir is where the controller keeps, within a dataset, what it needs to go
// on with its survey. It goes when the survey is complete.
const stateDir = ".controller"

func hasState(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, stateDir))
	return err == nil
}

func removeState(dir string) error { return os.RemoveAll(filepath.Join(dir, stateDir)) }

const (
	// heartbeat is the default of a fleet; within a process nothing gets lost.
	heartbeat = 10 * time.Second
	// flush is how long the end of a survey waits for results to be stored.
	flush = 2 * time.Second
)

// local is a controller and a probe named "local" in this process. They speak
// the gRPC services of a fleet over a wire of memory.
type local struct {
	control pb.ControlServiceClient
	died    chan error // the probe gave up, and why

	db     *store.SQLite
	server *controller.Server
	memory *controller.Memory
	conns  []*grpc.ClientConn

	stopProbe context.CancelFunc
	probe     sync.WaitGroup
}

// startLocal starts both over a dataset directory, and goes on with the survey
// that is in it. After an error what was started is stopped.
func startLocal(ctx context.Context, dir string, s site, log hclog.Logger) (_ *local, err error) {
	l := &local{died: make(chan error, 1)}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	state := filepath.Join(dir, stateDir)
	if err := os.MkdirAll(state, 0o755); err != nil {
		return nil, err
	}
	rules := lease.DefaultRules(heartbeat)
	if l.db, err = store.OpenSQLite(ctx, filepath.Join(state, "state.db"), store.Options{Rules: rules}); err != nil {
		return nil, err
	}
	if l.server, err = controller.New(ctx, controller.Config{
		Dir: state, Dataset: func(string) string { return dir }, Store: l.db,
		Heartbeat: heartbeat, TTL: rules.TTL, Version: version.String(), Logger: log,
	}); err != nil {
		return nil, err
	}
	l.memory = l.server.ServeInMemory()
	for range 3 {
		c, err := l.memory.Dial()
		if err != nil {
			return nil, err
		}
		l.conns = append(l.conns, c)
	}
	l.control = pb.NewControlServiceClient(l.conns[0])
	return l, l.startProbe(l.conns[1], l.conns[2], s, log)
}

func (l *local) startProbe(session, results *grpc.ClientConn, s site, log hclog.Logger) error {
	h, err := tfo.ReadHost(s.netns)
	if err != nil {
		return err
	}
	probe := agent.New(agent.Config{
		Name: "local", Version: version.String(), Session: session, Results: results,
		Host: agent.HostToWire(h),
		NewRunner: func(spec *pb.SurveySpec) (agent.Runner, error) {
			return measure.NewRunner(measure.Settings{
				Plan: measure.Plan(spec.GetPlan()), Payload: measure.PayloadKind(spec.GetPayload()), Bytes: spec.GetPayloadBytes(),
				Timeout: spec.GetTimeout().AsDuration(),
			}, tfo.Config{
				Rate: spec.GetRate(), Concurrency: int(spec.GetConcurrency()), Hold: spec.GetHold().AsDuration(), NetNS: s.netns,
			})
		},
		Policy: s.policy, DialDNS: s.dialDNS, Flush: flush, Logger: log,
	})
	ctx, stop := context.WithCancel(context.Background())
	l.stopProbe = stop
	l.probe.Go(func() {
		if err := probe.Run(ctx); err != nil {
			l.died <- fmt.Errorf("the probe gave up: %w", err)
		}
	})
	return nil
}

// dialDNS connects to a DNS server from where the survey is made.
func (s site) dialDNS(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if s.resolver.IsValid() {
		address = s.resolver.String()
	}
	err = s.netns.Do(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// end stops the probe, puts what was measured into the dataset, stops the
// controller, and returns where the survey stands now.
func (l *local) end(survey string) (*pb.SurveyState, error) {
	l.endProbe()
	ctx := context.Background()
	settled := l.server.Settle(ctx)
	state, err := l.server.GetSurvey(ctx, &pb.GetSurveyRequest{Survey: survey})
	return state.GetState(), errors.Join(settled, err, l.close())
}

func (l *local) endProbe() {
	if l.stopProbe != nil {
		l.stopProbe()
		l.probe.Wait()
	}
}

// close stops everything, in the order that loses nothing.
func (l *local) close() error {
	l.endProbe()
	for _, c := range l.conns {
		c.Close()
	}
	if l.memory != nil {
		l.memory.Stop()
	}
	if l.server != nil {
		l.server.Close()
	}
	if l.db != nil {
		return l.db.Close()
	}
	return nil
}
