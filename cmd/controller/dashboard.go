package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"tfofleet/internal/dashboard"
	pb "tfofleet/proto/tfofleet/v1"
)

func (a *app) dashboardCommand() *cobra.Command {
	var (
		o      operator
		listen string
	)
	cmd := &cobra.Command{
		Use:   "dashboard",
		Short: "Show a fleet live, in a browser",
		Long: `Show surveys and probes of a fleet live, in a browser on this machine: progress
and verdicts as they come, what probes are ready for, and the evidence of every
target whose chunk is finished.

The pages are served by this command, to who has the address it prints, and ask
the controller as the operator that you are. They change nothing. Ctrl-C ends it.`,
		Example: "  controller dashboard\n  controller dashboard --controller alice.json --listen 127.0.0.1:8080",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, _, err := net.SplitHostPort(listen)
			if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
				return fail(exitUsage, fmt.Errorf("--listen %s is not an address of this machine alone", listen), "--listen 127.0.0.1:0, and a tunnel for who is elsewhere")
			}
			return control(o.controller, func(c pb.ControlServiceClient) error { return a.showFleet(cmd.Context(), c, listen) })
		},
	}
	o.addTo(cmd, false)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`ADDR` of this machine to serve at")
	return cmd
}

// showFleet serves the dashboard until ctx is over.
func (a *app) showFleet(ctx context.Context, c pb.ControlServiceClient, listen string) error {
	// The first answer tells whether there is a controller at all.
	if _, err := c.ListSurveys(ctx, &pb.ListSurveysRequest{}); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "tfofleet-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fail(exitFailure, err, "--listen ADDR names another port")
	}
	// Other users of this machine can connect as well; they do not know the
	// path.
	secret := "/" + strings.ToLower(rand.Text()) + "/"
	mux := http.NewServeMux()
	mux.Handle(secret, http.StripPrefix(strings.TrimSuffix(secret, "/"), dashboard.New(dashboard.Config{
		Control: c, Datasets: &copies{ctx: ctx, control: c, dir: scratch, locks: make(map[string]*sync.Mutex)}, Logger: a.log.Named("dashboard"),
	})))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: a.log.Named("dashboard").StandardLogger(nil),
		BaseContext: func(net.Listener) context.Context { return ctx }}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	fmt.Fprintf(a.term, "controller: the fleet is at http://%s%s\n", l.Addr(), secret)
	select {
	case <-ctx.Done():
		return errors.Join(s.Close())
	case err := <-failed:
		return err
	}
}

// copies are the datasets of surveys, as far as they were looked at.
type copies struct {
	ctx     context.Context
	control pb.ControlServiceClient
	dir     string

	mu    sync.Mutex
	locks map[string]*sync.Mutex // by survey: one is copied once at a time
}

// Dataset implements dashboard.Datasets: it copies what has come since the last
// time.
func (d *copies) Dataset(survey string) (string, error) {
	if !surveyID.MatchString(survey) {
		return "", fmt.Errorf("%.80q is no survey", survey)
	}
	d.mu.Lock()
	lock, ok := d.locks[survey]
	if !ok {
		lock = new(sync.Mutex)
		d.locks[survey] = lock
	}
	d.mu.Unlock()
	lock.Lock()
	defer lock.Unlock()
	dir := filepath.Join(d.dir, survey)
	return dir, fetch(d.ctx, d.control, survey, dir)
}
