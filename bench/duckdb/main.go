// Command duckdb compares our aggregation with DuckDB's over the same files, on
// the same processors, and prints both and their ratio. It judges nothing.
//
//	cd bench/duckdb && go run .
//
// It is a module of its own, for DuckDB is a large library in C++ that the
// product must not need. Each side runs in a process of its own; times are of
// the counting alone, memory is the most the process had.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"tfofleet/internal/report/simulate"
)

// result is what a side found and how long it took.
type result struct {
	Seconds map[string]float64           // by question, by the clock
	CPU     map[string]float64           // the same in processor time, which says more on a busy machine
	Counts  map[string]map[string]uint64 // by question, "key verdict" to count
}

// asns is the file beside the datasets that tells AS of prefixes.
const asns = "asn.csv"

func main() {
	if len(os.Args) == 4 && os.Args[1] == "side" {
		if err := side(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := flag.String("dir", filepath.Join(os.TempDir(), "tfofleet-bench-duckdb"), "where datasets are made, and kept for the next time")
	targets := flag.Int("targets", 1_000_000, "targets")
	probes := flag.Int("probes", 10, "probes, each of which measures every target")
	rounds := flag.Int("rounds", 3, "runs of each side, in turn; the fastest counts")
	seed := flag.Uint64("seed", 1, "of the dataset")
	flag.Parse()
	set, err := generate(*dir, &simulate.Fleet{
		Seed: *seed, Targets: *targets, Probes: *probes, Attempts: true, BadTargets: 3000, BadPaths: 1000, Inconclusive: 2000, Transient: 2000,
		Broken: map[int]simulate.Box{1: simulate.DropsData},
	})
	if err != nil {
		return err
	}
	best := map[string]result{}
	memory := map[string]int64{}
	for range *rounds {
		for _, name := range []string{"ours", "duckdb"} {
			r, kib, err := timed(name, set)
			if err != nil {
				return err
			}
			memory[name] = max(memory[name], kib)
			if b, ok := best[name]; ok {
				for q := range b.Seconds {
					r.Seconds[q] = min(r.Seconds[q], b.Seconds[q])
					r.CPU[q] = min(r.CPU[q], b.CPU[q])
				}
			}
			best[name] = r
		}
	}
	print(best, memory, *targets**probes)
	return agree(best)
}

func print(best map[string]result, memory map[string]int64, n int) {
	fmt.Printf("%d measurements, %d processors\n\n", n, runtime.NumCPU())
	for _, name := range []string{"ours", "duckdb"} {
		for _, q := range slices.Sorted(maps.Keys(best[name].Seconds)) {
			s := best[name].Seconds[q]
			fmt.Printf("%-7s %-26s %8.3f s  %6.2f M/s  %8.3f s of processor\n", name, q, s, float64(n)/s/1e6, best[name].CPU[q])
		}
		fmt.Printf("%-7s %-26s %8.0f MB\n", name, "memory, at most", float64(memory[name])/1024)
	}
	ratio := func(of func(result) map[string]float64) float64 {
		d := of(best["duckdb"])
		return min(d[fourQueries], d[oneQuery]) / of(best["ours"])[wholeReport]
	}
	fmt.Printf("\nDuckDB's time over ours: %.2f; in processor time %.2f\n",
		ratio(func(r result) map[string]float64 { return r.Seconds }), ratio(func(r result) map[string]float64 { return r.CPU }))
}

// stopwatch takes the time of a question.
type stopwatch struct {
	clock time.Time
	cpu   float64
}

func start() stopwatch { return stopwatch{time.Now(), processor()} }

func (w stopwatch) stop(r *result, question string) {
	r.Seconds[question], r.CPU[question] = time.Since(w.clock).Seconds(), processor()-w.cpu
}

// processor is the processor time of this process in seconds.
func processor() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // of itself a process may always ask
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// agree holds the counts of both sides together.
func agree(best map[string]result) error {
	for q, want := range best["duckdb"].Counts {
		if got := best["ours"].Counts[q]; !maps.Equal(got, want) {
			return fmt.Errorf("by %s we count %v, DuckDB %v", q, got, want)
		}
	}
	fmt.Printf("\nall counts agree: by %v\n", slices.Sorted(maps.Keys(best["duckdb"].Counts)))
	return nil
}

// generate makes the dataset unless it is there.
func generate(dir string, f *simulate.Fleet) (string, error) {
	set := filepath.Join(dir, fmt.Sprintf("%d-%dx%d", f.Seed, f.Targets, f.Probes))
	if _, err := os.Stat(filepath.Join(set, asns)); err == nil {
		return set, nil
	}
	began := time.Now()
	if err := os.RemoveAll(set); err != nil {
		return "", err
	}
	if err := f.Write(set); err != nil {
		return "", err
	}
	// The file comes last: it says that the dataset is whole.
	var b bytes.Buffer
	if err := simulate.WriteASNs(&b); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "made %s in %v\n", set, time.Since(began).Round(time.Second))
	return set, os.WriteFile(filepath.Join(set, asns), b.Bytes(), 0o644)
}

// timed runs one side in a process of its own; memory is in KiB.
func timed(name, set string) (r result, memory int64, err error) {
	exe, err := os.Executable()
	if err != nil {
		return r, 0, err
	}
	cmd := exec.Command(exe, "side", name, set)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, 0, fmt.Errorf("%s: %w", name, err)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return r, usage.Maxrss, json.Unmarshal(out, &r)
}

func side(name, set string) error {
	f := ours
	if name == "duckdb" {
		f = theirs
	}
	r, err := f(context.Background(), set)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
