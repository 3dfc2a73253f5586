package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tfofleet/internal/identity"
)

func (a *app) caCommand() *cobra.Command {
	return group("ca", "Look after the certificate authority of a fleet", a.caShow(), a.caAdvance())
}

// caDir is where a controller keeps the CA, unless told otherwise.
func caDir(data string) string { return filepath.Join(data, "ca") }

func openCA(dir string) (*identity.CA, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) { // OpenCA would make one
		return nil, fail(exitUsage, fmt.Errorf("there is no CA in %s", dir), "--ca DIR names the directory")
	}
	return identity.OpenCA(dir, time.Now())
}

func (a *app) caShow() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "show", Short: "Show the CA and where its rotation stands", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			ca, err := openCA(dir)
			if err != nil {
				return err
			}
			stage, since := ca.Stage()
			_, err = fmt.Fprintf(a.stdout, "fleet     %s\npin       %x\nrotation  %s since %s\n", ca.Fleet(), ca.Pin(), stage, since.UTC().Format(time.DateTime))
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "ca", caDir(dataDir), "`DIR` of the CA")
	return cmd
}

// nextStep is what is to be done when a stage is reached.
func nextStep(s identity.Stage) string {
	const copied = "copy the directory to the other controllers, if there are any"
	switch s {
	case identity.Prepared:
		return copied + "; wait until every probe has connected anew, and make the files of operators anew; then advance again"
	case identity.Switched:
		return fmt.Sprintf("%s; advance again in %d days, when no certificate of the old root is good", copied, int(identity.OperatorLife.Hours()/24))
	}
	return "the old root is dropped and the exchange complete; " + copied
}

func (a *app) caAdvance() *cobra.Command {
	var (
		dir    string
		stolen bool
	)
	cmd := &cobra.Command{
		Use: "advance", Short: "Take the exchange of the root certificate one step on",
		Long: `Take the exchange of the root certificate one step on; three steps exchange it:
"prepared" adds the next root, which probes learn when they connect; "switched"
signs with it; the last step drops the old root and is refused while
certificates of it are good. Controllers see the file within seconds; where
several share a fleet, copy it to each of them after every step.

With --stolen the old root is dropped at once, and probes that were not
connected since "prepared" have to join again.`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			ca, err := openCA(dir)
			if err != nil {
				return err
			}
			var early *identity.TooEarlyError
			if err := ca.Advance(time.Now(), stolen); errors.As(err, &early) {
				return fail(exitFailure, err, "--stolen drops it all the same")
			} else if err != nil {
				return err
			}
			stage, _ := ca.Stage()
			_, err = fmt.Fprintln(a.stdout, stage)
			fmt.Fprintln(a.term, "controller: "+nextStep(stage))
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "ca", caDir(dataDir), "`DIR` of the CA")
	cmd.Flags().BoolVar(&stolen, "stolen", false, "the old root's key is known to others")
	return cmd
}
