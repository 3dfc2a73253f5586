package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

func (a *app) tokenCommand() *cobra.Command {
	return group("token", "Let probes into the fleet", a.tokenCreate(), a.tokenList(), a.tokenRevoke())
}

func (a *app) tokenCreate() *cobra.Command {
	var (
		o      operator
		uses   uint32
		ttl    time.Duration
		labels []string
		req    pb.CreateJoinTokenRequest
	)
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a join token and print it, once",
		Long: `Make a join token and print it. It has the controller's address, the pin of its
CA and a secret, of which only a hash is kept: nobody can show it again.`,
		Example: "  controller token create --uses 1 --ttl 24h --label region=fra\n  probe run --join TOKEN",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			parsed, err := identity.ParseLabels(labels...)
			if err != nil {
				return fail(exitUsage, err)
			}
			req.Uses, req.Ttl, req.Labels = uses, durationpb.New(ttl), parsed
			return control(o.controller, func(c pb.ControlServiceClient) error {
				resp, err := c.CreateJoinToken(cmd.Context(), &req)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.term, "controller: token %s lets in %s until %s\n", resp.GetId(), counted(uint64(uses), "probe"), time.Now().Add(ttl).UTC().Format(time.DateTime))
				_, err = fmt.Fprintln(a.stdout, resp.GetToken())
				return err
			})
		},
	}
	o.addTo(cmd, false)
	cmd.Flags().Uint32Var(&uses, "uses", 1, "how many probes it lets in")
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long it is good for")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "`KEY=VALUE` that describes its probes; repeatable")
	cmd.Flags().StringVar(&req.Prefix, "prefix", "", "what the names of its probes begin with (default probe)")
	cmd.Flags().StringSliceVar(&req.Addresses, "address", nil, "`HOST:PORT` of a controller to dial; repeatable (default as --advertise has it)")
	return cmd
}

func (a *app) tokenList() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "list", Short: "List the join tokens", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				resp, err := c.ListJoinTokens(cmd.Context(), &pb.ListJoinTokensRequest{})
				if err != nil {
					return err
				}
				return list(a.stdout, o.format.value, resp.GetTokens(), "ID USED EXPIRES REVOKED PREFIX LABELS", func(t *pb.JoinToken) []string {
					return []string{t.GetId(), fmt.Sprintf("%d/%d", t.GetUsed(), t.GetUses()), date(t.GetExpires()), date(t.GetRevoked()), dash(t.GetPrefix()), labelText(t.GetLabels())}
				})
			})
		},
	}
	o.addTo(cmd, true)
	return cmd
}

func (a *app) tokenRevoke() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "End a join token; the probes it let in stay", Args: one("token's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				_, err := c.RevokeJoinToken(cmd.Context(), &pb.RevokeJoinTokenRequest{Id: args[0]})
				return err
			})
		},
	}
	o.addTo(cmd, false)
	return cmd
}

func labelText(labels map[string]string) string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		words = append(words, k+"="+labels[k])
	}
	return dash(strings.Join(words, ","))
}
