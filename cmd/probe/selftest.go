package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"tfofleet/internal/agent/policy"
	"tfofleet/internal/measure"
	"tfofleet/internal/reflector"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// selfTest measures the controller's own TFO listeners from where targets are
// measured. Of several the worst that is found counts.
func selfTest(m *member, guard *policy.Guard, ns tfo.NetNS) func(context.Context, []string) (pb.NearPath, string, error) {
	ask := func(ctx context.Context, nonce measure.Nonce) (*pb.ArrivalBatch, error) {
		resp, err := pb.NewProbeServiceClient(m.session).Reflect(ctx, &pb.ReflectRequest{Nonce: nonce[:]})
		return resp.GetSeen(), err
	}
	return func(ctx context.Context, mirrors []string) (worst pb.NearPath, detail string, err error) {
		for _, mirror := range mirrors {
			at, resolveErr := resolveMirror(ctx, mirror)
			if resolveErr != nil {
				err = errors.Join(err, resolveErr)
				continue
			}
			if logErr := guard.Contacted(policy.Contact{Time: time.Now(), Addr: at.Addr(), Port: at.Port(), Host: mirror, Survey: "self-test"}); logErr != nil {
				return 0, "", logErr
			}
			near, text, testErr := reflector.Test(ctx, at, ns, ask)
			err = errors.Join(err, testErr)
			if pb.NearPath(near) > worst {
				worst, detail = pb.NearPath(near), text
			}
		}
		if worst != pb.NearPath_NEAR_PATH_UNSPECIFIED {
			return worst, detail, nil // one that can be reached is enough
		}
		return worst, detail, err
	}
}

func resolveMirror(ctx context.Context, mirror string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(mirror); err == nil {
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
	}
	host, port, err := net.SplitHostPort(mirror)
	if err != nil {
		return netip.AddrPort{}, err
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return netip.AddrPort{}, fmt.Errorf("the controller's listener %s: %w", mirror, err)
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(n)), nil
}
