package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tfofleet/internal/agent/spool"
)

func (a *app) spoolCommand() *cobra.Command {
	var (
		data   string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "spool",
		Short: "Show what a stopped probe still has to send",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			if _, err := os.Stat(spoolIn(data)); errors.Is(err, fs.ErrNotExist) {
				return fail(exitFailure, fmt.Errorf("%s has no spool", data), "--data DIR names the directory of the probe")
			}
			st, rejected, err := spool.Inspect(spoolIn(data))
			if errors.Is(err, spool.ErrLocked) {
				return fail(exitFailure, fmt.Errorf("a probe runs in %s", data), "its log and its controller tell how it is; stop it to look into the spool")
			}
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(a.stdout).Encode(struct {
					spool.Status
					Rejected []spool.Rejected `json:"rejected"`
				}{st, rejected})
			}
			t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			oldest := "none"
			if st.Depth > 0 {
				oldest = st.OldestAge.Round(time.Second).String() + " old"
			}
			fmt.Fprintf(t, "spool\t%s\n", st.ID)
			fmt.Fprintf(t, "records to send\t%d\n", st.Depth)
			fmt.Fprintf(t, "  the oldest\t%s\n", oldest)
			fmt.Fprintf(t, "  up to number\t%d\n", st.Spooled)
			fmt.Fprintf(t, "  acknowledged up to\t%d\n", st.Acked)
			fmt.Fprintf(t, "bytes\t%d\n", st.Bytes)
			fmt.Fprintf(t, "leases\t%d\n", st.Leases)
			fmt.Fprintf(t, "  refused, ever\t%d\n", st.Refused)
			fmt.Fprintf(t, "records dropped, ever\t%d\n", st.Dropped)
			fmt.Fprintf(t, "records put aside\t%d\n", st.Quarantined)
			for _, r := range rejected {
				fmt.Fprintf(t, "  %s %s\t%s\n", r.Time.UTC().Format(time.DateTime), r.Record.Lease, r.Reason)
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&data, "data", dataDir, "`DIR` of the probe")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return cmd
}
