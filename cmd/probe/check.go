package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tfofleet/internal/tfo"
)

// selfTestName is the hidden command that "probe check" runs inside a user
// namespace.
const selfTestName = "self-test"

// selfTestLimit is for that command: two families, two connections each, 3 s
// for each step at the very most.
const selfTestLimit = 30 * time.Second

func (a *app) checkCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Tell whether this machine is fit to be a vantage point",
		Long: `Tell whether this machine is fit to be a vantage point, and prove it by a
self-test on this kernel, in a network namespace of its own where that can be
had. No packet leaves the machine.

The exit code is 0 for fit, 1 for fit with limits, 2 for unfit.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), selfTestLimit)
			defer cancel()
			child := exec.CommandContext(ctx, "/proc/self/exe")
			child.Args = []string{cmd.Root().Name(), selfTestName}
			c, err := tfo.RunCheck("", child)
			if err != nil {
				return err
			}
			if err := writeCheck(a.stdout, c, asJSON); err != nil {
				return err
			}
			if c.Fitness == tfo.Fit {
				return nil
			}
			return fail(exitCode(c.Fitness), nil)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return cmd
}

// selfTestCommand is the child of a self-test; it is of no use by hand.
func (a *app) selfTestCommand() *cobra.Command {
	return &cobra.Command{
		Use: selfTestName, Hidden: true, Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			t, err := tfo.SelfTestInside()
			if err != nil {
				return err
			}
			return json.NewEncoder(a.stdout).Encode(t)
		},
	}
}

func writeCheck(w io.Writer, c *tfo.Check, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(c)
	}
	_, err := io.WriteString(w, checkText(c))
	return err
}

// checkText says it to a person: what counts against the machine stands out,
// with the next step.
func checkText(c *tfo.Check) string {
	var b strings.Builder
	for _, i := range c.Items {
		fmt.Fprintf(&b, "%-5s  %-20s %s\n", i.Weight, i.Name, i.Value)
		if i.Cost != "" {
			fmt.Fprintf(&b, "%28s%s\n", "", i.Cost)
		}
		if i.Hint != "" {
			fmt.Fprintf(&b, "%28shint: %s\n", "", i.Hint)
		}
	}
	fmt.Fprintf(&b, "\nself-test\n")
	for _, f := range c.SelfTest.Families {
		fmt.Fprintf(&b, "  %s  %s\n", f.Family, familyText(&f))
	}
	if len(c.SelfTest.Families) == 0 {
		fmt.Fprintf(&b, "  not made: %s\n", strings.Join(c.SelfTest.Reasons, "; "))
	}
	fmt.Fprintf(&b, "\nwhat this kernel can do\n")
	for _, f := range c.Features {
		answer := map[tfo.Tri]string{tfo.Yes: "yes", tfo.No: "no", tfo.NotTried: "not known"}[f.Answer]
		how := f.How
		if how != "" {
			how = " (" + how + ")"
		}
		fmt.Fprintf(&b, "  %-9s  %-42s Linux %s, %s%s\n", answer, f.Name, f.Since, f.Commit, how)
		if f.Answer == tfo.No && f.Cost != "" {
			fmt.Fprintf(&b, "%13s%s\n", "", f.Cost)
		}
	}
	verdict := map[tfo.Fitness]string{
		tfo.Fit:           "fit to be a vantage point",
		tfo.FitWithLimits: "fit to be a vantage point, with limits",
		tfo.Unfit:         "unfit to be a vantage point",
	}[c.Fitness]
	fmt.Fprintf(&b, "\n%s\n", verdict)
	for _, i := range c.Items {
		if i.Weight == tfo.WeightLimit && c.Fitness == tfo.FitWithLimits || i.Weight == tfo.WeightUnfit {
			fmt.Fprintf(&b, "  because %s: %s\n", i.Name, i.Value)
		}
	}
	return b.String()
}

// familyText tells the steps of a self-test, up to the one that failed.
func familyText(f *tfo.FamilyTest) string {
	var steps []string
	for _, step := range []struct {
		reached bool
		text    string
	}{
		{f.RequestSeen, fmt.Sprintf("cookie request (kind %d)", f.RequestKind)},
		{f.Cookie != "", "cookie " + f.Cookie},
		{f.SynBytes > 0, fmt.Sprintf("%d bytes in the SYN", f.SynBytes)},
		{f.SynTaken > 0, fmt.Sprintf("%d given to the listener", f.SynTaken)},
		{f.SynAcked > 0, fmt.Sprintf("%d acknowledged", f.SynAcked)},
		{f.Answered, "answer"},
	} {
		if !step.reached {
			break
		}
		steps = append(steps, step.text)
	}
	if f.Failed != "" {
		steps = append(steps, "failed: "+f.Failed)
	}
	return strings.Join(steps, " -> ")
}
