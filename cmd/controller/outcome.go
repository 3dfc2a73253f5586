package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/tfo"
)

// unfinished is the ending of a survey that has targets left.
func (r *surveyRun) unfinished(why error) error {
	again := "go on with: " + r.again + " --resume " + quote(r.dir)
	left := counted(r.state.GetPending(), "target") + " not measured"
	var s *stall
	switch {
	case r.scratch && errors.Is(why, context.Canceled):
		return fail(exitInterrupted, errors.New("interrupted"))
	case errors.As(why, &s) && s.full():
		return fail(exitDiskFull, fmt.Errorf("no space left for %s, %s", r.dir, left), "make room, nothing is lost", again)
	case errors.As(why, &s):
		return fail(exitCannotWrite, fmt.Errorf("%s cannot be written, %s: %w", r.dir, left, why), again)
	case errors.Is(why, context.Canceled):
		return fail(exitInterrupted, fmt.Errorf("interrupted, %s", left), again)
	}
	return fail(exitFailure, why, again)
}

// judge says how a survey that was made to its end went.
func (r *surveyRun) judge(host tfo.Host, s *report.Summary) error {
	var noRoute, unresolved, stale uint64
	for _, c := range s.Conditions {
		switch {
		case c.Condition == string(measure.CondVantageNoRoute):
			noRoute = c.Count
		case c.Condition == string(measure.CondVantageStale):
			stale = c.Count
		case strings.HasPrefix(c.Condition, "tfo.resolve."), c.Condition == string(measure.CondVantageNoResolver):
			unresolved += c.Count
		}
	}
	switch {
	case s.Measured == 0 && s.Refused > 0:
		return fail(exitAllRefused, errors.New("the policy refused every target: nothing was sent"),
			"special-purpose ranges must be allowed by --allow CIDR; check --blocklist")
	case s.Measured > 0 && unresolved >= s.Measured:
		return fail(exitUnresolved, errors.New("not one name could be resolved"),
			"check the names, and /etc/resolv.conf; --resolver ADDR asks another DNS server")
	case s.Measured > 0 && noRoute >= s.Measured:
		return fail(exitNoRoute, errors.New("this machine has no route to any target"),
			"bring the network up (ip route), or measure the family it has with --family 4 or 6")
	case host.BlackholeTimeoutS > 0:
		return fail(exitBlackhole, errors.New("complete, with limits: net.ipv4.tcp_fastopen_blackhole_timeout_sec was set, the kernel may have left out Fast Open by itself"),
			"for a survey without limits: "+sysctl(r.site.netns, "net.ipv4.tcp_fastopen_blackhole_timeout_sec=0"))
	case stale > 0:
		return fail(exitStaleCookies, fmt.Errorf("complete, with limits: %s met a cookie of earlier that could not be deleted", counted(stale, "target")),
			"for a survey without limits give it CAP_NET_ADMIN: run as root")
	}
	return nil
}
