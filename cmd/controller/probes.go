package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "tfofleet/proto/tfofleet/v1"
)

func (a *app) probesCommand() *cobra.Command {
	return group("probes", "Look after the probes of the fleet", a.probesList(), a.probesShow(), a.probesDrain(), a.probesLimit(), a.probesBan())
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
				return list(a.stdout, o.format.value, resp.GetProbes(), "NAME CONNECTED READY MEASURING LAST-RESULT NEAR-PATH HOST LABELS", func(p *pb.ProbeInfo) []string {
					return []string{
						p.GetName(), connected(p), ready(p), measuring(p), ago(p.GetLastResult()), nearPath(p.GetStatus().GetNearPath()),
						dash(p.GetHost().GetHostname()), labelText(p.GetLabels()),
					}
				})
			})
		},
	}
	o.addTo(cmd, true)
	return cmd
}

// connected, ready, measuring and the last result are four things: a probe may
// be connected and not ready, and ready with nothing to do.
func connected(p *pb.ProbeInfo) string {
	switch {
	case p.GetBanned() != nil:
		return "banned"
	case p.GetConnectedSince() != nil:
		return "yes"
	}
	return "no"
}

func ready(p *pb.ProbeInfo) string {
	r := p.GetStatus().GetReadiness()
	switch {
	case p.GetConnectedSince() == nil || r == pb.Readiness_READINESS_UNSPECIFIED:
		return "-"
	case p.GetDrained():
		return "drained"
	case r == pb.Readiness_READINESS_READY:
		return "yes"
	}
	return strings.ToLower(strings.TrimPrefix(r.String(), "READINESS_"))
}

func measuring(p *pb.ProbeInfo) string {
	if p.GetConnectedSince() == nil {
		return "-"
	}
	return fmt.Sprint(p.GetStatus().GetActive())
}

func nearPath(n pb.NearPath) string {
	if n == pb.NearPath_NEAR_PATH_UNSPECIFIED {
		return "-"
	}
	return strings.ToLower(strings.TrimPrefix(n.String(), "NEAR_PATH_"))
}

// ago is how long something is past, for people.
func ago(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return max(0, time.Since(t.AsTime())).Round(time.Second).String()
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
					{"name", p.GetName()}, {"connected", connected(p)}, {"ready", ready(p) + " " + p.GetStatus().GetReason()}, {"measuring", measuring(p)},
					{"last result", date(p.GetLastResult())}, {"near path", nearPath(p.GetStatus().GetNearPath()) + " " + p.GetStatus().GetNearPathDetail()}, {"labels", labelText(p.GetLabels())},
					{"joined", date(p.GetJoined()) + " by token " + p.GetToken()}, {"recoveries", fmt.Sprint(p.GetRecoveries())},
					{"banned", date(p.GetBanned()) + " " + p.GetBanReason()},
					{"connected since", date(p.GetConnectedSince())}, {"last heartbeat", date(p.GetLastHeard())},
					{"address", dash(p.GetAddress())}, {"host", dash(p.GetHost().GetHostname())},
					{"kernel", dash(p.GetHost().GetKernel())}, {"version", dash(p.GetVersion())}, {"leases", fmt.Sprint(len(p.GetHeld()))},
					{"controller", dash(p.GetController())}, {"rate limit", rateText(p.GetLimits().GetRate())}, {"policy", dash(p.GetStatus().GetPolicyDigest())},
					{"clock", offset(p)}, {"spool", spoolText(p.GetStatus().GetSpool())},
				} {
					fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
				}
				for _, e := range p.GetEvents() {
					fmt.Fprintf(t, "%s\t%s %s\n", date(e.GetAt()), strings.ToLower(strings.TrimPrefix(e.GetKind().String(), "PROBE_EVENT_KIND_")), e.GetDetail())
				}
				return t.Flush()
			})
		},
	}
	o.addTo(cmd, true)
	return cmd
}

func rateText(r float64) string {
	if r == 0 {
		return "-"
	}
	return fmt.Sprintf("%g/s", r)
}

func offset(p *pb.ProbeInfo) string {
	if p.GetStatus().GetClockOffset() == nil {
		return "-"
	}
	return fmt.Sprintf("%v off the controller's", p.GetStatus().GetClockOffset().AsDuration().Round(time.Millisecond))
}

func spoolText(s *pb.SpoolStatus) string {
	if s == nil {
		return "-"
	}
	text := fmt.Sprintf("%s, %s of %s bytes, oldest %v", counted(s.GetDepth(), "record"), count(s.GetBytes()), count(s.GetLimit()), s.GetOldest().AsDuration().Round(time.Second))
	for _, x := range []struct {
		n    uint64
		what string
	}{{s.GetDropped(), "dropped"}, {s.GetQuarantined(), "quarantined"}, {s.GetRefused(), "leases refused"}} {
		if x.n > 0 {
			text += fmt.Sprintf(", %s %s", count(x.n), x.what)
		}
	}
	if s.GetTrouble() != "" {
		text += ": " + s.GetTrouble()
	}
	return text
}

func (a *app) probesDrain() *cobra.Command {
	var (
		o    operator
		undo bool
	)
	cmd := &cobra.Command{
		Use: "drain NAME", Short: "Give a probe no more work; it finishes what it holds", Args: one("probe's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				_, err := c.DrainProbe(cmd.Context(), &pb.DrainProbeRequest{Probe: args[0], Undo: undo})
				return err
			})
		},
	}
	o.addTo(cmd, false)
	cmd.Flags().BoolVar(&undo, "undo", false, "give it work again")
	return cmd
}

func (a *app) probesLimit() *cobra.Command {
	var (
		o    operator
		rate float64
	)
	cmd := &cobra.Command{
		Use: "limit NAME --rate N", Short: "Slow a probe down, below what its own policy allows", Args: one("probe's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("rate") {
				return fail(exitUsage, errors.New("no limit given"), "--rate N for new connections per second, 0 for no limit of the controller's")
			}
			return control(o.controller, func(c pb.ControlServiceClient) error {
				_, err := c.LimitProbe(cmd.Context(), &pb.LimitProbeRequest{Probe: args[0], Limits: &pb.Limits{Rate: rate}})
				return err
			})
		},
	}
	o.addTo(cmd, false)
	cmd.Flags().Float64Var(&rate, "rate", 0, "new connections per second over all surveys")
	return cmd
}

func (a *app) probesBan() *cobra.Command {
	return a.ban("probe", "probe's operator", "Shut a probe out for good", func(ctx context.Context, c pb.ControlServiceClient, name, reason string) error {
		_, err := c.BanProbe(ctx, &pb.BanProbeRequest{Probe: name, Reason: reason})
		return err
	})
}
