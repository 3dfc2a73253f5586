package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
)

// survey compares the whole main job, from the list to the durable dataset and
// the summary, with the bare loop over the same connections. It runs the real
// command, start and end included.
func (b *bench) survey(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	controller := filepath.Join(dir, "controller")
	if out, err := exec.Command("go", "build", "-o", controller, "./cmd/controller").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	targets := b.targets()
	payload := b.payload(targets[0]).Bytes
	list := filepath.Join(dir, "list.txt")
	var lines []byte
	for _, t := range targets {
		lines = fmt.Appendln(lines, t)
	}
	if err := os.WriteFile(list, lines, 0o600); err != nil {
		return err
	}
	run := 0
	command := func(list string) (string, time.Duration, error) {
		run++
		out := filepath.Join(dir, strconv.Itoa(run))
		cmd := exec.CommandContext(ctx, controller, "survey", "--targets", list, "--netns", b.lab.ClientNetNS(), "--allow", "198.18.0.0/15",
			"--payload", "http", "--rate", "0", "--concurrency", strconv.Itoa(b.width), "--out", out, "--quiet", "--format", "json")
		begin := time.Now()
		text, err := cmd.CombinedOutput()
		d := time.Since(begin)
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, text)
		}
		return out, d, err
	}
	whole := time.Duration(0) // the fastest run with its stragglers
	surveyed := func() (time.Duration, error) {
		out, d, err := command(list)
		if err != nil {
			return d, err
		}
		if _, err := supported(out, len(targets)); err != nil {
			return d, err
		}
		tail, err := stragglers(out)
		if whole == 0 || d < whole {
			whole = d
		}
		return d - tail, err
	}
	bare := func(loops int) func() (time.Duration, error) {
		return func() (time.Duration, error) { return bareRun(b.lab.ClientNetNS(), targets, payload, loops, b.width) }
	}
	t, err := b.inTurn(bare(1), bare(2), surveyed)
	if err != nil {
		return err
	}
	n := float64(len(targets))
	fmt.Printf("survey: %.0f targets/s from list to durable dataset (%.0f with the last 0.1 %% of the targets, see stragglers); bare loop, same connections, %.0f targets/s on one thread, %.0f on two; ratio %.2f to one thread, %.2f to the faster\n",
		n/t[2], n/whole.Seconds(), n/t[0], n/t[1], t[0]/t[2], min(t[0], t[1])/t[2])
	return b.tail(dir, command)
}

// tail is what a survey of one target takes beyond its connections.
func (b *bench) tail(dir string, command func(string) (string, time.Duration, error)) error {
	one := filepath.Join(dir, "one.txt")
	if err := os.WriteFile(one, fmt.Appendln(nil, b.targets()[0]), 0o600); err != nil {
		return err
	}
	var connections time.Duration
	t, err := b.inTurn(func() (time.Duration, error) {
		out, d, err := command(one)
		if err != nil {
			return d, err
		}
		connections, err = supported(out, 1)
		return d - connections, err
	})
	if err != nil {
		return err
	}
	fmt.Printf("survey: one target takes %.3f s beyond its connections (%v), the start of the program included\n", t[0], connections.Round(time.Microsecond))
	return nil
}

// stragglers is how long a survey waited for the last 0.1 % of its targets. The
// response of a server that answers before the handshake is over can overtake
// its SYN-ACK between the receive queues of two processors; the client's kernel
// drops it, and it comes again after 3 s. A veth pair has no flow steering, so
// that befalls some ten of 50,000 connections, and 3 s are more than the rest
// of the run.
func stragglers(dir string) (time.Duration, error) {
	var ends []time.Time
	for r, err := range dataset.Read(dir) {
		if err != nil {
			return 0, err
		}
		ends = append(ends, r.Started.Add(r.Duration))
	}
	slices.SortFunc(ends, time.Time.Compare)
	return ends[len(ends)-1].Sub(ends[len(ends)*999/1000-1]), nil
}

// supported checks that a dataset holds n healthy targets, and returns how long
// the longest measurement took.
func supported(dir string, n int) (longest time.Duration, err error) {
	for r, err := range dataset.Read(dir) {
		if err != nil {
			return 0, err
		}
		if r.Verdict == measure.Supported {
			n--
		}
		longest = max(longest, r.Duration)
	}
	if n != 0 {
		return 0, fmt.Errorf("%d healthy targets are not supported", n)
	}
	return longest, nil
}
