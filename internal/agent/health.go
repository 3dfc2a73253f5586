package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/agent/spool"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// health is what a probe knows of itself.
type health struct {
	reflectors chan []string // the newest that were told, for whoever tests

	mu        sync.Mutex
	host      *pb.Host
	lastAck   time.Time // of a batch
	paused    time.Time // until when the kernel has Fast Open switched off
	wanted    bool      // a self-test is
	tested    bool      // and was made
	path      pb.NearPath
	detail    string
	failure   error // of the self-test
	readiness pb.Readiness
	reason    string
}

// lookEvery is how often the probe looks at itself. Whoever makes a kill-switch
// file wants to see it work.
const (
	lookEvery     = time.Second
	lookAtHost    = 10 * time.Second
	selfTestEvery = 30 * time.Minute
	selfTestAgain = time.Minute // after one that failed
	selfTestTime  = time.Minute // for one
)

// watch looks at the probe until ctx is over.
func (a *Agent) watch(ctx context.Context) {
	tick, host := time.NewTicker(lookEvery), time.NewTicker(lookAtHost)
	defer tick.Stop()
	defer host.Stop()
	for a.look(); ; a.look() {
		select {
		case <-tick.C:
		case <-host.C:
			a.lookAtHost()
		case <-ctx.Done():
			return
		}
	}
}

// look notes a jump of the clock, and another readiness.
func (a *Agent) look() {
	if jump := a.clock.look(); jump != 0 {
		a.log.Warn("the clock was set", "by", jump)
		a.event(spool.EventClockJump, fmt.Sprintf("the clock was set by %+v s", jump.Seconds()))
	}
	readiness, reason := a.readiness()
	h := &a.health
	h.mu.Lock()
	was, whyWas := h.readiness, h.reason
	h.readiness, h.reason = readiness, reason
	h.mu.Unlock()
	if was == readiness && (whyWas == reason || readiness == pb.Readiness_READINESS_CLOCK) { // that one moves
		return
	}
	switch readiness {
	case pb.Readiness_READINESS_READY:
		a.log.Info("ready")
	case pb.Readiness_READINESS_DRAINING:
		a.log.Info("not ready", "reason", reason)
	default:
		a.log.Warn("not ready", "reason", reason)
	}
	signalTo(a.beat)
	a.poked()
}

func (a *Agent) lookAtHost() {
	if a.cfg.LookAtHost == nil {
		return
	}
	host, err := a.cfg.LookAtHost()
	if err != nil {
		a.log.Error("the kernel's settings cannot be read", "reason", err)
		return
	}
	a.health.mu.Lock()
	defer a.health.mu.Unlock()
	a.health.host = host
}

// readiness says whether the probe takes leases, and why not. What its operator
// can mend comes first.
func (a *Agent) readiness() (pb.Readiness, string) {
	a.mu.Lock()
	draining := a.draining
	a.mu.Unlock()
	if draining {
		return pb.Readiness_READINESS_DRAINING, "the probe is stopping"
	}
	if g := a.cfg.Guard; g != nil {
		if err := g.Trouble(); err != nil {
			return pb.Readiness_READINESS_POLICY, fmt.Sprintf("the policy cannot be read: %v", err)
		}
		if g.Stopped(time.Now()) {
			return pb.Readiness_READINESS_POLICY, "the kill switch is on"
		}
	}
	if s := a.cfg.Spool; s != nil && !s.Credit() {
		st := s.Status()
		if st.Trouble != "" {
			return pb.Readiness_READINESS_SPOOL_BROKEN, st.Trouble
		}
		return pb.Readiness_READINESS_SPOOL_FULL, "the spool is full: the controller has to take results first"
	}
	if off, known := a.clock.off(); known && off.Abs() >= clockNear {
		return pb.Readiness_READINESS_CLOCK, fmt.Sprintf("the clock is %+.1f s off the controller's: set it", off.Seconds())
	}
	h := &a.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if bits := h.host.GetTcpFastopen(); h.host != nil && bits != tfo.NotKnown && bits&tfo.SysctlClient == 0 {
		return pb.Readiness_READINESS_CLIENT_OFF, fmt.Sprintf("the kernel's TCP Fast Open client is off: sysctl -w net.ipv4.tcp_fastopen=%d", bits|tfo.SysctlClient)
	}
	if time.Now().Before(h.paused) {
		return pb.Readiness_READINESS_BLACKHOLE_TIMEOUT, "the kernel has switched TCP Fast Open off for a time: sysctl -w net.ipv4.tcp_fastopen_blackhole_timeout_sec=0"
	}
	switch {
	case h.wanted && h.failure != nil:
		return pb.Readiness_READINESS_SELF_TEST, fmt.Sprintf("the self-test failed: %v", h.failure)
	case h.wanted && !h.tested:
		return pb.Readiness_READINESS_SELF_TEST, "the self-test is under way"
	}
	return pb.Readiness_READINESS_READY, ""
}

// noticePause notes that the kernel did not send the option for a while, as it does
// when it takes the way for a black hole.
func (h *health) noticePause() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.host.GetBlackholeTimeoutS(); s > 0 {
		h.paused = time.Now().Add(time.Duration(s) * time.Second)
	}
}

func (h *health) acked() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastAck = time.Now()
}

// selfTests tests the way to the controller's listeners until ctx is over.
func (a *Agent) selfTests(ctx context.Context) {
	if a.cfg.SelfTest == nil {
		return
	}
	var reflectors []string
	due := time.NewTimer(selfTestEvery)
	defer due.Stop()
	for {
		select {
		case reflectors = <-a.health.reflectors:
		case <-due.C:
		case <-ctx.Done():
			return
		}
		again := selfTestEvery
		if len(reflectors) > 0 {
			limited, cancel := context.WithTimeout(ctx, selfTestTime)
			path, detail, err := a.cfg.SelfTest(limited, reflectors)
			cancel()
			if ctx.Err() != nil {
				return
			}
			a.tested(path, detail, err)
			if err != nil {
				again = jitter(selfTestAgain)
			}
		}
		due.Reset(again)
	}
}

// reflect takes the reflectors of a Welcome. The self-test that they want is
// made soon; what the last one found holds until then.
func (a *Agent) reflect(reflectors []string) {
	h := &a.health
	h.mu.Lock()
	had := h.wanted
	h.wanted = len(reflectors) > 0 && a.cfg.SelfTest != nil
	if had && !h.wanted {
		h.tested, h.path, h.detail, h.failure = false, 0, "", nil
	}
	h.mu.Unlock()
	select {
	case <-h.reflectors:
	default:
	}
	h.reflectors <- reflectors
}

// tested notes what a self-test found, and records it where it is news.
func (a *Agent) tested(path pb.NearPath, detail string, err error) {
	h := &a.health
	h.mu.Lock()
	if !h.wanted {
		h.mu.Unlock()
		return
	}
	if err != nil {
		path, detail = pb.NearPath_NEAR_PATH_UNSPECIFIED, ""
	}
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	news := !h.tested || h.path != path || h.detail != detail || text(h.failure) != text(err)
	h.tested, h.path, h.detail, h.failure = true, path, detail, err
	h.mu.Unlock()
	if news {
		said := nearPathName(path)
		switch {
		case err != nil:
			said = "failed: " + err.Error()
		case detail != "":
			said += ": " + detail
		}
		a.log.Info("self-test", "near_path", said)
		a.event(spool.EventSelfTest, said)
	}
	a.look()
}

func nearPathName(p pb.NearPath) string {
	if p == pb.NearPath_NEAR_PATH_CLEAN {
		return "clean"
	}
	if c, ok := measure.NearPath(p).Condition(); ok {
		return string(c)
	}
	return "not known"
}

// nearPath is the condition that every result has while there is a fault near
// the probe.
func (h *health) nearPath() (measure.Condition, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return measure.NearPath(h.path).Condition()
}

// HostToWire is a machine as a probe says it of its own, see Config.
func HostToWire(h tfo.Host) *pb.Host {
	return &pb.Host{
		Hostname: h.Hostname, Kernel: h.Kernel, Arch: h.Arch,
		TcpFastopen: int32(h.FastOpen), BlackholeTimeoutS: int32(h.BlackholeTimeoutS), CanClearCookies: pb.Tri(h.CanClearCookies),
	}
}

// status is how the probe is.
func (a *Agent) status() *pb.ProbeStatus {
	readiness, reason := a.readiness()
	st := &pb.ProbeStatus{
		Readiness: readiness, Reason: reason,
		Active: uint32(max(0, a.active.Load())), Done: a.done.Load(), Refused: a.refused.Load(),
	}
	if off, known := a.clock.off(); known {
		st.ClockOffset = durationpb.New(off)
	}
	if a.cfg.Guard != nil {
		st.PolicyDigest = a.cfg.Guard.Digest()
	}
	if a.cfg.Spool != nil {
		st.Spool = spoolStatus(a.cfg.Spool.Status())
	}
	h := &a.health
	h.mu.Lock()
	defer h.mu.Unlock()
	st.NearPath, st.NearPathDetail = h.path, h.detail
	if !h.lastAck.IsZero() {
		st.SinceResult = durationpb.New(time.Since(h.lastAck))
	}
	return st
}

func spoolStatus(st spool.Status) *pb.SpoolStatus {
	return &pb.SpoolStatus{
		Id: st.ID.String(), Spooled: st.Spooled, Acked: st.Acked, Depth: uint64(st.Depth), Bytes: uint64(st.Bytes), Limit: uint64(st.Limit),
		Oldest: durationpb.New(st.OldestAge), Dropped: st.Dropped, Quarantined: uint64(st.Quarantined), Refused: st.Refused, Trouble: st.Trouble,
	}
}

// event records what happened to the probe itself, where that is kept.
func (a *Agent) event(kind spool.EventKind, detail string) {
	if a.cfg.Spool == nil {
		return
	}
	if err := a.cfg.Spool.Event(kind, detail); err != nil {
		a.log.Error("an event could not be recorded", "event", kind, "detail", detail, "reason", err)
	}
}

// labelled adds conditions that are the probe's own to those of a measurement.
func labelled(m measure.Measurement, more ...measure.Condition) measure.Measurement {
	m.Conditions = append(slices.Clip(m.Conditions), more...)
	slices.Sort(m.Conditions)
	return m
}
