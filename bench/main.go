// Command bench measures what the project promises about speed, as ratios
// within one run, and prints them. It judges nothing.
//
//	go run ./bench            all scenarios
//	go run ./bench engine     one of them
//
// It builds a lab (it needs what the lab needs: root, or user namespaces) and
// measures over the lab's direct link, against a server process of its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"time"

	"tfofleet/internal/lab"
)

// bench is what the scenarios share.
type bench struct {
	lab    *lab.Lab
	rounds int
	width  int // connections open at a time
	n      int // targets
}

// port is where the benchmarks' own server listens in the lab.
const port = 7413

func main() {
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		p, _ := strconv.Atoi(os.Args[2])
		if err := serve(p); err != nil {
			fmt.Fprintln(os.Stderr, "bench server:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	b := &bench{}
	flag.IntVar(&b.n, "targets", 10000, "targets per run")
	flag.IntVar(&b.rounds, "rounds", 5, "runs of each side, taken in turn")
	flag.IntVar(&b.width, "width", 256, "connections open at a time")
	flag.Parse()
	l, err := lab.New(ctx, lab.Config{Paths: []lab.Path{}})
	if err != nil {
		return err
	}
	defer l.Close()
	b.lab = l
	server, err := startServer(l.ServersNetNS())
	if err != nil {
		return err
	}
	defer server.stop()
	scenarios := []struct {
		name string
		run  func(context.Context) error
	}{{"engine", b.engine}, {"capture", b.capture}, {"survey", b.survey}}
	for _, s := range scenarios {
		if flag.NArg() == 0 || slices.Contains(flag.Args(), s.name) {
			if err := s.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

func (b *bench) targets() []netip.AddrPort {
	ts := make([]netip.AddrPort, b.n)
	for i := range ts {
		ts[i] = netip.AddrPortFrom(lab.DirectAddr4(1+i%(lab.DirectHosts-1)), port)
	}
	return ts
}

// inTurn runs every side once per round, in turn, so that a machine whose
// speed drifts drifts for all, and returns the fastest run of each in seconds.
// One round before the first is not counted. The fastest, because what slows a
// run on a shared machine is not the side under test.
func (b *bench) inTurn(sides ...func() (time.Duration, error)) ([]float64, error) {
	fastest := make([]float64, len(sides))
	for round := -1; round < b.rounds; round++ {
		for i, side := range sides {
			d, err := side()
			if err != nil {
				return nil, err
			}
			if t := d.Seconds(); round >= 0 && (fastest[i] == 0 || t < fastest[i]) {
				fastest[i] = t
			}
		}
	}
	return fastest, nil
}
