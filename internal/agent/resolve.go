package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
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
	return &resolver{net.Resolver{PreferGo: true, StrictErrors: true, Dial: dial}, lookupTime}
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
	addrs, err := r.LookupNetIP(ctx, network, name)
	var failure *net.DNSError
	switch {
	case err == nil && len(addrs) > 0:
		return addrs[0].Unmap(), ""
	case err == nil:
		return netip.Addr{}, measure.CondNameNotFound
	case errors.As(err, &failure) && failure.IsNotFound:
		return netip.Addr{}, measure.CondNameNotFound
	case errors.As(err, &failure) && failure.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return netip.Addr{}, measure.CondNameTimeout
	}
	return netip.Addr{}, measure.CondNameFailed
}
