// Command bench measures what the project promises about speed, as ratios
// within one run, and prints them. It judges nothing.
//
//	go run ./bench            all scenarios
//	go run ./bench engine     one of them
//
// Scenarios of the engine build a lab (they need what the lab needs: root, or
// user namespaces) and measure over the lab's direct link, against a server
// process of its own. Those of a fleet need no privileges: they run a controller
// process, and simulated probes in this one, over TLS on the loopback. Without
// flags they are small; these are the sizes of what is promised:
//
//	go run ./bench -probes 1000 -heartbeat 10s -steady 2m -hold 2m fleet reconnect
//	go run ./bench -probes 1000 -heartbeat 10s -targets 2000000 ingest
//	go run ./bench -heartbeat 10s -targets 10000000 tenmillion
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
	server *server
	rounds int
	width  int // connections open at a time
	n      int // targets; 0: as many as a scenario takes by itself

	probes       int // of the fleet
	heartbeat    time.Duration
	steady, hold time.Duration
	profile      string // directory for profiles of the controller
	dir          string // for all that fleets leave
	fleet        *fleet // nil until a scenario needs it
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
	flag.IntVar(&b.n, "targets", 0, "targets per run (default 10000; of a fleet's surveys what takes some seconds)")
	flag.IntVar(&b.rounds, "rounds", 5, "runs of each side, taken in turn")
	flag.IntVar(&b.width, "width", 256, "connections open at a time")
	flag.IntVar(&b.probes, "probes", 50, "probes of the fleet")
	flag.DurationVar(&b.heartbeat, "heartbeat", 2*time.Second, "how often a probe of the fleet is heard of")
	flag.DurationVar(&b.steady, "steady", 0, "how long the fleet's heartbeats are watched (default as long as two of them take)")
	flag.DurationVar(&b.hold, "hold", time.Second, "how long leases are held after the controller is back")
	flag.StringVar(&b.profile, "profile", "", "`DIR` for profiles of the controller's processor time")
	flag.Parse()
	defer b.close()
	scenarios := []struct {
		name string
		lab  bool // it needs one
		run  func(context.Context) error
	}{
		{"engine", true, b.engine}, {"capture", true, b.capture}, {"listener", true, b.listener}, {"survey", true, b.survey},
		{"fleet", false, b.fleetUp}, {"ingest", false, b.ingest}, {"reconnect", false, b.reconnect}, {"tenmillion", false, b.tenMillion},
	}
	for _, s := range scenarios {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), s.name) {
			continue
		}
		if s.lab {
			if err := b.needLab(ctx); err != nil {
				return err
			}
		}
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// needLab builds the lab and starts the server in it, once.
func (b *bench) needLab(ctx context.Context) error {
	if b.lab != nil {
		return nil
	}
	l, err := lab.New(ctx, lab.Config{Paths: []lab.Path{}})
	if err != nil {
		return err
	}
	b.lab = l
	b.server, err = startServer(l.ServersNetNS())
	return err
}

func (b *bench) close() {
	if b.fleet != nil {
		b.fleet.close()
	}
	if b.server != nil {
		b.server.stop()
	}
	if b.lab != nil {
		b.lab.Close()
	}
	if b.dir != "" {
		os.RemoveAll(b.dir)
	}
}

// some is how many targets a scenario takes.
func (b *bench) some(unless int) int {
	if b.n > 0 {
		return b.n
	}
	return unless
}

func (b *bench) targets() []netip.AddrPort {
	ts := make([]netip.AddrPort, b.some(10_000))
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
