package main

import (
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
	return group("operator", "Let operators elsewhere in", a.operatorCreate())
}

func (a *app) operatorCreate() *cobra.Command {
	var (
		o         operator
		out       string
		addresses []string
	)
	cmd := &cobra.Command{
		Use:   "create NAME --out FILE",
		Short: "Write a file with which an operator reaches the controller from elsewhere",
		Long: `Write a file with which an operator reaches the controller from elsewhere: a key
that is made here, its certificate, the CA's, and where the controller is. Who
has the file is the operator. With the file of an operator that has one already
the older certificate ends when the new one is first used.`,
		Example: "  controller operator create alice --out alice.json --address controller.example.net:7443\n  controller surveys list --controller alice.json",
		Args:    one("operator's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return fail(exitUsage, errors.New("no file given"), "--out FILE")
			}
			if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
				return fail(exitOutExists, fmt.Errorf("%s exists", out), "name another file with --out FILE")
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
				if err := credential.Save(out); err != nil {
					return fail(exitCannotWrite, reason(err), "name another file with --out FILE")
				}
				fmt.Fprintf(a.term, "controller: %s is the key of operator %s, for %v; it lasts until %s\n", out, args[0], addresses,
					time.Now().Add(resp.GetIssued().GetValidFor().AsDuration()).UTC().Format(time.DateTime))
				return nil
			})
		},
	}
	o.addTo(cmd, false)
	cmd.Flags().StringVar(&out, "out", "", "`FILE` to write")
	cmd.Flags().StringSliceVar(&addresses, "address", nil, "`HOST:PORT` of a controller to dial; repeatable (default as --advertise has it)")
	if err := cmd.MarkFlagFilename("out"); err != nil {
		panic(err)
	}
	return cmd
}
