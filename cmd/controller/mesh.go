package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/report/matrix"
	pb "tfofleet/proto/tfofleet/v1"
)

func (a *app) meshCommand() *cobra.Command {
	var (
		o        operator
		ports    = ports{list: []uint16{443}}
		family   oneOf
		plan     oneOf
		format   oneOf
		who      surveyFlags
		out      string
		timeout  time.Duration
		rate     float64
		lifetime time.Duration
		quiet    bool
	)
	cmd := &cobra.Command{
		Use:   "mesh",
		Short: "Have probes measure each other, with both ends known",
		Long: `Have the probes of a fleet listen for TCP Fast Open and measure each other: every
ordered pair, by port and family. With both ends known a fault gets its true name
and the way it is on, and what is rewritten in the SYN on the way is told field by
field.

Probes that are connected to another controller of the fleet come to the one that
is asked, and stay there. One that does not come takes no part, and is named.

A probe listens only where its own policy lets it (listen: in policy.yaml). The
mesh ends with this command: Ctrl-C ends it. The dataset stays with the
controller; "controller report ID" and "controller export ID" read it again.`,
		Example: "  controller mesh --ports 80,443,8443\n  controller mesh --probes region=fra,region=nyc --family 6 --format json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			share, err := who.share()
			if err != nil {
				return err
			}
			p, err := measure.ParsePlan(plan.value)
			if err != nil {
				return err
			}
			req := &pb.RunMeshRequest{
				Probes: share.GetProbes(), Family: families[family.value], Plan: pb.Plan(p), Timeout: durationpb.New(timeout), Rate: rate,
				Lifetime: durationpb.New(lifetime), Seed: rand.Uint64(),
			}
			for _, port := range ports.list {
				req.Ports = append(req.Ports, uint32(port))
			}
			return control(o.controller, func(c pb.ControlServiceClient) error {
				var last *pb.RunMeshResponse
				if err := a.runMesh(cmd.Context(), c, req, quiet, func(m *pb.RunMeshResponse) { last = m }); err != nil {
					return err
				}
				if last.GetPlanned() == 0 {
					return fail(exitFailure, errors.New("nothing to measure: no probe listens that another one could reach"), "listen: in the policy.yaml of the probes says whether and where they may")
				}
				return a.showMesh(cmd.Context(), c, last.GetMesh(), format.value, out)
			})
		},
	}
	o.addTo(cmd, false)
	fs := cmd.Flags()
	who.mode = "shard" // every pair is one probe's to measure
	fs.StringVar(&who.probes, "probes", "", "probes that take part, `SELECTOR` of names and KEY=VALUE labels (default all that are connected)")
	fs.StringArrayVar(&who.maxPer, "max-per", nil, "at most N probes with the same value of a label, `LABEL=N`; repeatable")
	fs.Var(&ports, "ports", "ports to listen on")
	addOneOf(cmd, &family, "family", "address family to measure", "any", "4", "6")
	addOneOf(cmd, &plan, "plan", "which attempts are made", "standard", "quick", "thorough")
	addOneOf(cmd, &format, "format", "how the matrix is written", matrix.Formats()...)
	fs.StringVar(&out, "out", "", "copy the dataset to `DIR`")
	fs.DurationVar(&timeout, "timeout", 5*time.Second, "patience with a handshake, and again with the response")
	fs.Float64Var(&rate, "rate", 0, "new connections per second and probe, 0 for no limit but its policy's")
	fs.DurationVar(&lifetime, "lifetime", 5*time.Minute, "how long the mesh may take")
	fs.BoolVar(&quiet, "quiet", false, "show no progress")
	if err := cmd.MarkFlagDirname("out"); err != nil {
		panic(err)
	}
	return cmd
}

// showMesh fetches the dataset of a mesh and writes its matrix.
func (a *app) showMesh(ctx context.Context, c pb.ControlServiceClient, mesh, format, out string) error {
	dir := out
	if dir == "" {
		scratch, err := os.MkdirTemp("", "tfofleet-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(scratch)
		dir = scratch
	}
	if err := fetch(ctx, c, mesh, dir); err != nil {
		return err
	}
	m, err := matrix.Collect(dir)
	if err != nil {
		return unreadableDataset(err)
	}
	return matrix.Render(a.stdout, m, format, report.OptionsFor(a.stdout))
}
