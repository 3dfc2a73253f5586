// Command bench compares the attempt engine with a bare epoll loop that makes
// the same connections in the same run, and prints the ratios. It judges
// nothing. Run it as root:
//
//	go run ./bench
package main

import (
	"bufio"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		port, _ := strconv.Atoi(os.Args[2])
		if err := serve(port); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	n := flag.Int("targets", 10000, "targets")
	rounds := flag.Int("rounds", 5, "pairs of runs")
	width := flag.Int("width", 256, "connections open at a time")
	flag.Parse()
	stop := startServer(8080)
	defer stop()
	targets := make([]netip.AddrPort, *n)
	for i := range targets {
		targets[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1 + byte(i>>16), byte(i >> 8), byte(i)}), 8080)
	}
	payload := measure.PayloadFor(measure.PayloadHTTP, nil, measure.Target{Addr: targets[0].Addr(), Port: 8080})
	var ratios []float64
	for range *rounds {
		bare := bareLoop{payload: payload.Bytes, plain: []bool{true, false, false, false, true}, targets: targets, width: *width}
		bt := bare.run()
		et := engineRun(targets, *width)
		conns := float64(*n * 5)
		fmt.Printf("bare %.0f conn/s (%d responses)  ladder %.0f conn/s %.0f targets/s  ratio %.2f\n", conns/bt.Seconds(), bare.responses, conns/et.Seconds(), float64(*n)/et.Seconds(), bt.Seconds()/et.Seconds())
		ratios = append(ratios, bt.Seconds()/et.Seconds())
	}
	slices.Sort(ratios)
	fmt.Printf("median ratio %.2f\n", ratios[len(ratios)/2])
}

func startServer(port int) func() {
	cmd := exec.Command("/proc/self/exe", "serve", strconv.Itoa(port))
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	bufio.NewReader(out).ReadString('\n')
	return func() { in.Close(); cmd.Wait() }
}

func engineRun(targets []netip.AddrPort, width int) time.Duration {
	r, err := measure.NewRunner(measure.Settings{Plan: measure.Standard, Payload: measure.PayloadHTTP, Timeout: 5 * time.Second}, tfo.Config{Concurrency: width})
	if err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	wg.Add(len(targets))
	var mu sync.Mutex
	counts := map[string]int{}
	begin := time.Now()
	for i, ap := range targets {
		r.Submit(measure.Target{Item: uint64(i), Addr: ap.Addr(), Port: ap.Port()}, func(m measure.Measurement) {
			mu.Lock()
			counts[fmt.Sprint(m.Verdict, len(m.Attempts))]++
			mu.Unlock()
			wg.Done()
		})
	}
	wg.Wait()
	d := time.Since(begin)
	r.Stop()
	_ = counts
	return d
}
