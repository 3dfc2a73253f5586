package identity

import (
	"context"
	"errors"
	"maps"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Guard stands before every method of a gRPC server and enforces a table: rate
// limit, class, certificate, ban. What it lets through has its caller in the
// context, see [CallerOf].
type Guard struct {
	a      *Authority
	table  Table
	limits *limiter
	web    *Web // if there is one
	// handlers that may outlive their call
	handlers sync.WaitGroup
}

// Guard makes the guard of a server.
func (a *Authority) Guard(t Table) *Guard {
	return &Guard{a: a, table: maps.Clone(t), limits: newLimiter()}
}

// ServerOptions is what a server needs to be guarded: credentials and
// interceptors, which come before others. It may serve any listener with TLS, and
// that of ListenSocket without; the latter must be handed to it as it is.
func (g *Guard) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(g.a.transport(g.web)),
		grpc.ChainUnaryInterceptor(g.unary),
		grpc.ChainStreamInterceptor(g.stream),
	}
}

// Wait waits for the handlers of streams that the guard has ended: they notice a
// moment after their callers. It is for after the server has stopped.
func (g *Guard) Wait() { g.handlers.Wait() }

// admit decides on a call by everything but the records.
func (g *Guard) admit(ctx context.Context, method string) (Rule, Caller, connInfo, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Rule{}, Caller{}, connInfo{}, status.Error(codes.Internal, "a call without a peer")
	}
	// Other credentials leave the zero value: nobody.
	info, ok := p.AuthInfo.(connInfo)
	if !ok {
		info.denial = deny(CertificateMissing, "")
	}
	caller, key := info.caller(p)
	rule, ok := g.table[method]
	if !ok {
		return rule, caller, info, deny(NotPermitted, "for nobody")
	}
	if ok, retry := g.limits.allow(method, key, rule.Limit, g.a.cfg.Now()); !ok {
		return rule, caller, info, &Denial{Reason: RateLimited, RetryAfter: retry}
	}
	switch {
	case rule.Class == Anyone:
		return rule, Caller{Class: Anyone, Address: p.Addr}, connInfo{}, nil
	case caller.Class == rule.Class:
		return rule, caller, info, nil
	case info.denial != nil:
		return rule, caller, info, info.denial
	}
	return rule, caller, info, deny(NotPermitted, "only for "+rule.Class.String())
}

// caller is who the connection's peer is, and what it is counted by. One that
// shows no certificate of the fleet is counted by its address, apart from its
// neighbours that do.
func (info connInfo) caller(p *peer.Peer) (c Caller, key string) {
	c.Address = p.Addr
	switch {
	case info.operator:
		c.Class, c.Name = Operators, "socket"
		return c, c.Name
	case info.denial != nil:
		c.Class = Anyone
		return c, addressKey(p.Addr)
	}
	s := info.holder.subject
	c.Class, c.Name, c.Serial = Probes, s.Name, serialOf(info.holder.cert)
	if s.Kind == KindOperator {
		c.Class = Operators
	}
	return c, s.String()
}

// enter is admit and then the records.
func (g *Guard) enter(ctx context.Context, method string, end context.CancelCauseFunc) (Rule, context.Context, func(), error) {
	rule, caller, info, err := g.admit(ctx, method)
	leave := func() {}
	if err == nil && info.holder.cert != nil {
		if end != nil {
			leave = g.a.live.add(info.holder, end)
		}
		err = g.a.check(ctx, info.holder)
	}
	if err != nil {
		leave()
		if why := ended(ctx); why != nil { // a ban came while the records were read
			err = why
		}
		return rule, nil, nil, g.refuse(method, caller, err)
	}
	return rule, context.WithValue(ctx, callerKey{}, caller), leave, nil
}

// refuse logs a refusal, and what went wrong when it is none: the caller is not
// told about our insides.
func (g *Guard) refuse(method string, c Caller, err error) error {
	var d *Denial
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err() // the caller has gone
	case !errors.As(err, &d):
		g.a.log.Error("caller not checked", "method", method, "caller", c.Name, "address", c.Address, "error", err)
		return status.Error(codes.Unavailable, "the controller cannot look you up at the moment")
	case d.Reason == RateLimited: // a flood must not become a flood of lines
		g.a.log.Debug("call refused", "method", method, "caller", c.Name, "address", c.Address, "reason", d)
	default:
		g.a.log.Warn("call refused", "method", method, "caller", c.Name, "address", c.Address, "reason", d)
	}
	return d
}

func (g *Guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	rule, ctx, _, err := g.enter(ctx, info.FullMethod, nil)
	if err != nil {
		return nil, err
	}
	if rule.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, rule.Timeout)
		defer cancel()
	}
	return handler(ctx, req)
}

var errTooLong = errors.New("the call takes too long")

func (g *Guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, end := context.WithCancelCause(ss.Context())
	defer end(nil)
	rule, ctx, leave, err := g.enter(ctx, info.FullMethod, end)
	if err != nil {
		return err
	}
	defer leave()
	if rule.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, rule.Timeout, errTooLong)
		defer cancel()
	}
	// A handler that waits for a message does not see its context end. When this
	// function returns, gRPC ends the stream, and with it the wait.
	done := make(chan error, 1)
	g.handlers.Go(func() { done <- handler(srv, &guarded{ss, ctx}) })
	finished := false
	select {
	case err = <-done:
		finished = true
	case <-ctx.Done():
	}
	if err := ended(ctx); err != nil {
		return err
	}
	if !finished { // the caller has gone, the handler notices by itself
		err = <-done
	}
	return err
}

// ended says what of ours has ended the call, if anything has.
func ended(ctx context.Context) error {
	var d *Denial
	switch cause := context.Cause(ctx); {
	case errors.As(cause, &d):
		return d
	case errors.Is(cause, errTooLong):
		return status.Error(codes.DeadlineExceeded, cause.Error())
	}
	return nil
}

// guarded is a stream with the caller in its context.
type guarded struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *guarded) Context() context.Context { return s.ctx }
