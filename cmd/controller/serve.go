package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tfofleet/internal/settings"
	"tfofleet/internal/store"
)

// serveFlags are the flags of "controller serve". Each can come from the
// environment or the file as well.
type serveFlags struct {
	config    string
	data      string
	listen    string
	advertise []string
	socket    string
	heartbeat time.Duration
}

// serveSettings are the names of the flags that the environment and the file
// can have.
var serveSettings = []string{"data", "listen", "advertise", "socket", "heartbeat", "log-level", "log-json"}

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
dial one TLS port; operators on this host use a unix socket.

Every flag can be set in the environment (--log-level is TFOFLEET_LOG_LEVEL), or
in a YAML file whose keys are the names of the flags.`,
		Example: `  controller serve --data ./fleet --listen :7443 --advertise controller.example.net:7443
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
	fs.StringVar(&f.listen, "listen", ":7443", "`ADDR` that probes dial")
	fs.StringSliceVar(&f.advertise, "advertise", nil, "`HOST:PORT` at which probes reach this controller, for join tokens; repeatable (default this host's name and the port of --listen)")
	fs.StringVar(&f.socket, "socket", "", "unix socket for operators, `PATH` (default run/controller.sock in --data)")
	fs.DurationVar(&f.heartbeat, "heartbeat", heartbeat, "how often a probe is heard of")
	return cmd
}

// stopping is how long calls have to end before they are cut.
const stopping = 20 * time.Second

func (a *app) serve(ctx context.Context, f *serveFlags) (err error) {
	if f.heartbeat < 100*time.Millisecond {
		return fail(exitUsage, fmt.Errorf("--heartbeat %v is below 100ms", f.heartbeat))
	}
	if f.socket == "" {
		f.socket = socketIn(f.data)
	}
	listener, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fail(exitFailure, err, "--listen ADDR names another address or port")
	}
	defer listener.Close() // it is closed already, unless the start failed
	addresses := f.advertise
	if len(addresses) == 0 {
		if addresses, err = ownAddress(listener.Addr()); err != nil {
			return err
		}
	}
	c, err := startFleet(ctx, f, addresses, a.log)
	if errors.Is(err, store.ErrInUse) {
		return fail(exitCannotWrite, fmt.Errorf("another controller is at work in %s", f.data))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.serve(listener, f.socket); err != nil {
		return err
	}
	fmt.Fprintf(a.term, "controller: ready: probes dial %s, operators use %s\n", listener.Addr(), f.socket)
	select {
	case <-ctx.Done():
		a.log.Info("stopping")
		return nil
	case err := <-c.failed:
		return err
	}
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
