package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// maxLookups names are resolved at a time: a socket each, and a load that
	// a resolver of one's own bears.
	maxLookups = 256
	// lookupTime is for both tries of both families: resolv.conf has 5 s per
	// try.
	lookupTime = 20 * time.Second
)

// resolver resolves names through DNS, by itself: what it asks is what counts,
// not what a system's resolver makes of it.
type resolver struct {
	net.Resolver
	patience time.Duration // with one name
}

func newResolver(dial func(ctx context.Context, network, address string) (net.Conn, error)) *resolver {
	// StrictErrors: a server that fails is a failure, not an absence.
	return &resolver{net.Resolver{PreferGo: true, StrictErrors: true, Dial: noticing(dial)}, lookupTime}
}

// unreachableKey is where a lookup hears that a server could not be reached:
// package net does not hand the reason on.
type unreachableKey struct{}

// noticing dials, and tells the lookup when nothing could be sent for a reason
// of this machine's. A nil dial is net.Dialer's.
func noticing(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		cannotLeave := errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.EPERM)
		if flag, ok := ctx.Value(unreachableKey{}).(*atomic.Bool); ok && cannotLeave {
			flag.Store(true)
		}
		return conn, err
	}
}

// lookup is an address of the name, or the condition that says why there is
// none. With any family it is an IPv4 address where there is one.
func (r *resolver) lookup(ctx context.Context, name string, family pb.Family) (netip.Addr, measure.Condition) {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	switch family {
	case pb.Family_FAMILY_IPV4:
		return r.only(ctx, name, "ip4", "ip6")
	case pb.Family_FAMILY_IPV6:
		return r.only(ctx, name, "ip6", "ip4")
	}
	addr, cond := r.ask(ctx, name, "ip4")
	if cond == measure.CondNameNotFound {
		return r.ask(ctx, name, "ip6")
	}
	return addr, cond
}

// only asks for one family, and when there is nothing, whether there is of the
// other.
func (r *resolver) only(ctx context.Context, name, network, other string) (netip.Addr, measure.Condition) {
	addr, cond := r.ask(ctx, name, network)
	if cond == measure.CondNameNotFound {
		if _, cond := r.ask(ctx, name, other); cond == "" {
			return netip.Addr{}, measure.CondNameNoAddress
		}
	}
	return addr, cond
}

func (r *resolver) ask(ctx context.Context, name, network string) (netip.Addr, measure.Condition) {
	// The final dot keeps the search list of resolv.conf out. A name of one
	// label goes without: with it, localhost is not found in /etc/hosts.
	if strings.Contains(name, ".") {
		name += "."
	}
	var unreachable atomic.Bool
	addrs, err := r.LookupNetIP(context.WithValue(ctx, unreachableKey{}, &unreachable), network, name)
	var failure *net.DNSError
	switch {
	case err == nil && len(addrs) > 0:
		return addrs[0].Unmap(), ""
	case err == nil:
		return netip.Addr{}, measure.CondNameNotFound
	case errors.As(err, &failure) && failure.IsNotFound:
		return netip.Addr{}, measure.CondNameNotFound
	case unreachable.Load():
		return netip.Addr{}, measure.CondVantageNoResolver
	case errors.As(err, &failure) && failure.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return netip.Addr{}, measure.CondNameTimeout
	}
	return netip.Addr{}, measure.CondNameFailed
}
