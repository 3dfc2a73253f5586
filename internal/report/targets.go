package report

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"

	"tfofleet/internal/report/aggregate"
)

// WriteTargets streams every target of the datasets in dirs with what all
// measurements say of it together, one per line: as a [Target] in JSON, or in
// CSV with one word "dataset/probe:verdict" per measurement, marked by "!" where
// the blame stands on it. Of one dataset they come in the order of its chunks.
// blames keeps those that one of these is to blame for; none keeps all.
func WriteTargets(ctx context.Context, w io.Writer, q Query, format string, blames []string, dirs ...string) error {
	names, err := aggregate.Datasets(dirs...)
	if err != nil {
		return err
	}
	write, flush := jsonTargets(w)
	if format == "csv" {
		write, flush = csvTargets(w)
	}
	err = aggregate.Judge(ctx, q, func(j *aggregate.Judged) error {
		if len(blames) > 0 && !slices.Contains(blames, j.Blame.String()) {
			return nil
		}
		t := target(j, names)
		return write(&t)
	}, dirs...)
	if err != nil {
		return err
	}
	return flush()
}

func jsonTargets(w io.Writer) (write func(*Target) error, flush func() error) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return func(t *Target) error { return e.Encode(t) }, func() error { return nil }
}

func csvTargets(w io.Writer) (write func(*Target) error, flush func() error) {
	c := csv.NewWriter(w)
	_ = c.Write([]string{"dataset", "item", "address", "port", "hostname", "stability", "blame", "verdict", "seen"})
	return func(t *Target) error {
			var seen []string
			for _, o := range t.Seen {
				word := o.Dataset + "/" + o.Probe + ":" + o.Verdict
				if o.Wrong {
					word += "!"
				}
				seen = append(seen, word)
			}
			return c.Write([]string{t.Dataset, strconv.FormatUint(t.Item, 10), t.Address, strconv.Itoa(int(t.Port)), t.Hostname, t.Stability, t.Blame, t.Verdict, strings.Join(seen, " ")})
		}, func() error {
			c.Flush()
			return c.Error()
		}
}
