package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

func (a *app) operatorCommand() *cobra.Command {
	return group("operator", "Let operators elsewhere in, and shut them out", a.operatorCreate(), a.operatorList(), a.operatorBan())
}

func (a *app) operatorCreate() *cobra.Command {
	var (
		o         operator
		out, p12  string
		addresses []string
	)
	cmd := &cobra.Command{
		Use:   "create NAME [--out FILE] [--p12 FILE]",
		Short: "Write files with which an operator reaches the controller from elsewhere",
		Long: `Write files with which an operator reaches the controller from elsewhere: a key
that is made here, its certificate, the CA's, and where the controller is. Who
has a file is the operator. When an operator has a certificate already, that
one ends when the new one is first used.

The file of --out is for the commands (--controller FILE). That of --p12, a PKCS
#12 file, is for a browser: once it is imported, the dashboard is to be seen at
https:// and the controller's address. Its password is printed, and kept nowhere.
With both flags both files have the same certificate.`,
		Example: "  controller operator create alice --out alice.json --address controller.example.net:7443\n  controller surveys list --controller alice.json\n  controller operator create alice --p12 alice.p12",
		Args:    one("operator's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" && p12 == "" {
				return fail(exitUsage, errors.New("no file given"), "--out FILE for commands, --p12 FILE for a browser")
			}
			for _, file := range []string{out, p12} {
				if _, err := os.Lstat(file); file != "" && !errors.Is(err, fs.ErrNotExist) {
					return fail(exitOutExists, fmt.Errorf("%s exists", file), "name another file")
				}
			}
			request, err := identity.NewRequest()
			if err != nil {
				return err
			}
			csr, err := request.CSR()
			if err != nil {
				return err
			}
			return control(o.controller, func(c pb.ControlServiceClient) error {
				resp, err := c.CreateOperator(cmd.Context(), &pb.CreateOperatorRequest{Name: args[0], Csr: csr})
				if err != nil {
					return err
				}
				if len(addresses) == 0 {
					addresses = resp.GetAddresses()
				}
				credential, err := request.Credential(resp.GetIssued(), addresses, time.Now())
				if err != nil {
					return err
				}
				end := time.Now().Add(resp.GetIssued().GetValidFor().AsDuration()).UTC().Format(time.DateTime)
				if out != "" {
					if err := credential.Save(out); err != nil {
						return fail(exitCannotWrite, reason(err), "name another file with --out FILE")
					}
					fmt.Fprintf(a.term, "controller: %s is the key of operator %s, for %v; it lasts until %s\n", out, args[0], addresses, end)
				}
				if p12 == "" {
					return nil
				}
				password, err := credential.SavePKCS12(p12)
				if err != nil {
					return fail(exitCannotWrite, reason(err), "name another file with --p12 FILE")
				}
				fmt.Fprintf(a.term, "controller: %s is the key of operator %s for a browser, which opens https://%s/; it lasts until %s, and this is its password:\n", p12, args[0], addresses[0], end)
				_, err = fmt.Fprintln(a.stdout, password)
				return err
			})
		},
	}
	o.addTo(cmd, false)
	cmd.Flags().StringVar(&out, "out", "", "`FILE` to write for commands")
	cmd.Flags().StringVar(&p12, "p12", "", "`FILE` to write for a browser")
	cmd.Flags().StringSliceVar(&addresses, "address", nil, "`HOST:PORT` of a controller to dial; repeatable (default as --advertise has it)")
	for _, flag := range []string{"out", "p12"} {
		if err := cmd.MarkFlagFilename(flag); err != nil {
			panic(err)
		}
	}
	return cmd
}

func (a *app) operatorList() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "list", Short: "List the operators elsewhere, and until when the certificates that they use last", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return control(o.controller, func(c pb.ControlServiceClient) error {
				resp, err := c.ListOperators(cmd.Context(), &pb.ListOperatorsRequest{})
				if err != nil {
					return err
				}
				return list(a.stdout, o.format.value, resp.GetOperators(), "NAME CREATED EXPIRES BANNED", func(i *pb.OperatorInfo) []string {
					banned := "-"
					if i.GetBanned() != nil {
						banned = date(i.GetBanned()) + " " + i.GetBanReason()
					}
					return []string{i.GetName(), date(i.GetCreated()), date(i.GetExpires()), banned}
				})
			})
		},
	}
	o.addTo(cmd, true)
	return cmd
}

func (a *app) operatorBan() *cobra.Command {
	return a.ban("operator", "operator", "Shut an operator elsewhere out for good", func(ctx context.Context, c pb.ControlServiceClient, name, reason string) error {
		_, err := c.BanOperator(ctx, &pb.BanOperatorRequest{Name: name, Reason: reason})
		return err
	})
}

// ban is the command that calls do for one of a kind, and tells to whom the reason
// goes.
func (a *app) ban(kind, to, short string, do func(ctx context.Context, c pb.ControlServiceClient, name, reason string) error) *cobra.Command {
	var (
		o      operator
		reason string
	)
	cmd := &cobra.Command{
		Use: "ban NAME --reason TEXT", Short: short, Args: one(kind + "'s name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return fail(exitUsage, fmt.Errorf("a ban needs a reason: the %s is told", to), "--reason TEXT")
			}
			return control(o.controller, func(c pb.ControlServiceClient) error {
				err := do(cmd.Context(), c, args[0], reason)
				if err == nil {
					fmt.Fprintf(a.term, "controller: %s %s is banned as of %s\n", kind, args[0], time.Now().UTC().Format(time.DateTime))
				}
				return err
			})
		},
	}
	o.addTo(cmd, false)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the "+to)
	return cmd
}
