package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

// fleet is a controller process and simulated probes in this one. Each probe
// has its own identity, address and connections.
type fleet struct {
	process *process
	probes  *agenttest.Fleet
	dials   dials
	conns   []*grpc.ClientConn
	members []*agenttest.FleetProbe

	stop    context.CancelFunc
	running sync.WaitGroup
}

// dials is when connections were made.
type dials struct {
	mu sync.Mutex
	at []time.Time
}

func (d *dials) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = nil
}

// peak is how many connections were made, and the most in any second.
func (d *dials) peak() (all, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.SortFunc(d.at, time.Time.Compare)
	from := 0
	for i, t := range d.at {
		for t.Sub(d.at[from]) >= time.Second {
			from++
		}
		most = max(most, i-from+1)
	}
	return len(d.at), most
}

// newFleet starts a controller and lets n probes join. They do not run yet.
func (b *bench) newFleet(ctx context.Context, name string, n, ahead int) (*fleet, error) {
	p, err := b.newProcess(name)
	if err != nil {
		return nil, err
	}
	f := &fleet{process: p, stop: func() {}}
	f.probes = agenttest.NewFleet(ahead)
	if err := errors.Join(p.start(), p.ready(ctx)); err != nil {
		f.close()
		return nil, err
	}
	begun := time.Now()
	if err := f.join(ctx, n, filepath.Join(b.dir, name+"-probes")); err != nil {
		f.close()
		return nil, err
	}
	if name == "fleet" {
		fmt.Printf("fleet: %d probes joined in %.1f s, one certificate each\n", n, time.Since(begun).Seconds())
	}
	return f, nil
}

// join lets probes in by one token. They come from many addresses, for one
// address may not let in as many at once.
func (f *fleet) join(ctx context.Context, n int, dir string) error {
	made, err := f.process.ctl.CreateJoinToken(ctx, &pb.CreateJoinTokenRequest{
		Uses: uint32(n), Ttl: durationpb.New(time.Hour), Addresses: []string{f.process.listen},
	})
	if err != nil {
		return err
	}
	token, err := identity.ParseJoinToken(made.GetToken())
	if err != nil {
		return err
	}
	f.members, f.conns = make([]*agenttest.FleetProbe, n), make([]*grpc.ClientConn, 2*n)
	return atOnce(n, 16, func(i int) (err error) {
		own := filepath.Join(dir, fmt.Sprint(i))
		if err := os.MkdirAll(own, 0o700); err != nil {
			return err
		}
		me, err := identity.OpenProbe(identity.ProbeConfig{Dir: own})
		if err != nil {
			return err
		}
		from := grpc.WithContextDialer(f.dialer(i))
		if err := me.Join(ctx, token, from); err != nil {
			return err
		}
		creds, err := me.Transport()
		if err != nil {
			return err
		}
		for c := range 2 {
			// As the real probe dials.
			f.conns[2*i+c], err = grpc.NewClient("dns:///"+f.process.listen, from, grpc.WithTransportCredentials(creds),
				grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
				grpc.WithConnectParams(grpc.ConnectParams{
					Backoff: backoff.Config{BaseDelay: time.Second, Multiplier: 2, Jitter: 1, MaxDelay: time.Minute}, MinConnectTimeout: 20 * time.Second,
				}))
			if err != nil {
				return err
			}
		}
		f.members[i] = f.probes.Probe(me.Subject().Name, f.conns[2*i], f.conns[2*i+1])
		return nil
	})
}

// dialer dials from an address of its own, and notes when.
func (f *fleet) dialer(i int) func(context.Context, string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1+byte(i/60_000), byte(i/250), byte(1+i%250))}}
	return func(ctx context.Context, address string) (net.Conn, error) {
		c, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			f.dials.mu.Lock()
			f.dials.at = append(f.dials.at, time.Now())
			f.dials.mu.Unlock()
		}
		return c, err
	}
}

// run lets the probes connect, and stay so until close.
func (f *fleet) run() {
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	for _, m := range f.members {
		f.running.Go(func() { m.Run(ctx) })
	}
}

func (f *fleet) close() {
	f.stop()
	f.running.Wait()
	for _, c := range f.conns {
		if c != nil {
			c.Close()
		}
	}
	f.process.close()
}

// await waits for what must come true.
func (f *fleet) await(ctx context.Context, what string, limit time.Duration, true func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	for !true() {
		select {
		case <-tick.C:
		case <-f.process.exited:
			text, _ := os.ReadFile(f.process.data + ".log")
			return fmt.Errorf("the controller ended before: %s\n%s", what, text)
		case <-late:
			return fmt.Errorf("after %v not yet: %s; the last stream ended with: %v", limit, what, f.probes.Err())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// atOnce calls g for 0 to n-1, width at a time, and returns the first error.
func atOnce(n, width int, g func(int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	slots := make(chan struct{}, width)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() { errs[i] = g(i); <-slots })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
