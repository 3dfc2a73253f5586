package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/policy"
	"tfofleet/internal/agent/spool"
	"tfofleet/internal/identity"
	"tfofleet/internal/measure"
	"tfofleet/internal/settings"
	"tfofleet/internal/tfo"
	"tfofleet/internal/version"
	pb "tfofleet/proto/tfofleet/v1"
)

// runFlags are the flags of "probe run". Each can come from the environment or
// the file as well.
type runFlags struct {
	config     string
	data       string
	join       string
	policy     string
	spoolLimit int64
	onFull     onFull
	retry      bool
	resolver   string
	netns      string
	logLevel   string
	logJSON    bool
}

// runSettings are the names of the flags that the environment and the file can
// have.
var runSettings = []string{"data", "join", "policy", "spool-limit", "on-full", "resolver", "netns", "log-level", "log-json"}

// dataDir is where a probe keeps its identity and its spool.
const dataDir = "/var/lib/tfofleet-probe"

func spoolIn(data string) string { return filepath.Join(data, "spool.db") }

func (a *app) runCommand() *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Be a probe of a fleet",
		Long: `Be a probe of a fleet: dial its controller, measure what it leases, and keep
every result until the controller has it.

The first run takes a join token; from then on the probe has an identity of its
own. SIGTERM ends it in good order: nothing new is started, what was started
comes to its end, results are sent. SIGHUP reads the policy again; it holds from
the next SYN on. A probe that is not ready takes no work, and says why in its log
and to its controller.

Every flag can be set in the environment (--policy is TFOFLEET_POLICY), or in a
YAML file whose keys are the names of the flags.`,
		Example: "  probe run --join TOKEN     # once\n  probe run --policy /etc/tfofleet/policy.yaml",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := settings.Apply(cmd, f.config, runSettings...); err != nil {
				return fail(exitUsage, err, fmt.Sprintf("%q lists the settings", cmd.CommandPath()+" --help"))
			}
			return a.serve(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.config, "config", os.Getenv(settings.Variable("config")), "YAML `FILE` with settings")
	fs.StringVar(&f.data, "data", dataDir, "`DIR` for the probe's identity and its spool")
	fs.StringVar(&f.join, "join", "", "join `TOKEN` of the fleet; a member passes over it")
	fs.StringVar(&f.policy, "policy", "", "policy `FILE` (default: the public internet, see the documentation)")
	fs.Int64Var(&f.spoolLimit, "spool-limit", 1<<30, "how many `BYTES` are kept for a controller that is away")
	fs.Var(&f.onFull, "on-full", "when that is reached: keep (start nothing new) or drop-oldest (their targets end as interrupted)")
	fs.BoolVar(&f.retry, "retry-rejected", false, "send again what the controller rejected and \"probe spool\" shows as put aside")
	fs.StringVar(&f.resolver, "resolver", "", "DNS server to ask, `ADDR:PORT` (default from /etc/resolv.conf)")
	fs.StringVar(&f.netns, "netns", "", "network namespace to measure from, a `PATH` such as /run/netns/NAME")
	fs.StringVar(&f.logLevel, "log-level", "info", "error, warn, info, debug or trace")
	fs.BoolVar(&f.logJSON, "log-json", false, "log in JSON")
	return cmd
}

const hintNetNS = "--netns PATH names a network namespace, such as /run/netns/NAME; to enter one takes CAP_SYS_ADMIN"

// finish is how long targets that were started may take to come to their end
// after SIGTERM, before flush begins.
const (
	finish = 20 * time.Second
	flush  = 30 * time.Second
)

// serve is the probe, from its first look at the disk to its last result.
func (a *app) serve(ctx context.Context, f *runFlags) (err error) {
	level := hclog.LevelFromString(f.logLevel)
	if level == hclog.NoLevel {
		return fail(exitUsage, fmt.Errorf("unknown log level %q", f.logLevel), "want error, warn, info, debug or trace")
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "probe", Level: level, JSONFormat: f.logJSON, Output: a.stderr})
	hups := make(chan os.Signal, 1)
	signal.Notify(hups, syscall.SIGHUP)
	defer signal.Stop(hups)
	resolver, err := parseResolver(f.resolver)
	if err != nil {
		return err
	}
	host, err := tfo.ReadHost(tfo.NetNS(f.netns))
	if err != nil {
		return fail(exitFailure, err, hintNetNS)
	}
	guard, err := policy.Open(f.policy, log)
	if err != nil {
		return fail(exitUsage, err, "--policy FILE names another policy")
	}
	defer func() { err = errors.Join(err, guard.Close()) }()
	me, err := identity.OpenProbe(identity.ProbeConfig{Dir: filepath.Join(f.data, "identity"), Logger: log.Named("identity")})
	if err != nil {
		return err
	}
	if err := enrol(ctx, me, f.join, log); err != nil {
		return err
	}
	kept, found, err := spool.Open(spool.Config{Path: spoolIn(f.data), Limit: f.spoolLimit, OnFull: spool.OnFull(f.onFull), Logger: log})
	if errors.Is(err, spool.ErrLocked) {
		return fail(exitFailure, fmt.Errorf("another probe runs in %s", f.data), "--data DIR names another directory: each probe has its own")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	if f.retry {
		n, err := kept.Retry()
		if err != nil {
			return err
		}
		log.Info("rejected records are sent again", "records", n)
	}
	m, err := connect(me, log)
	if err != nil {
		return err
	}
	defer m.close()

	worker, err := newWorker(f.data, guard, tfo.NetNS(f.netns), log)
	if err != nil {
		return err
	}
	probe := agent.New(agent.Config{
		Name: me.Subject().Name, Version: version.String(), Host: agent.HostToWire(host), Session: m.session, Results: m.results,
		BootID: bootID(), LookAtHost: lookAtHost(tfo.NetNS(f.netns)), SelfTest: selfTest(m, guard, tfo.NetNS(f.netns)),
		Guard: guard, Spool: kept, Leases: found.Leases, DialDNS: dialDNS(tfo.NetNS(f.netns), resolver),
		NewRunner: newRunner(guard, tfo.NetNS(f.netns)), OnWelcome: m.welcomed, OnEnd: m.ended, Prefer: m.prefer,
		Tasks: worker, Finish: finish, Flush: flush, Logger: log,
	})
	fmt.Fprintf(a.stderr, "probe: %s runs, for the controller at %s\n", me.Subject().Name, me.Addresses()[0])
	life, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	side, end := context.WithCancel(context.WithoutCancel(ctx)) // outlives SIGTERM: results are still sent
	var beside sync.WaitGroup
	defer beside.Wait()
	defer end()
	beside.Go(func() { m.keep(side) })
	beside.Go(func() { reload(side, hups, guard, probe, log) })
	beside.Go(func() { stop(watchSpool(side, kept)) })
	err = probe.Run(life)
	if broken := context.Cause(life); err == nil && ctx.Err() == nil && broken != nil {
		err = broken
	}
	if skew := (*agent.SkewError)(nil); errors.As(err, &skew) {
		return fail(exitFailure, err, `"probe version" and "controller version" tell the versions`)
	}
	if d, ok := identity.DenialOf(err); ok && d.Reason == identity.Banned {
		return fail(exitFailure, errors.New(cmp.Or(d.Detail, d.Error())), "ask the operator of the fleet")
	}
	return err
}

// enrol makes the probe a member where it is none.
func enrol(ctx context.Context, me *identity.Probe, text string, log hclog.Logger) error {
	if me.Enrolled() {
		if text != "" {
			log.Debug("a member already, the join token is passed over")
		}
		return nil
	}
	if text == "" {
		return fail(exitUsage, identity.ErrNotEnrolled, `"controller token create" makes one`, "probe run --join TOKEN")
	}
	token, err := identity.ParseJoinToken(text)
	if err != nil {
		return fail(exitUsage, fmt.Errorf("--join: %w", err), "copy the whole token")
	}
	if err := me.Join(ctx, token); err != nil {
		return notJoined(err, token)
	}
	return nil
}

// notJoined is the ending for a probe that was not let in, or found nobody who
// could.
func notJoined(err error, token identity.JoinToken) error {
	if d, ok := identity.DenialOf(err); ok {
		return fail(exitFailure, fmt.Errorf("the fleet does not let this probe in: %w", d), `"controller token create" makes a new token`)
	}
	var reasons []string // of each address
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, err := range all {
		var call interface{ GRPCStatus() *status.Status }
		if !errors.As(err, &call) {
			return fmt.Errorf("join the fleet: %w", err)
		}
		reasons = append(reasons, identity.Why(call.GRPCStatus().Err()))
	}
	return fail(exitFailure, fmt.Errorf("no controller lets this probe in at %s: %s", strings.Join(token.Addresses, ", "), strings.Join(reasons, "; ")),
		`the addresses are those of the token: "controller token create --address HOST:PORT" makes one with others`)
}

// reload reads the policy again on SIGHUP.
func reload(ctx context.Context, hups <-chan os.Signal, guard *policy.Guard, probe *agent.Agent, log hclog.Logger) {
	for {
		select {
		case <-hups:
		case <-ctx.Done():
			return
		}
		if err := guard.Reload(); err != nil {
			log.Error("the policy was not reloaded, the one before holds", "reason", err)
			continue
		}
		log.Info("policy reloaded", "digest", guard.Digest())
		probe.PolicyReloaded()
	}
}

// watchSpool returns when the spool will never be written again, and why.
func watchSpool(ctx context.Context, kept *spool.Spool) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if st := kept.Status(); st.Broken {
			return fmt.Errorf("the spool cannot be written any more: %s", st.Trouble)
		}
	}
}

// newRunner makes engines within what the policy allows.
func newRunner(guard *policy.Guard, ns tfo.NetNS) func(*pb.SurveySpec) (agent.Runner, error) {
	return func(spec *pb.SurveySpec) (agent.Runner, error) {
		p := guard.Policy()
		return measure.NewRunner(measure.Settings{
			Plan: measure.Plan(spec.GetPlan()), Payload: measure.PayloadKind(spec.GetPayload()), Bytes: spec.GetPayloadBytes(),
			Timeout: spec.GetTimeout().AsDuration(), Permit: agent.Permit(guard),
		}, tfo.Config{
			Concurrency: p.ConcurrencyFor(int(spec.GetConcurrency())), Hold: spec.GetHold().AsDuration(), NetNS: ns,
		})
	}
}

// lookAtHost reads what can be changed under a probe that runs.
func lookAtHost(ns tfo.NetNS) func() (*pb.Host, error) {
	return func() (*pb.Host, error) {
		h, err := tfo.ReadHost(ns)
		return agent.HostToWire(h), err
	}
}

// bootID tells a restart of the machine from one of the probe; empty where the
// kernel has none.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// onFull is spool.OnFull as a flag.
type onFull spool.OnFull

var onFullWords = [...]string{spool.Keep: "keep", spool.DropOldest: "drop-oldest"}

func (o *onFull) String() string { return onFullWords[*o] }
func (o *onFull) Type() string   { return "WORD" }

// Set implements pflag.Value.
func (o *onFull) Set(s string) error {
	i := slices.Index(onFullWords[:], s)
	if i < 0 {
		return fmt.Errorf("want %s", strings.Join(onFullWords[:], " or "))
	}
	*o = onFull(i)
	return nil
}

func parseResolver(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return ap, fail(exitUsage, fmt.Errorf("--resolver %q: want an address and a port such as 192.0.2.53:53", s))
	}
	return ap, nil
}

// dialDNS connects to DNS servers from where the probe measures.
func dialDNS(ns tfo.NetNS, resolver netip.AddrPort) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		if resolver.IsValid() {
			address = resolver.String()
		}
		err = ns.Do(func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}
