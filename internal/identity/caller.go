package identity

import (
	"context"
	"net"
	"net/netip"
)

// Caller is who makes a call, as the guard has found out.
type Caller struct {
	Class Class
	// Name of the probe or the operator; "socket" for who came over the socket,
	// empty for anyone.
	Name string
	// Serial of the certificate, if there is one.
	Serial string
	// Address is the caller's as seen from here, behind its NAT.
	Address net.Addr
}

type callerKey struct{}

// CallerOf is the caller of the call that ctx is of. It is the zero Caller,
// which is of no class, where no guard stands before the handler.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// addressKey is what strangers are counted by: the address, of IPv6 the /64,
// because a single host has all of it.
func addressKey(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}
