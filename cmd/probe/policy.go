package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"tfofleet/internal/agent/policy"
)

func (a *app) policyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "policy [FILE]",
		Short: "Check a policy, or print one with every setting explained",
		Args:  atMostOne,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				_, err := a.stdout.Write(policy.Example)
				return err
			}
			p, err := policy.Load(args[0])
			if err != nil {
				return fail(exitUsage, err, `"probe policy" prints one with every setting explained`)
			}
			for _, line := range p.Looser() {
				a.say("warning: looser than the default: %s", line)
			}
			_, err = fmt.Fprintf(a.stdout, "%s is valid, its digest is %s\n", args[0], p.Digest())
			return err
		},
	}
}
