package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tfofleet/internal/report"
)

// surveyFlags are the flags of "controller survey", as given.
type surveyFlags struct {
	targets     []string
	lab         bool
	ports       ports
	family      oneOf
	plan        oneOf
	out         string
	rate        float64
	concurrency uint32
	timeout     time.Duration
	hold        time.Duration
	payload     string
	blocklist   string
	allow       prefixes
	strict      bool
	seed        uint64
	resume      string
	format      oneOf
	quiet       bool
	resolver    string
	netns       string
	controller  string
	detach      bool
	probes      string
	maxPer      []string
	mode        string
}

func (a *app) surveyCommand() *cobra.Command {
	f := &surveyFlags{ports: ports{list: []uint16{443}}}
	cmd := &cobra.Command{
		Use:   "survey --targets FILE",
		Short: "Measure a list of targets from this machine, or by a fleet",
		Long: `Measure a list of targets from this machine, and keep the evidence. With
--controller the probes of a fleet share the list: each target is measured by
one of them, the controller keeps the dataset, and Ctrl-C only detaches.

A list has one target per line, in any mix of: host, host:port, [v6]:port, an
address, a CIDR block, "rank,domain" as Tranco has it, or a JSON object with ip,
addr or dip, port or dp, and domain. It may be compressed (gzip, zstd, zip).

The dataset goes to a directory of its own. Ctrl-C ends a survey in good order
and says how to resume it.`,
		Example: `  controller survey --lab
  controller survey --targets list.txt
  controller survey --targets tranco.csv.gz --port 443,80 --plan quick --rate 1000
  zcat list.gz | controller survey --targets - --format json > summary.json
  controller survey --resume tfo-survey-20260131T120000Z
  controller survey --targets list.txt --controller /var/lib/tfofleet/run/controller.sock`,
		Args: noList,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.survey(cmd, f) },
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&f.targets, "targets", nil, "`FILE` with targets, \"-\" for standard input; repeatable")
	fs.BoolVar(&f.lab, "lab", false, "survey an emulated internet on this machine and compare with its truth")
	fs.Var(&f.ports, "port", "ports for targets that name none; repeatable")
	addOneOf(cmd, &f.family, "family", "address family to measure", "any", "4", "6")
	addOneOf(cmd, &f.plan, "plan", "which attempts are made", "standard", "quick", "thorough")
	fs.StringVar(&f.out, "out", "", "`DIR` to make for the dataset (default tfo-survey-<UTC time>)")
	fs.Float64Var(&f.rate, "rate", 200, "new connections per second, with --controller of each probe; 0 for no limit")
	fs.Uint32Var(&f.concurrency, "concurrency", 512, "targets measured at the same time")
	fs.DurationVar(&f.timeout, "timeout", 5*time.Second, "patience with a handshake, and again with the response")
	fs.DurationVar(&f.hold, "hold", time.Second, "rest between measurements of one address")
	fs.StringVar(&f.payload, "payload", "auto", "what is offered to a target: auto, http, tls, dns, file:`PATH` or none")
	fs.StringVar(&f.blocklist, "blocklist", "", "`FILE` with blocks that must not be measured")
	fs.Var(&f.allow, "allow", "let a special-purpose block through, such as 10.0.0.0/8; repeatable")
	fs.BoolVar(&f.strict, "strict", false, "end at the first bad line of a list")
	fs.Uint64Var(&f.seed, "seed", 0, "seed of the order (default random, and recorded)")
	fs.StringVar(&f.resume, "resume", "", "go on with the survey in `DIR`")
	addOneOf(cmd, &f.format, "format", "how the summary is written", "table", "json")
	fs.BoolVar(&f.quiet, "quiet", false, "show no progress")
	fs.StringVar(&f.resolver, "resolver", "", "DNS server to ask, `ADDR` or ADDR:PORT (default from /etc/resolv.conf)")
	fs.StringVar(&f.netns, "netns", "", "network namespace to measure from, a `PATH` such as /run/netns/NAME")
	fs.StringVar(&f.controller, "controller", "", "have the probes of a fleet make the survey: the `SOCKET` of its controller, or an operator's file")
	fs.BoolVar(&f.detach, "detach", false, "with --controller: print the survey's id and leave")
	fs.StringVar(&f.probes, "probes", "", "with --controller: the probes that take part, `SELECTOR` of names and KEY=VALUE labels, such as region=fra,region=nyc (default all)")
	fs.StringArrayVar(&f.maxPer, "max-per", nil, "with --controller: at most N probes with the same value of a label, `LABEL=N`; repeatable")
	fs.StringVar(&f.mode, "mode", "shard", "with --controller: each target by one probe (shard), by `K` of them, or by every selected one (every), also by those that are not connected, which it waits for")
	completeWords(cmd, "mode", "shard", "every")
	completeWords(cmd, "payload", "auto", "http", "tls", "dns", "file:", "none")
	for _, name := range []string{"out", "resume"} {
		if err := cmd.MarkFlagDirname(name); err != nil {
			panic(err)
		}
	}
	return cmd
}

// noList refuses arguments: a list given as one is a mistake easily made.
func noList(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fail(exitUsage, fmt.Errorf("survey takes no argument, got %q", args[0]),
		fmt.Sprintf("for a list of targets: controller survey --targets %s", args[0]))
}

func (a *app) survey(cmd *cobra.Command, f *surveyFlags) error {
	if f.controller != "" {
		return a.surveyFleet(cmd, f)
	}
	if err := f.check(cmd); err != nil {
		return err
	}
	r := &surveyRun{quiet: f.quiet, out: f.out, dir: f.resume, again: a.resumeCommand(f)}
	var err error
	if r.limits, err = f.limits(); err != nil {
		return err
	}
	if f.resume != "" {
		began, err := recall(f.resume, f.lab)
		if err != nil {
			return err
		}
		r.limits = r.limits.join(began)
	}
	if r.site, err = r.limits.site(); err != nil {
		return err
	}
	if f.resume == "" {
		f.chooseSeed(cmd.Flags().Changed("seed"))
		if r.spec, err = f.spec(); err != nil {
			return err
		}
	}
	ctx := cmd.Context()
	if f.lab {
		return a.surveyLab(ctx, f, r)
	}
	if f.resume == "" {
		l, err := a.openLists(f)
		if err != nil {
			return err
		}
		defer l.close()
		r.name, r.read = l.name(), l.read
	}
	return a.conduct(ctx, r, func() (*report.Summary, error) { return a.report(r.dir, f.format.value) })
}

// frozen are the flags that a survey keeps for life.
var frozen = []string{"targets", "port", "family", "plan", "out", "rate", "concurrency", "timeout", "hold", "payload", "seed", "strict"}

// check refuses flags that contradict each other.
func (f *surveyFlags) check(cmd *cobra.Command) error {
	switch {
	case f.resume != "":
		for _, name := range frozen {
			if cmd.Flags().Changed(name) {
				return usage("--%s cannot be changed by --resume: the survey keeps what it began with", name)
			}
		}
	case f.lab && len(f.targets) > 0:
		return usage("--lab brings its own targets: leave out --targets")
	case !f.lab && len(f.targets) == 0:
		return fail(exitUsage, errors.New("no targets given"), "--targets FILE for a list, --lab for an emulated internet")
	}
	for _, name := range []string{"probes", "max-per", "mode"} {
		if cmd.Flags().Changed(name) {
			return usage("--%s is for a survey that a fleet makes: give --controller SOCKET", name)
		}
	}
	if f.detach {
		return usage("--detach is for a survey that a fleet makes: give --controller SOCKET")
	}
	if f.lab && (f.netns != "" || f.resolver != "") {
		return usage("--lab brings its own network: leave out --netns and --resolver")
	}
	return nil
}

// resumeCommand is the command that goes on with the survey, but for the
// directory, where its limits are kept.
func (a *app) resumeCommand(f *surveyFlags) string {
	if f.lab {
		return a.program + " survey --lab"
	}
	return a.program + " survey"
}

// quote makes a word fit for a shell.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:+=@%,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
