package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"tfofleet/internal/identity"
	"tfofleet/internal/settings"
	"tfofleet/internal/store"
)

// serveFlags are the flags of "controller serve". Each can come from the
// environment or the file as well.
type serveFlags struct {
	config    string
	data      string
	store     string
	dataset   string
	ca        string
	name      string
	listen    string
	advertise []string
	socket    string
	metrics   string
	reflector string
	heartbeat time.Duration
}

// serveSettings are the names of the flags that the environment and the file
// can have.
var serveSettings = []string{"data", "store", "dataset", "ca", "name", "listen", "advertise", "socket", "metrics", "reflector", "heartbeat", "log-level", "log-json"}

// dataDir is where a controller keeps everything; its socket is in a directory
// of its own, which other users cannot enter.
const dataDir = "/var/lib/tfofleet"

func socketIn(data string) string { return filepath.Join(data, "run", "controller.sock") }

func (a *app) serveCommand() *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Be the controller of a fleet of probes",
		Long: `Be the controller of a fleet of probes, until SIGINT or SIGTERM.

Everything is kept in one directory: the CA of the fleet, made at the first
start, the state of surveys and probes, and the datasets (surveys/ID). Probes
dial one TLS port; operators on this host use a unix socket. On the TLS port a
browser with the certificate of an operator ("operator create --p12") finds the
dashboard.

Several controllers share a fleet over PostgreSQL: give all of them the same
--store and --dataset, a --name of its own to each, and a copy of the first
one's --ca directory. A probe may talk to any of them.

With --reflector the controller listens for TCP Fast Open itself: a probe measures
it before it takes work, and what is found on that way is noted with all that it
measures. This host has to allow it (net.ipv4.tcp_fastopen=3).

Prometheus finds figures at /metrics of --metrics, and /healthz beside it says
whether results can be stored.

Every flag can be set in the environment (--log-level is TFOFLEET_LOG_LEVEL), or
in a YAML file whose keys are the names of the flags.`,
		Example: `  controller serve --data ./fleet --listen :7443 --advertise controller.example.net:7443
  controller serve --store postgres://db.example.net/tfofleet --dataset s3://studies/tfo --name c1
  controller token create --controller ./fleet/run/controller.sock`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := settings.Apply(cmd, f.config, serveSettings...); err != nil {
				return fail(exitUsage, err, fmt.Sprintf("%q lists the settings", cmd.CommandPath()+" --help"))
			}
			if !cmd.Flags().Changed("log-level") {
				a.logLevel = "info"
			}
			if err := a.startLog(); err != nil {
				return err
			}
			return a.serve(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.config, "config", os.Getenv(settings.Variable("config")), "YAML `FILE` with settings")
	fs.StringVar(&f.data, "data", dataDir, "`DIR` for all that is kept")
	fs.StringVar(&f.store, "store", "", "state of the fleet: a `URL` such as postgres://HOST/DATABASE (default SQLite in --data)")
	fs.StringVar(&f.dataset, "dataset", "", "where the datasets go, `DIR` or s3://BUCKET/PREFIX (default surveys in --data)")
	fs.StringVar(&f.ca, "ca", "", "`DIR` of the fleet's CA (default ca in --data)")
	fs.StringVar(&f.name, "name", "", "`NAME` of this controller among several (default this host's with the port)")
	fs.StringVar(&f.metrics, "metrics", "127.0.0.1:9464", "`ADDR` for Prometheus and health checks, empty for none")
	fs.StringVar(&f.reflector, "reflector", ":7444", "`ADDR` of a TFO listener with which probes test themselves, empty for none")
	fs.StringVar(&f.listen, "listen", ":7443", "`ADDR` that probes dial, operators elsewhere and their browsers")
	fs.StringSliceVar(&f.advertise, "advertise", nil, "`HOST:PORT` at which probes reach this controller, for join tokens; repeatable (default this host's name and the port of --listen)")
	fs.StringVar(&f.socket, "socket", "", "unix socket for operators, `PATH` (default run/controller.sock in --data)")
	fs.DurationVar(&f.heartbeat, "heartbeat", heartbeat, "how often a probe is heard of")
	return cmd
}

// stopping is how long calls have to end before they are cut.
const stopping = 20 * time.Second

func (a *app) serve(ctx context.Context, f *serveFlags) (err error) {
	// A fleet's results are worth more memory than a survey on a laptop is: half
	// of what writing them takes is looking through the heap. 125 keeps ten million
	// targets within 400 MB and loses 5 % of the speed that 200 has in 530.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(125)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(600 << 20) // not a bound, but from there on it is looked through more often
	}
	if f.heartbeat < 100*time.Millisecond {
		return fail(exitUsage, fmt.Errorf("--heartbeat %v is below 100ms", f.heartbeat))
	}
	if len(f.advertise) > 0 {
		if err := identity.CheckAddresses(f.advertise); err != nil {
			return fail(exitUsage, fmt.Errorf("--advertise: %w", err), "--advertise controller.example.net:7443")
		}
	}
	listener, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fail(listenCode(err), err, "--listen ADDR names another address or port")
	}
	defer listener.Close() // it is closed already, unless the start failed
	if err := f.complete(listener.Addr()); err != nil {
		return err
	}
	addresses := f.advertise
	if len(addresses) == 0 {
		if addresses, err = ownAddress(listener.Addr()); err != nil {
			return err
		}
	}
	c, err := startFleet(ctx, f, addresses, a.log)
	if errors.Is(err, store.ErrInUse) {
		return fail(exitCannotWrite, fmt.Errorf("another controller is at work in %s", f.data), "--data DIR names another directory")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.serve(listener, f.socket); err != nil {
		return err
	}
	if err := c.serveMetrics(f.metrics); err != nil {
		return fail(listenCode(err), err, "--metrics ADDR names another address or port, --metrics \"\" none")
	}
	fmt.Fprintf(a.term, "controller: ready: probes dial %s, operators use %s\n", listener.Addr(), f.socket)
	fmt.Fprintf(a.term, "controller: the dashboard is at https://%s/, for a browser with what \"controller operator create NAME --p12 FILE\" writes\n", addresses[0])
	select {
	case <-ctx.Done():
		a.log.Info("stopping")
		return nil
	case err := <-c.failed:
		return err
	}
}

// listenCode tells an address that is none from one that cannot be had.
func listenCode(err error) exitCode {
	var address *net.AddrError
	var name *net.DNSError // of a port as well
	if errors.As(err, &address) || errors.As(err, &name) && name.IsNotFound {
		return exitUsage
	}
	return exitFailure
}

// complete gives the flags that were left out what follows from the others.
func (f *serveFlags) complete(listen net.Addr) error {
	if f.socket == "" {
		f.socket = socketIn(f.data)
	}
	if f.ca == "" {
		f.ca = caDir(f.data)
	}
	if f.dataset == "" {
		f.dataset = filepath.Join(f.data, "surveys")
	}
	if f.name == "" {
		own, err := ownAddress(listen)
		if err != nil {
			return fail(exitFailure, err, "--name NAME gives this controller a name")
		}
		f.name = own[0]
	}
	return nil
}

// ownAddress is this host's name with the port of the listener.
func ownAddress(listen net.Addr) ([]string, error) {
	host, port, err := net.SplitHostPort(listen.String())
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	return []string{net.JoinHostPort(host, port)}, nil
}
