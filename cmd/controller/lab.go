package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tfofleet/internal/lab"
	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/tfo"
)

func (a *app) labCommand() *cobra.Command {
	// No limit to the rate: nobody is disturbed. A timeout above that of a
	// lost SYN and its retransmission.
	f := &surveyFlags{lab: true, payload: "auto", concurrency: 512, timeout: 3 * time.Second}
	var (
		paths []string
		mesh  bool
	)
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Survey an emulated internet and compare with its truth",
		Long: `Build an emulated internet in network namespaces of this machine, survey every
path of it, and print each verdict beside the truth. With --mesh probes at both
ends of every path measure each other, and it is their joint verdict.

Nothing leaves the machine. It needs root, or a kernel that allows unprivileged
user namespaces. The exit code is 1 when a verdict differs from the truth.`,
		Example: "  controller lab\n  controller lab --path data-dropped --path farm --format json\n  controller lab --mesh --out mesh/",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.chooseSeed(false)
			if mesh {
				return a.labMesh(cmd.Context(), f, paths)
			}
			spec, err := f.spec()
			if err != nil {
				return err
			}
			return a.surveyLab(cmd.Context(), f, &surveyRun{spec: spec, quiet: f.quiet, out: f.out, scratch: f.out == ""}, paths...)
		},
	}
	cmd.Flags().BoolVar(&mesh, "mesh", false, "measure from both ends")
	cmd.Flags().StringArrayVar(&paths, "path", nil, "survey only the path `NAME`; repeatable (default all)")
	addOneOf(cmd, &f.plan, "plan", "which attempts are made", "standard", "quick", "thorough")
	addOneOf(cmd, &f.family, "family", "address family to measure", "any", "4", "6")
	addOneOf(cmd, &f.format, "format", "a table, or one JSON line per target", "table", "json")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "show no progress")
	cmd.Flags().StringVar(&f.out, "out", "", "`DIR` to make for the dataset (default: it is not kept)")
	if err := cmd.MarkFlagDirname("out"); err != nil {
		panic(err)
	}
	var names []string
	for _, p := range lab.Catalogue() {
		names = append(names, p.Name+"\t"+p.About)
	}
	completeWords(cmd, "path", names...)
	return cmd
}

// surveyLab builds a lab, surveys the named paths of it, or all, and compares.
func (a *app) surveyLab(ctx context.Context, f *surveyFlags, r *surveyRun, names ...string) error {
	paths, err := choosePaths(names)
	if err != nil {
		return err
	}
	// Without the privileges it needs, this program runs again inside a user
	// namespace where it has them.
	code, ran, err := lab.Enter()
	if ran {
		return &ending{code: exitCode(code)}
	}
	var l *lab.Lab
	if err == nil {
		// Not with ctx: an interrupt ends the survey first, and then the lab.
		l, err = lab.New(context.WithoutCancel(ctx), lab.Config{Logger: a.log.Named("lab"), Seed: f.seed, Paths: paths})
	}
	var missing *lab.PrivilegeError
	if errors.As(err, &missing) {
		return unprivileged(missing)
	}
	if err != nil {
		return err
	}
	defer l.Close()

	plan, err := measure.ParsePlan(f.plan.value)
	if err != nil {
		return err
	}
	c := newComparison(l, f.family.value, plan)
	r.site.netns, r.site.fresh = tfo.NetNS(l.ClientNetNS()), true
	r.site.resolver = l.DNS()[0]
	r.site.policy.Allow = c.addresses()
	if r.dir == "" {
		r.name, r.read = "the lab", c.read
	}
	if r.scratch {
		tmp, err := scratchDir()
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		r.out = filepath.Join(tmp, "dataset")
	}
	err = a.conduct(ctx, r, func() (*report.Summary, error) {
		if err := c.load(r.dir); err != nil {
			return nil, err
		}
		if f.format.value == "json" {
			if err := c.writeJSON(a.stdout); err != nil {
				return nil, err
			}
			return report.Aggregate(r.dir)
		}
		if err := c.writeTable(a.stdout, report.OptionsFor(a.stdout)); err != nil {
			return nil, err
		}
		if r.scratch {
			return report.Aggregate(r.dir)
		}
		fmt.Fprintln(a.stdout)
		return a.report(r.dir, "table")
	})
	var end *ending
	if errors.As(err, &end) && !end.code.complete() {
		return err
	}
	if n := c.differing(); n > 0 && (err == nil || end != nil) {
		hints := []string{"controller export " + quote(r.dir) + " shows every attempt"}
		if r.scratch {
			hints[0] = "controller survey --lab keeps the evidence"
		}
		return fail(exitFailure, fmt.Errorf("%d of %d verdicts differ from the truth", n, len(c.rows)), hints...)
	}
	return err
}

// scratchDir makes a directory that goes with this process, and removes those
// of processes that were killed.
func scratchDir() (string, error) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), "tfolab-*-*"))
	for _, dir := range left {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), "tfolab-%d-", &pid); err != nil {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); errors.Is(err, fs.ErrNotExist) {
			os.RemoveAll(dir)
		}
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("tfolab-%d-", os.Getpid()))
	if err != nil {
		return "", unwritable(os.TempDir(), err)
	}
	return dir, nil
}

func unprivileged(e *lab.PrivilegeError) *ending {
	text := "the lab needs " + strings.Join(e.Missing, ", ")
	if e.UserNS != nil {
		text += fmt.Sprintf(", and cannot enter a user namespace of its own: %v", e.UserNS)
	}
	return fail(exitPrivileges, errors.New(text), "run it as root",
		"or allow unprivileged user namespaces: sysctl -w user.max_user_namespaces=15000; "+
			"on Debian also kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0")
}

// choosePaths picks paths of the catalogue by name; nil is all of them.
func choosePaths(names []string) ([]lab.Path, error) {
	var chosen []lab.Path
	all := lab.Catalogue()
	for _, name := range names {
		i := slices.IndexFunc(all, func(p lab.Path) bool { return p.Name == name })
		if i < 0 {
			var known []string
			for _, p := range all {
				known = append(known, p.Name)
			}
			return nil, fail(exitUsage, fmt.Errorf("the lab has no path %q", name), "it has "+strings.Join(known, ", "))
		}
		if !slices.ContainsFunc(chosen, func(p lab.Path) bool { return p.Name == name }) {
			chosen = append(chosen, all[i])
		}
	}
	return chosen, nil
}
