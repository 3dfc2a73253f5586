package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"tfofleet/internal/report"
	"tfofleet/internal/report/aggregate"
	"tfofleet/internal/report/blame"
	"tfofleet/internal/report/html"
	"tfofleet/internal/report/matrix"
	"tfofleet/internal/report/origin"
)

// reportFlags are the flags of "controller report", as given.
type reportFlags struct {
	format       oneOf
	by           []string
	asnDBs       []string
	prefixes     prefixes
	suffixLabels int
	targets      bool
	blame        []string
	operator     operator
}

func (a *app) reportCommand() *cobra.Command {
	f := &reportFlags{}
	cmd := &cobra.Command{
		Use:   "report DIR|SURVEY...",
		Short: "Sum up datasets",
		Long: `Sum up one or several datasets: shares of verdicts with their 95 % confidence
interval, in groups, and who is to blame where several probes or repeats saw a
target. Beside every share of faults stands the noise, the share of targets
where plain failed and Fast Open worked: what is not above it is chance.

--by groups by one property or crosses two: ` + keyList() + `.
A survey of a fleet is named by its id; its dataset is fetched from the controller.
Of a mesh it shows the matrix of its probes, unless --by asks for groups. AS and country come from the files of --asn-db, a MaxMind database or text
with a prefix and an AS in each line.`,
		Example: `  controller report tfo-survey-20260131T120000Z
  controller report tfo-survey-20260131T120000Z --format json | jq .verdicts
  controller report mon/ tue/ wed/ --by probe,port --by as --asn-db GeoLite2-ASN.mmdb
  controller report tfo-survey-20260131T120000Z --format html > report.html
  controller report tfo-survey-20260131T120000Z --targets --blame path,target --format csv`,
		Args: someDirectories,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.operator.withDatasets(cmd.Context(), args, func(dirs []string) error {
				return a.results(func(w io.Writer) error { return a.reportDatasets(cmd, f, w, dirs) })
			})
		},
	}
	fs := cmd.Flags()
	addOneOf(cmd, &f.format, "format", "how the summary is written", append(report.Formats(), "html")...)
	fs.StringArrayVar(&f.by, "by", nil, "also group by `KEY` or KEY,KEY; repeatable")
	fs.StringArrayVar(&f.asnDBs, "asn-db", nil, "`FILE` that tells AS and country of addresses; repeatable")
	fs.Var(&f.prefixes, "prefix", "group by these blocks (--by prefix alone: by the prefixes of --asn-db if it is text, else by /24 and /48); repeatable")
	fs.IntVar(&f.suffixLabels, "suffix-labels", 0, "group by the last `N` labels of names (--by suffix alone: by their public suffix)")
	fs.BoolVar(&f.targets, "targets", false, "write every target with what was seen of it, in JSON lines or CSV")
	fs.StringSliceVar(&f.blame, "blame", nil, "with --targets: only those that `WHO` is to blame for: target, vantage, path, unknown")
	f.operator.addTo(cmd, false)
	completeWords(cmd, "by", words(aggregate.Keys())...)
	completeWords(cmd, "blame", words(blame.Sides())...)
	return cmd
}

// words is the names of a closed list.
func words[T any](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = fmt.Sprint(v)
	}
	return out
}

func keyList() string { return strings.Join(words(aggregate.Keys()), ", ") }

// someDirectories wants one dataset or more.
func someDirectories(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return nil
	}
	return fail(exitUsage, errors.New("no dataset given"), fmt.Sprintf("%s DIR, with the directory that a survey wrote", cmd.CommandPath()))
}

func (a *app) reportDatasets(cmd *cobra.Command, f *reportFlags, w io.Writer, dirs []string) error {
	q, err := f.query()
	if err != nil {
		return err
	}
	if f.targets && len(f.by) > 0 {
		return usage("--targets writes targets, not groups: leave out --by")
	}
	if f.targets {
		return reportTargets(cmd, f, q, w, dirs)
	}
	if len(f.blame) > 0 {
		return usage("--blame selects targets: give --targets")
	}
	if err := needDatasets(dirs); err != nil {
		return err
	}
	if f.format.value == "html" {
		return unreadableDataset(html.Write(cmd.Context(), w, html.Options{Query: q}, dirs...))
	}
	// Of a mesh it is the matrix, not the verdicts of its clients alone.
	if len(f.by) == 0 {
		m, err := meshOf(dirs)
		if err != nil {
			return err
		}
		if m != nil {
			return matrix.Render(w, m, f.format.value, report.OptionsFor(a.stdout))
		}
	}
	s, err := report.Summarize(cmd.Context(), q, dirs...)
	if err != nil {
		return unreadableDataset(err)
	}
	return report.Render(w, s, f.format.value, report.OptionsFor(a.stdout))
}

// meshOf is the matrix of datasets that are meshes, nil of those that are none.
func meshOf(dirs []string) (*matrix.Matrix, error) {
	meshes := 0
	for _, dir := range dirs {
		m, err := matrix.Collect(dir)
		if err != nil {
			return nil, unreadableDataset(err)
		}
		if m.Pairs > 0 {
			meshes++
		}
	}
	if meshes == 0 {
		return nil, nil
	}
	if meshes < len(dirs) {
		return nil, fail(exitUsage, errors.New("some of these datasets are meshes, some are not"), "report them apart, or together with --format html; with --by the measurements of both are counted")
	}
	if _, err := aggregate.Datasets(dirs...); err != nil {
		return nil, unreadableDataset(err)
	}
	m, err := matrix.Collect(dirs...)
	return m, unreadableDataset(err)
}

func reportTargets(cmd *cobra.Command, f *reportFlags, q report.Query, w io.Writer, dirs []string) error {
	format := "jsonl"
	switch {
	case f.format.value == "csv":
		format = "csv"
	case cmd.Flags().Changed("format") && f.format.value != "json":
		return usage("--targets writes json or csv, not %s", f.format.value)
	}
	for _, who := range f.blame {
		if !slices.Contains(words(blame.Sides()), who) {
			return fail(exitUsage, fmt.Errorf("--blame %s: nobody of that name", who), "want "+strings.Join(words(blame.Sides()), ", "))
		}
	}
	if err := needDatasets(dirs); err != nil {
		return err
	}
	return unreadableDataset(report.WriteTargets(cmd.Context(), w, q, format, f.blame, dirs...))
}

// query is what the flags ask for.
func (f *reportFlags) query() (report.Query, error) {
	q := report.Query{Prefixes: f.prefixes, SuffixLabels: f.suffixLabels}
	if f.suffixLabels < 0 {
		return q, usage("--suffix-labels %d is no number of labels", f.suffixLabels)
	}
	for _, word := range f.by {
		by, err := aggregate.ParseBy(word)
		if err != nil {
			return q, fail(exitUsage, fmt.Errorf("--by %s: %w", word, err), "want one of "+keyList()+", or two with a comma between")
		}
		for _, k := range by {
			if (k == aggregate.KeyAS || k == aggregate.KeyCountry) && len(f.asnDBs) == 0 {
				return q, fail(exitUsage, fmt.Errorf("--by %s: nothing tells that of an address", word), "give --asn-db FILE, a MaxMind database or text with prefix,asn in each line")
			}
		}
		q.By = append(q.By, by)
	}
	// Who says how to group wants to see it.
	if len(f.prefixes) > 0 {
		q.By = append(q.By, aggregate.By{aggregate.KeyPrefix})
	}
	if f.suffixLabels > 0 {
		q.By = append(q.By, aggregate.By{aggregate.KeySuffix})
	}
	if len(f.asnDBs) == 0 {
		return q, nil
	}
	var err error
	if q.Origin, err = origin.Open(f.asnDBs...); err != nil {
		return q, unreadable(err, "--asn-db takes a MaxMind database (.mmdb), or text with prefix,asn in each line")
	}
	for _, by := range q.By {
		if slices.Contains(by, aggregate.KeyCountry) && !q.Origin.Knows().Country || slices.Contains(by, aggregate.KeyAS) && !q.Origin.Knows().AS {
			return q, fail(exitUsage, fmt.Errorf("--by %s: no file of --asn-db tells that", by), "give a database that does: --asn-db can be repeated")
		}
	}
	// Who gives a file wants to see it.
	if q.Origin.Knows().AS {
		q.By = append(q.By, aggregate.By{aggregate.KeyAS})
	}
	if q.Origin.Knows().Country {
		q.By = append(q.By, aggregate.By{aggregate.KeyCountry})
	}
	return q, nil
}

// report sums up one dataset and writes the summary.
func (a *app) report(dir, format string) (*report.Summary, error) {
	s, err := report.Aggregate(dir)
	if err != nil {
		return nil, unreadableDataset(err)
	}
	return s, a.results(func(w io.Writer) error { return report.Render(w, s, format, report.OptionsFor(a.stdout)) })
}

// unreadableDataset is the ending for a dataset that could not be read to its
// end.
func unreadableDataset(err error) error {
	var path *fs.PathError
	var same *aggregate.SameSurvey
	var network net.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return noRoom()
	case errors.As(err, &same):
		return fail(exitUsage, err, "give it once: each measurement would count twice", "what differs between two datasets of one survey is told by: controller diff OLD NEW")
	case errors.Is(err, context.Canceled):
		return fail(exitInterrupted, errors.New("interrupted"))
	case errors.As(err, &network), errors.Is(err, fs.ErrPermission):
		return unreadable(err, hintReadable)
	case errors.As(err, &path) && errors.Is(err, fs.ErrNotExist):
		return unreadable(err, "the dataset changed while it was read: try again; a file that is gone for good can be taken from where the dataset was copied from")
	}
	return unreadable(err, "the file is damaged: take it from where the dataset was copied from, or remove it to report without it")
}
