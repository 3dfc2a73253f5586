package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	pb "tfofleet/proto/tfofleet/v1"
)

func (a *app) probesCommand() *cobra.Command {
	return group("probes", "Look after the probes of the fleet", a.probesList(), a.probesShow(), a.probesBan())
}

func (a *app) probesList() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "list", Short: "List the probes", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				resp, err := c.ListProbes(cmd.Context(), &pb.ListProbesRequest{})
				if err != nil {
					return err
				}
				return list(a.stdout, o.format.value, resp.GetProbes(), "NAME STATE LEASES HOST ADDRESS LABELS", func(p *pb.ProbeInfo) []string {
					return []string{p.GetName(), probeState(p), fmt.Sprint(len(p.GetHeld())), dash(p.GetHost().GetHostname()), dash(p.GetAddress()), labelText(p.GetLabels())}
				})
			})
		},
	}
	o.addTo(cmd, true)
	return cmd
}

func probeState(p *pb.ProbeInfo) string {
	switch {
	case p.GetBanned() != nil:
		return "banned"
	case p.GetConnectedSince() != nil:
		return "connected"
	}
	return "away"
}

func (a *app) probesShow() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show one probe", Args: one("probe's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				resp, err := c.GetProbe(cmd.Context(), &pb.GetProbeRequest{Probe: args[0]})
				if err != nil {
					return err
				}
				p := resp.GetProbe()
				if o.format.value == "json" {
					return list(a.stdout, "json", []*pb.ProbeInfo{p}, "", nil)
				}
				t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
				for _, row := range [][2]string{
					{"name", p.GetName()}, {"state", probeState(p)}, {"labels", labelText(p.GetLabels())},
					{"joined", date(p.GetJoined()) + " by token " + p.GetToken()}, {"recoveries", fmt.Sprint(p.GetRecoveries())},
					{"banned", date(p.GetBanned()) + " " + p.GetBanReason()},
					{"connected since", date(p.GetConnectedSince())}, {"last heartbeat", date(p.GetLastHeard())},
					{"address", dash(p.GetAddress())}, {"host", dash(p.GetHost().GetHostname())},
					{"kernel", dash(p.GetHost().GetKernel())}, {"version", dash(p.GetVersion())}, {"leases", fmt.Sprint(len(p.GetHeld()))},
				} {
					fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
				}
				return t.Flush()
			})
		},
	}
	o.addTo(cmd, true)
	return cmd
}

func (a *app) probesBan() *cobra.Command {
	var (
		o      operator
		reason string
	)
	cmd := &cobra.Command{
		Use: "ban NAME --reason TEXT", Short: "Shut a probe out for good", Args: one("probe's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return fail(exitUsage, fmt.Errorf("a ban needs a reason: the probe's operator is told"), "--reason TEXT")
			}
			return control(o.controller, func(c pb.ControlServiceClient) error {
				_, err := c.BanProbe(cmd.Context(), &pb.BanProbeRequest{Probe: args[0], Reason: reason})
				if err == nil {
					fmt.Fprintf(a.term, "controller: probe %s is banned as of %s\n", args[0], time.Now().UTC().Format(time.DateTime))
				}
				return err
			})
		},
	}
	o.addTo(cmd, false)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the probe's operator")
	return cmd
}
