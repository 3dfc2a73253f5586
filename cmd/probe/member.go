package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

// member is a probe's membership: its connections, and the certificate that is
// renewed while it lasts and recovered when it did not.
type member struct {
	me               *identity.Probe
	log              hclog.Logger
	session, results *link
	first            atomic.Pointer[[]string] // controllers to try before all others
	refused          chan struct{}            // the certificate is of no use
	told             atomic.Pointer[string]   // the last reason that was logged since the last Welcome
}

func connect(me *identity.Probe, log hclog.Logger) (*member, error) {
	m := &member{me: me, log: log.Named("member"), refused: make(chan struct{}, 1)}
	creds, err := me.Transport()
	if err != nil {
		return nil, err
	}
	dial := func() (*grpc.ClientConn, error) {
		target, options := controllers(m.addresses())
		return grpc.NewClient(target, append(options, grpc.WithTransportCredentials(creds),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
			// A jitter of 1 is a pause between nothing and twice as long: probes
			// that lost a controller together do not come back together.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{BaseDelay: time.Second, Multiplier: 2, Jitter: 1, MaxDelay: time.Minute}, MinConnectTimeout: 20 * time.Second,
			}))...)
	}
	if m.session, err = newLink(dial); err != nil {
		return nil, err
	}
	if m.results, err = newLink(dial); err != nil {
		m.session.close()
		return nil, err
	}
	return m, nil
}

// controllers is the target of a connection to whichever address answers, tried
// in their order.
func controllers(addresses []string) (string, []grpc.DialOption) {
	if len(addresses) == 1 {
		return "dns:///" + addresses[0], nil
	}
	r := manual.NewBuilderWithScheme("tfofleet")
	// HTTPS_PROXY and NO_PROXY are asked for every address. But first they are
	// asked for the name of the target, and when that needs no proxy, no address
	// gets one: so it is a name that no NO_PROXY has, except "*".
	state := resolver.State{}
	for _, a := range addresses {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: a})
	}
	r.InitialState(state)
	return r.Scheme() + ":///any.invalid", []grpc.DialOption{grpc.WithResolvers(r)}
}

// addresses of controllers, in the order in which they are tried.
func (m *member) addresses() []string {
	var all []string
	if first := m.first.Load(); first != nil {
		all = append(all, *first...)
	}
	for _, a := range m.me.Addresses() {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// prefer has these controllers tried before all others, from the next connection
// on, and that is now. Who they are is checked as for any other.
func (m *member) prefer(addresses []string) {
	m.first.Store(&addresses)
	if err := errors.Join(m.session.redial(), m.results.redial()); err != nil {
		m.log.Error("the controllers to try first were not taken", "addresses", addresses, "reason", err)
	}
}

// welcomed takes the CA certificates that a controller sent.
func (m *member) welcomed(w *pb.Welcome) {
	m.told.Store(nil)
	m.log.Info("connected", "session", w.GetSession())
	if err := m.me.SetBundle(w.GetBundle()); err != nil {
		m.log.Error("the controller's CA certificates were not taken", "reason", err)
	}
}

// ended looks at why a stream did, and says it once.
func (m *member) ended(err error) {
	why := identity.Why(err)
	if had := m.told.Swap(&why); (had == nil || *had != why) && status.Code(err) != codes.Canceled {
		m.log.Warn("not connected, trying again", "reason", why)
	}
	if !identity.NeedsRecovery(err) {
		return
	}
	select {
	case m.refused <- struct{}{}:
	default:
	}
}

// keep keeps the certificate good until ctx is over.
func (m *member) keep(ctx context.Context) {
	const first, longest = time.Second, 2 * time.Minute
	pause := first
	due := time.NewTimer(m.me.RenewIn())
	defer due.Stop()
	for {
		lost := false // only a recovery helps
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		case <-m.refused:
			lost = true
		}
		err := m.exchange(ctx, &lost)
		how := "renewed"
		if lost {
			how = "recovered"
		}
		if err == nil {
			m.log.Info("certificate " + how)
			pause = first
			due.Reset(m.me.RenewIn())
			continue
		}
		if ctx.Err() != nil {
			return
		}
		m.log.Warn("certificate not "+how, "reason", err)
		// Full jitter, as for every call of a whole fleet.
		wait := time.NewTimer(rand.N(pause))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
		pause = min(2*pause, longest)
		due.Reset(m.me.RenewIn())
	}
}

// exchange gets another certificate and shows it from now on. A renewal for
// which it is too late becomes a recovery.
func (m *member) exchange(ctx context.Context, lost *bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var err error
	if !*lost {
		err = m.renew(ctx)
		*lost = identity.NeedsRecovery(err)
	}
	if *lost {
		err = m.me.Recover(ctx)
	}
	if err == nil {
		err = errors.Join(m.session.redial(), m.results.redial())
	}
	select { // what the old connections were told
	case <-m.refused:
	default:
	}
	return err
}

func (m *member) renew(ctx context.Context) error {
	return m.me.Renew(ctx, func(ctx context.Context, csr []byte) (*pb.IssuedCertificate, error) {
		resp, err := pb.NewProbeServiceClient(m.session).Renew(ctx, &pb.RenewRequest{Csr: csr})
		return resp.GetIssued(), err
	})
}

func (m *member) close() {
	m.session.close()
	m.results.close()
}

// link is a connection that can be made anew: a certificate is shown when a
// connection is made, and never again.
type link struct {
	dial    func() (*grpc.ClientConn, error)
	current atomic.Pointer[grpc.ClientConn]
}

func newLink(dial func() (*grpc.ClientConn, error)) (*link, error) {
	l := &link{dial: dial}
	return l, l.redial()
}

// redial exchanges the connection. The calls of the old one end.
func (l *link) redial() error {
	c, err := l.dial()
	if err != nil {
		return err
	}
	if old := l.current.Swap(c); old != nil {
		return old.Close()
	}
	return nil
}

func (l *link) close() {
	_ = l.current.Load().Close() // it fails when it is closed already
}

// Invoke implements grpc.ClientConnInterface.
func (l *link) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return l.current.Load().Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements grpc.ClientConnInterface.
func (l *link) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return l.current.Load().NewStream(ctx, desc, method, opts...)
}
